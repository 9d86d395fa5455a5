"""imaplib of the standard library: one command for each batch, its answers taken apart with one expression.

It has no parser for ENVELOPE: its metadata is read from what stands before, and it has no entry for every field.
"""

from __future__ import annotations

import imaplib
import re
import sys
from typing import Final

from benchmarks.job import Job, batches
from benchmarks.meter import Meter
from benchmarks.tally import Tally

VERSION: Final = sys.version.split(maxsplit=1)[0]

# imaplib refuses lines of a million bytes, as the answer to SEARCH ALL is at 150,000 messages; callers raise this.
imaplib._MAXLINE = 50_000_000  # type: ignore[attr-defined]

_MESSAGE = re.compile(rb"\d+ \(UID (\d+) FLAGS \(([^)]*)\)(?: INTERNALDATE \"[^\"]*\" RFC822.SIZE (\d+))?")


def run(job: Job, tally: Tally, meter: Meter) -> None:
    client = imaplib.IMAP4(job.host, job.port)
    client.login(job.user, job.password)
    client.select("INBOX", readonly=True)
    if job.work == "search":
        for _ in range(int(job.options["searches"])):
            tally.found(_search(client, job.options["search"]))
    else:
        # Planned from what the search gives; the UIDs of a benchmark have no holes, so ranges say the same.
        if len(_search(client, "ALL")) != job.count:
            raise RuntimeError("SEARCH ALL does not show every message")
        for uids in batches(job):
            _, answers = client.uid("FETCH", uids, job.items)
            _read(job.work, answers, tally)
    meter.stop()
    client.logout()


def _search(client: imaplib.IMAP4, criteria: str) -> list[int]:
    _, answers = client.uid("SEARCH", criteria)
    return [int(uid) for uid in answers[0].split()]


def _read(work: str, answers: list[bytes | tuple[bytes, bytes] | None], tally: Tally) -> None:
    for answer in answers:
        text = answer[0] if isinstance(answer, tuple) else answer or b""
        match = _MESSAGE.match(text)
        if match is None:
            continue  # the rest of a message with literals
        if work in {"metadata", "flags"}:
            flags = match[2].decode().split()
            if work == "metadata":
                tally.metadata(int(match[1]), flags, int(match[3]))
            else:
                tally.flags(int(match[1]), flags)
        elif isinstance(answer, tuple):
            tally.content(int(match[1]), answer[1])
