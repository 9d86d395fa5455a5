"""What a subject is asked to do and what it answers: the JSON between the suite and the processes it measures."""

from __future__ import annotations

import json
import ssl
from dataclasses import asdict, dataclass, field
from typing import Final

ITEMS: Final = {
    "metadata": "(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)",
    "fields": "(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)",
    "headers": "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER])",
    "bodies": "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])",
    "large": "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])",
    "text": "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])",
    "flags": "(UID FLAGS)",
    "copy": "(UID FLAGS INTERNALDATE BODY.PEEK[])",
    "on-done": "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER])",
}
"""Work → the FETCH items that it needs; "search" is the one work that fetches nothing."""


KEYWORD: Final = "$Bench"
TARGET: Final = "Moved"
CHANGES: Final = frozenset({"set-flags", "moves", "append", "on-done"})
"""The works that change mail: that keyword for every message of the INBOX; all of them into that mailbox, at once or
each after its header was handled; or as many new ones into it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run of one subject.

    Attributes:
        host: Where the server listens.
        port: Its port for plain text.
        user: The account, which has one mailbox, INBOX.
        password: Its password.
        work: A key of `ITEMS`, "search", or one of `CHANGES`.
        count: Messages in the mailbox, with the UIDs 1 to `count`.
        verify: Whether to make the digest of what was read; such a run is not timed.
        batch: Messages asked for at once; 0 asks for all in one command.
        connections: Connections used at the same time, by subjects that can.
        options: What only some subjects know.
        certificate: File of the certificate to trust; "" is a connection without TLS.
    """

    host: str
    port: int
    user: str
    password: str
    work: str
    count: int
    verify: bool = False
    batch: int = 500
    connections: int = 1
    options: dict[str, str] = field(default_factory=dict)
    certificate: str = ""

    @classmethod
    def from_json(cls, text: str) -> Job:
        return cls(**json.loads(text))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def ssl_context(self) -> ssl.SSLContext | None:
        """Trusts the server of the suite; None without TLS."""
        return ssl.create_default_context(cafile=self.certificate) if self.certificate else None

    @property
    def items(self) -> str:
        return ITEMS[self.work]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one run of one subject gave.

    Attributes:
        wall_seconds: From before the first connection to the last message read, without LOGOUT.
        cpu_seconds: User and system time of the process in that time.
        idle_rss: Resident bytes after all imports, before the first connection.
        peak_rss: The most resident bytes in that time.
        count: Messages read.
        total: What they added up to, see `tally`.
        digest: Their digest; "" unless the job was to verify.
        version: The subject's version.
        notes: Anything else, such as the bytes received.
    """

    wall_seconds: float
    cpu_seconds: float
    idle_rss: int
    peak_rss: int
    count: int
    total: int
    digest: str
    version: str
    notes: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        return cls(**json.loads(text))

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def batches(job: Job) -> list[str]:
    """The UIDs of the mailbox as sequence sets of `job.batch` each."""
    size = job.batch or job.count
    return [f"{first}:{min(first + size - 1, job.count)}" for first in range(1, job.count + 1, size)]
