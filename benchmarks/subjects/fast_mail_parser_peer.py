"""imaplib, with fast-mail-parser (Rust) for the text: what a fetch in bulk and the fastest parser give together."""

from __future__ import annotations

import imaplib
import importlib
import re
from importlib.metadata import version
from typing import Any, Final

from benchmarks.job import Job, batches
from benchmarks.meter import Meter
from benchmarks.tally import Tally

parser: Any = importlib.import_module("fast_mail_parser")

VERSION: Final = version("fast-mail-parser")
_UID: Final = re.compile(rb"UID (\d+)")


def run(job: Job, tally: Tally, meter: Meter) -> None:
    context = job.ssl_context()
    client = (
        imaplib.IMAP4(job.host, job.port)
        if context is None
        else imaplib.IMAP4_SSL(job.host, job.port, ssl_context=context)
    )
    client.login(job.user, job.password)
    client.select("INBOX", readonly=True)
    for uids in batches(job):
        for answer in client.uid("FETCH", uids, job.items)[1]:
            if isinstance(answer, tuple):
                match = _UID.search(answer[0])
                if match is None:
                    raise RuntimeError("a message without UID")
                tally.text(int(match[1]), "\n".join(parser.parse_email(answer[1]).text_plain))
    meter.stop()
    client.logout()
