"""imap_tools: `fetch` in bulk, without setting `\\Seen`.

It cannot ask for ENVELOPE nor for flags alone: metadata and every field are read from the whole header that it asks for
instead, and flags alone are not measured.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any, Final

from benchmarks.job import Job
from benchmarks.meter import Meter
from benchmarks.tally import Person, Tally

imap_tools: Any = importlib.import_module("imap_tools")

VERSION: Final = str(imap_tools.__version__)


class _Message(imap_tools.MailMessage):  # type: ignore[misc]  # its class is chosen at run time
    """Keeps the bytes that were received, which the library parses and drops."""

    def __init__(self, fetch_data: list[Any]) -> None:
        super().__init__(fetch_data)
        self.received: bytes = self._get_message_data_parts(fetch_data)[0]


message_class = _Message


def run(job: Job, tally: Tally, meter: Meter) -> None:
    context = job.ssl_context()
    if context is None:
        mailbox = imap_tools.MailBoxUnencrypted(job.host, job.port)
    else:
        mailbox = imap_tools.MailBox(job.host, job.port, ssl_context=context)
    mailbox.email_message_class = _Message
    mailbox.login(job.user, job.password, initial_folder=None)
    mailbox.folder.set("INBOX", readonly=True)
    if job.work == "search":
        for _ in range(int(job.options["searches"])):
            tally.found(int(uid) for uid in mailbox.uids(job.options["search"], charset=None))
    else:
        whole = job.work in {"bodies", "large", "text"}
        for message in mailbox.fetch("ALL", charset=None, mark_seen=False, headers_only=not whole, bulk=job.batch):
            _read(job.work, message, tally)
    meter.stop()
    mailbox.logout()


def _read(work: str, message: _Message, tally: Tally) -> None:
    if work == "metadata":
        tally.metadata(int(message.uid), message.flags, message.size_rfc822)
    elif work == "fields":
        tally.fields(
            (int(message.uid), message.flags, message.size_rfc822),
            message.date.timestamp(),
            message.subject,
            ([Person(message.from_values.name, message.from_values.email)], _people(message.to_values),
             _people(message.cc_values)),
            _people(message.reply_to_values),
            _people(message.bcc_values),
        )  # fmt: skip
    elif work == "text":
        tally.text(int(message.uid), message.text)
    else:
        tally.content(int(message.uid), message.received)


def _people(values: Iterable[Any]) -> list[Person]:
    return [Person(value.name, value.email) for value in values]
