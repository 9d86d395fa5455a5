"""By what a message is found again in another mailbox: its Message-ID, when it arrived, and its size.

Invariant: a message of the target is taken for one of the source at most, so that of twins as many stay as there are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Final, NamedTuple

from imapipe.errors import NotFetched, ProtocolError
from imapipe.models.attributes import arrival_of
from imapipe.models.message import Message
from imapipe.pipeline.source.identities import identity_of
from imapipe.wire.command.fetch import Fetch

WANTED: Final = Fetch("size", "internal_date", header_fields=("Message-ID", "Date"))
"""What has to be fetched of a message to know its likeness, and its content by name."""


class Likeness(NamedTuple):
    """What a copy has in common with its message.

    Attributes:
        message_id: The Message-ID, or "".
        arrived: The INTERNALDATE in seconds since 1970; -1 where it is not known.
        size: Its bytes.
    """

    message_id: str
    arrived: int
    size: int

    @classmethod
    def of(cls, message: Message, size: int) -> Likeness:
        """That of a message whose size is known."""
        return cls(_message_id(message), seconds_of(message), size)


class Candidates:
    """Messages of a target that may be copies of what comes.

    Attributes:
        are_shared: Each may be the copy of several: the server keeps one of those that are the same.
    """

    __slots__ = ("_ascending", "_by_content", "_taken", "_uids", "are_shared")

    def __init__(self) -> None:
        self._uids: dict[Likeness, list[int]] = {}
        self._by_content: dict[bytes, list[int]] = {}
        self._ascending: list[int] = []
        self._taken: set[int] = set()
        self.are_shared = False

    @property
    def lowest(self) -> int | None:
        """The lowest UID of those that are left."""
        while self._ascending and self._ascending[0] in self._taken:
            heappop(self._ascending)
        return self._ascending[0] if self._ascending else None

    def add(self, uid: int, likeness: Likeness, content: bytes | None) -> None:
        """One of them; `content` as `content_of` gives it."""
        self._uids.setdefault(likeness, []).append(uid)
        if content is not None:
            self._by_content.setdefault(content, []).append(uid)
        heappush(self._ascending, uid)

    def like(self, likeness: Likeness) -> list[int]:
        """The UIDs of those that are alike, the oldest first."""
        return self._left(self._uids.get(likeness, ()))

    def with_content(self, content: bytes) -> list[int]:
        """The UIDs of those with this content, the oldest first."""
        return self._left(self._by_content.get(content, ()))

    def take(self, uid: int) -> None:
        """It is the copy of a message."""
        self._taken.add(uid)

    def _left(self, uids: Iterable[int]) -> list[int]:
        return sorted(uid for uid in uids if self.are_shared or uid not in self._taken)


def size_of(message: Message) -> int:
    """The bytes of a message that was fetched whole; what a server says of its size may be wrong."""
    with message.open() as file:
        return file.seek(0, os.SEEK_END)


def content_of(message: Message) -> bytes | None:
    """Names what a message says of itself: Message-ID, Date and size; None where it has no Message-ID."""
    return identity_of(message).content


def _message_id(message: Message) -> str:
    try:
        return (message.headers.get("Message-ID") or "").strip()
    except (NotFetched, ProtocolError):
        return ""


def seconds_of(message: Message) -> int:
    """Its INTERNALDATE in seconds since 1970; -1 where it is not known."""
    date = arrival_of(message)
    return int(date.timestamp()) if date is not None else -1
