"""mbsync (isync): a copy of the mailbox into a new Maildir, which is what it is for.

Options: `fsync` = "yes" or "no", which is how it runs unless told.

It writes every message to disk, so its work is more than that of the others. Its processor time and memory are those
of its process, its peak is looked up while it runs.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.job import Job
from benchmarks.meter import Meter
from benchmarks.program import measure_program
from benchmarks.tally import Tally


def _version() -> str:
    text = subprocess.run(["mbsync", "--version"], capture_output=True, text=True, check=True).stdout
    return text.split()[-1]


VERSION: Final = _version()
_MARK: Final = re.compile(rb"^X-TUID: .{12}\r\n", re.MULTILINE)  # a line that it adds to every copy
_CONFIGURATION: Final = """
IMAPStore remote
Host {job.host}
Port {job.port}
User {job.user}
Pass {job.password}
SSLType None

MaildirStore local
Path {folder}/
Inbox {folder}/INBOX

Channel all
Far :remote:
Near :local:
Patterns INBOX
Sync Pull New
Create Near
CopyArrivalDate no
SyncState *
"""


def run(job: Job, tally: Tally, meter: Meter) -> None:
    with tempfile.TemporaryDirectory(prefix="mbsync-") as folder:
        configuration = Path(folder, "mbsyncrc")
        configuration.write_text(
            f"FSync {job.options.get('fsync', 'no')}\n" + _CONFIGURATION.format(job=job, folder=folder)
        )
        measure_program(["mbsync", "-q", "-c", str(configuration), "all"], folder, meter)
        for path in Path(folder, "INBOX").glob("[cn]*/*"):
            # A Maildir has LF, and the UID in the name: ",U=17:2,S".
            uid = int(path.name.split(",U=")[1].split(":")[0].split(",")[0])
            content = path.read_bytes().replace(b"\n", b"\r\n")
            tally.content(uid, _MARK.sub(b"", content, count=1))
