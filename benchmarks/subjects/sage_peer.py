"""Python Sage IMAP: its batched iterator, told to parse nothing.

It asks for no sizes and drops keywords from the flags, so it has entries for headers, bodies and search only.
"""

from __future__ import annotations

import imaplib
import importlib
from importlib.metadata import version
from typing import Any, Final

from benchmarks.job import Job
from benchmarks.meter import Meter
from benchmarks.tally import Tally

sage_imap: Any = importlib.import_module("sage_imap")
_enums: Any = importlib.import_module("sage_imap.helpers.enums")
_parse_mode: Any = importlib.import_module("sage_imap.helpers.parse_mode")

VERSION: Final = version("python-sage-imap")

# It starts TLS wherever imaplib can; the others talk in plain text here, so it shall too.
del imaplib.IMAP4.starttls


def run(job: Job, tally: Tally, meter: Meter) -> None:
    session = sage_imap.IMAPSession(job.host, job.user, job.password, port=job.port, use_ssl=False)
    session.connect()
    session.select("INBOX")
    if job.work == "search":
        for _ in range(int(job.options["searches"])):
            found = session.search(job.options["search"], charset=None)
            tally.found(int(uid) for uid in found.affected_messages)
    else:
        uids = session.search("ALL", charset=None).to_uid_message_set("INBOX")
        parts = _enums.MessagePart
        part = parts.BODY_PEEK_HEADER if job.work == "headers" else parts.BODY_PEEK
        for message in session.mailbox.iter_uid_fetch(
            uids, part, parse_mode=_parse_mode.ParseMode.RAW, batch_size=job.batch
        ):
            tally.content(message.uid, message.raw)
    meter.stop()
    session.close()
