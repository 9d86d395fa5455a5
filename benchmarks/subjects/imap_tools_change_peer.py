"""imap_tools: `flag` and `move` with chunks, also after headers were handled; `append` for each new message."""

from __future__ import annotations

import importlib
from typing import Any, Final

from benchmarks.job import KEYWORD, TARGET, Job
from benchmarks.letters import letters, read_header
from benchmarks.meter import Meter
from benchmarks.tally import Tally

imap_tools: Any = importlib.import_module("imap_tools")

VERSION: Final = str(imap_tools.__version__)


def run(job: Job, tally: Tally, meter: Meter) -> None:
    new = letters(job)
    if new:
        # To make them is no part of it.
        meter.start()
    mailbox = imap_tools.MailBoxUnencrypted(job.host, job.port)
    mailbox.login(job.user, job.password, initial_folder="INBOX")
    if new:
        for letter in new:
            mailbox.append(letter, TARGET)
        meter.stop()
        tally.count = len(new)
        mailbox.logout()
        return
    uids = mailbox.uids("ALL")
    if job.work == "on-done":
        handled: list[str] = []
        for message in mailbox.fetch("ALL", mark_seen=False, headers_only=True, bulk=job.batch):
            read_header(int(message.uid), message.obj.as_bytes())
            handled.append(message.uid)
            if len(handled) == job.batch:
                mailbox.move(handled, TARGET)
                handled.clear()
        mailbox.move(handled, TARGET)
    elif job.work == "moves":
        mailbox.move(uids, TARGET, chunks=job.batch)
    else:
        mailbox.flag(uids, [KEYWORD], True, chunks=job.batch)
    meter.stop()
    tally.count = len(uids)
    mailbox.logout()
