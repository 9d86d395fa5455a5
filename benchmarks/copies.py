"""What subjects that copy into another account have in common: which one, and what arrived there.

What arrived is read after the clock has stopped, by the standard library, and told apart by its content: whatever
UIDs the copies have, they count as the messages that they are copies of.
"""

from __future__ import annotations

import hashlib
import imaplib
import re
from collections.abc import Iterator
from typing import Final

from benchmarks.job import Job
from benchmarks.tally import Tally

_BATCH: Final = 100
_UID: Final = re.compile(rb"UID (\d+)")
# A line that mbsync adds where a server does not tell the UID of what was appended.
_MARK: Final = re.compile(rb"^X-TUID: .{12}\r\n", re.MULTILINE)


def target_of(job: Job) -> str:
    """The user to copy to; its password is that of all."""
    return job.options["target"]


def read_back(job: Job, tally: Tally) -> None:
    """Tally what arrived, as the messages that it is copies of."""
    uids = {_digest(body): uid for uid, body in _messages(job, job.user)}
    for _, body in _messages(job, target_of(job)):
        content = _MARK.sub(b"", body, count=1)
        tally.content(uids.get(_digest(content), 0), content)


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


def _messages(job: Job, user: str) -> Iterator[tuple[int, bytes]]:
    client = imaplib.IMAP4(job.host, job.port)
    client.login(user, job.password)
    _, (count,) = client.select("INBOX", readonly=True)
    for first in range(1, int(count or b"0") + 1, _BATCH):
        _, data = client.fetch(f"{first}:{min(first + _BATCH - 1, int(count or b'0'))}", "(UID BODY.PEEK[])")
        for part in data:
            if isinstance(part, tuple) and (match := _UID.search(part[0])):
                yield int(match[1]), part[1]
    client.logout()
