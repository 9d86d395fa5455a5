"""imap_tools: `flag` and `move` with chunks."""

from __future__ import annotations

import importlib
from typing import Any, Final

from benchmarks.job import KEYWORD, TARGET, Job
from benchmarks.meter import Meter
from benchmarks.tally import Tally

imap_tools: Any = importlib.import_module("imap_tools")

VERSION: Final = str(imap_tools.__version__)


def run(job: Job, tally: Tally, meter: Meter) -> None:
    mailbox = imap_tools.MailBoxUnencrypted(job.host, job.port)
    mailbox.login(job.user, job.password, initial_folder="INBOX")
    uids = mailbox.uids("ALL")
    if job.work == "moves":
        mailbox.move(uids, TARGET, chunks=job.batch)
    else:
        mailbox.flag(uids, [KEYWORD], True, chunks=job.batch)
    meter.stop()
    tally.count = len(uids)
    mailbox.logout()
