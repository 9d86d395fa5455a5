"""Sinks: where the messages of a run go, made safe before they count.

    report = await job.fetch("full").run(sinks.Maildir("mail/"))

Each is a `imapipe.Sink`, and a value: it may be used in one run after another, but not in two at a time. What all of
them hold to:

- A message is done when the file that holds it survives a loss of power (`durable=False` relaxes that to the death of
  the process).
- After `kill -9` at any moment there is no half message under a final name, and running again leaves no double: a sink
  recognises what it has written, by name or by its own record.
- What an earlier run left unfinished is cleaned up when the next one begins.
- A full or read-only disk ends the run with `SinkError`; what was not made safe does not count as done.
"""

from __future__ import annotations

from imapipe.sinks.account import Account, Folders, Labels
from imapipe.sinks.attachments import Attachments
from imapipe.sinks.comparison import CopyDifferences, FolderDifferences, MissingMessage
from imapipe.sinks.eml_folder import EmlFolder
from imapipe.sinks.folder_map import Folder, FolderMap
from imapipe.sinks.json_lines import JsonLines
from imapipe.sinks.maildir import Maildir
from imapipe.sinks.mbox import Mbox
from imapipe.sinks.parquet import Parquet
from imapipe.sinks.sqlite import Sqlite
from imapipe.sinks.survey import Target, map_folders
from imapipe.sinks.tee import Tee
from imapipe.sinks.verification import verify_copy

__all__ = [
    "Account",
    "Attachments",
    "CopyDifferences",
    "EmlFolder",
    "Folder",
    "FolderDifferences",
    "FolderMap",
    "Folders",
    "JsonLines",
    "Labels",
    "Maildir",
    "Mbox",
    "MissingMessage",
    "Parquet",
    "Sqlite",
    "Target",
    "Tee",
    "map_folders",
    "verify_copy",
]
