"""What subjects that change mail have in common: new messages, and what is done with one before it is moved."""

from __future__ import annotations

from typing import Final

from benchmarks.job import Job
from benchmarks.mail import make_sample

_BYTES: Final = 2_500


def letters(job: Job) -> list[bytes]:
    """The messages that are to be appended, if that is the work."""
    count = job.count if job.work == "append" else 0
    return [make_sample("short", number, _BYTES).content for number in range(1, count + 1)]


def read_header(uid: int, header: bytes) -> None:
    """Handle a message."""
    if b":" not in header:
        raise RuntimeError(f"no header came for {uid}")
