"""What a subject has read, added up: the proof that it read everything, and read it right.

Every run counts messages and adds up numbers that each read leaves behind (`total`). A run that verifies also makes a
digest: the sum, modulo 2**64, of the first eight bytes of SHA-256 over one line a message, so that the order does
not matter. The digest of a mailbox is known when it is filled.

The lines must stay as they are in `subjects/imapflow.mjs` too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Person:
    """A name, decoded, and an address."""

    name: str
    email: str


@dataclass(frozen=True, slots=True)
class Expected:
    """What a whole mailbox adds up to."""

    count: int
    total: int
    digest: str


class Tally:
    """Adds up what was read.

    Attributes:
        count: Messages read.
        total: What they add up to: see the methods.
    """

    def __init__(self, *, verify: bool) -> None:
        self.verify = verify
        self.count = 0
        self.total = 0
        self._digest = 0

    @property
    def digest(self) -> str:
        """The digest of what was read, or "" in a run that does not verify."""
        return f"{self._digest:016x}" if self.verify else ""

    def result(self) -> Expected:
        return Expected(self.count, self.total, self.digest)

    def metadata(self, uid: int, flags: Iterable[str], size: int) -> None:
        """A message whose UID, flags and size were read: they are added up, flags by their number."""
        names = tuple(flags)
        self.count += 1
        self.total += uid + size + len(names)
        if self.verify:
            self._add(metadata_line(uid, names, size))

    def flags(self, uid: int, flags: Iterable[str]) -> None:
        """A message whose UID and flags were read."""
        names = tuple(flags)
        self.count += 1
        self.total += uid + len(names)
        if self.verify:
            self._add(metadata_line(uid, names, 0))

    def fields(
        self,
        message: tuple[int, Iterable[str], int],
        date: float,
        subject: str,
        people: tuple[Iterable[Person], Iterable[Person], Iterable[Person]],
        *others: object,
    ) -> None:
        """A message whose every field was read.

        Args:
            message: UID, flags and size.
            date: The Date header as seconds since 1970.
            subject: The subject, decoded.
            people: From, To and Cc.
            others: What else the client reads out of an envelope; not every client does, so it is not compared.
        """
        uid, flags, size = message
        groups = [[f"{person.name} <{person.email}>" for person in group] for group in people]
        self.count += 1
        self.total += uid + size + sum(len(group) for group in groups)
        if self.verify:
            addresses = "\t".join(",".join(group) for group in groups)
            self._add(f"{metadata_line(uid, flags, size)}\t{int(date)}\t{subject}\t{addresses}")

    def content(self, uid: int, data: bytes | bytearray | memoryview) -> None:
        """A message whose header or body was read: its length is added."""
        self.count += 1
        self.total += len(data)
        if self.verify:
            self._add(f"{uid}\t{hashlib.sha256(data).hexdigest()}")

    def text(self, uid: int, text: str) -> None:
        """A message whose text was read: its UID is added, if there was any."""
        self.count += 1
        self.total += uid if text else 0
        if self.verify:
            # Whether the line end before a boundary belongs to the text is not the question here.
            plain = text.replace("\r\n", "\n").rstrip("\n")
            self._add(f"{uid}\t{hashlib.sha256(plain.encode()).hexdigest()}")

    def found(self, uids: Iterable[int]) -> None:
        """The UIDs that a search found."""
        for uid in uids:
            self.count += 1
            self.total += uid
            if self.verify:
                self._add(str(uid))

    def _add(self, line: str) -> None:
        self._digest += int.from_bytes(hashlib.sha256(line.encode()).digest()[:8], "big")
        self._digest %= 1 << 64


def metadata_line(uid: int, flags: Iterable[str], size: int) -> str:
    return f"{uid}\t{size}\t{' '.join(sorted(flags))}"
