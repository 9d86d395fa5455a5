"""imap_tools from one account into another: `fetch` in bulk, and an `append` for each message, which is all it has.

It knows no INTERNALDATE: the copies have arrived when the header says.
"""

from __future__ import annotations

from typing import Any, Final

from benchmarks.copies import read_back, target_of
from benchmarks.job import Job
from benchmarks.meter import Meter
from benchmarks.subjects import imap_tools_peer
from benchmarks.tally import Tally

imap_tools: Any = imap_tools_peer.imap_tools

VERSION: Final = imap_tools_peer.VERSION


def run(job: Job, tally: Tally, meter: Meter) -> None:
    old, new = _mailbox(job, job.user), _mailbox(job, target_of(job))
    old.folder.set("INBOX", readonly=True)
    for message in old.fetch("ALL", charset=None, mark_seen=False, bulk=job.batch):
        flags = [flag for flag in message.flags if flag != "\\Recent"]
        new.append(message.received, "INBOX", dt=message.date, flag_set=flags)
    meter.stop()
    old.logout()
    new.logout()
    read_back(job, tally)


def _mailbox(job: Job, user: str) -> Any:  # noqa: ANN401 - its types are not known
    mailbox = imap_tools.MailBoxUnencrypted(job.host, job.port)
    mailbox.email_message_class = imap_tools_peer.message_class
    mailbox.login(user, job.password, initial_folder=None)
    return mailbox
