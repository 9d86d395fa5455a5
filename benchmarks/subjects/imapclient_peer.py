"""IMAPClient: one command for each batch; its own parser of ENVELOPE, the standard library for encoded words."""

from __future__ import annotations

import imaplib
import importlib
from collections.abc import Iterable
from email.header import decode_header, make_header
from typing import Any, Final

from benchmarks.job import Job
from benchmarks.meter import Meter
from benchmarks.tally import Person, Tally

imapclient: Any = importlib.import_module("imapclient")

VERSION: Final = str(imapclient.__version__)

# It reads with imaplib, which refuses lines of a million bytes unless told: see `imaplib_peer`.
imaplib._MAXLINE = 50_000_000  # type: ignore[attr-defined]


def run(job: Job, tally: Tally, meter: Meter) -> None:
    client = imapclient.IMAPClient(job.host, port=job.port, ssl=False)
    client.normalise_times = False
    client.login(job.user, job.password)
    client.select_folder("INBOX", readonly=True)
    if job.work == "search":
        for _ in range(int(job.options["searches"])):
            tally.found(client.search(job.options["search"]))
    else:
        uids = client.search("ALL")
        items = job.items.strip("()").removeprefix("UID ").split()
        for first in range(0, len(uids), job.batch):
            _read(job.work, client.fetch(uids[first : first + job.batch], items), tally)
    meter.stop()
    client.logout()


def _read(work: str, found: dict[int, dict[bytes, Any]], tally: Tally) -> None:
    if work == "metadata":
        for uid, data in found.items():
            tally.metadata(uid, _flags(data), data[b"RFC822.SIZE"])
    elif work == "fields":
        for uid, data in found.items():
            _read_fields(uid, data, tally)
    elif work == "flags":
        for uid, data in found.items():
            tally.flags(uid, _flags(data))
    else:
        key = b"BODY[HEADER]" if work == "headers" else b"BODY[]"
        for uid, data in found.items():
            tally.content(uid, data[key])


def _read_fields(uid: int, data: dict[bytes, Any], tally: Tally) -> None:
    envelope = data[b"ENVELOPE"]
    tally.fields(
        (uid, _flags(data), data[b"RFC822.SIZE"]),
        envelope.date.timestamp(),
        _decode(envelope.subject),
        (_people(envelope.from_), _people(envelope.to), _people(envelope.cc)),
        _people(envelope.sender),
        _people(envelope.reply_to),
        _people(envelope.bcc),
        data[b"INTERNALDATE"],
        envelope.in_reply_to,
        envelope.message_id,
    )


def _people(group: Iterable[Any] | None) -> list[Person]:
    return [
        Person(_decode(address.name), f"{address.mailbox.decode()}@{address.host.decode()}") for address in group or ()
    ]


def _flags(data: dict[bytes, Any]) -> Iterable[str]:
    return [flag.decode() for flag in data[b"FLAGS"]]


def _decode(value: bytes | None) -> str:
    text = (value or b"").decode("utf-8", "replace")
    return str(make_header(decode_header(text))) if "=?" in text else text
