"""The account of a connection: all that it keeps of what came, in memory and in temporary files.

Two kinds of bytes are on it. What was *handed over* (messages) can be released by somebody: where there is too much of
it, reading stops. What is *kept* cannot: a response under way, compressed bytes, the answers to a command, messages of
which not all has come. Where there is too much of that, the server is not believed, and the connection ends.

Invariants:

- Each keeper has a `Charge`: it grows with what is kept, and is released once, whole.
- The bytes of a message are held by that message: they are counted in when it is handed over and out when it is
  released, both times as the message itself says, in memory and in temporary files apart.
- A message is released once. Whoever releases it again changes nothing.
- Files are counted, too: a process has few descriptors.
- Connections of one event loop share what they keep beyond `own_bytes` each: together it is no more than one may keep,
  or a server would only have to flood all of them at the same time.
- What is kept is counted with the objects for it. What is still in the stream is counted once for each chunk of it, so
  the account costs nothing for a message of the expected shape.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from typing import Final
from weakref import WeakKeyDictionary

from imapipe.errors import ResponseTooLarge
from imapipe.models.message import Message

MAX_FILES: Final = 64
"""How many temporary files may be handed over, and how many kept; a pool has several connections, a process 1,024."""

# No mail server takes larger messages than this, but for a few; they need `max_spool_bytes` to be as large.
ONE_BODY_BYTES = 64 * 1024 * 1024


class Reserve:
    """What several connections keep beyond their own.

    Attributes:
        taken_bytes: How much that is.
    """

    __slots__ = ("__weakref__", "taken_bytes")

    def __init__(self) -> None:
        self.taken_bytes = 0


_RESERVES: WeakKeyDictionary[asyncio.AbstractEventLoop, Reserve] = WeakKeyDictionary()


def reserve_of(loop: asyncio.AbstractEventLoop) -> Reserve:
    """The reserve that all connections of an event loop share."""
    return _RESERVES.setdefault(loop, Reserve())


class Holdings:
    """What a connection holds, as bytes.

    Args:
        max_held_bytes: Bytes handed over, in memory, above which it is full.
        max_spool_bytes: The same in temporary files.
        max_kept_bytes: Bytes kept above which the connection ends.
        own_bytes: Bytes that it may keep whatever others do: as much as a usual answer takes while it comes.
        reserve: What it shares with others.

    Attributes:
        held_bytes: Bytes handed over and not released, in memory.
        spooled_bytes: The same in temporary files.
        spooled_files: How many files these are.
        max_held_seen: The most `held_bytes` has been.
        max_kept_bytes: Bytes kept above which the connection ends, now.
        kept_bytes: Bytes in memory of what is not handed over, with the objects for them; without the stream.
        kept_spooled_bytes: The same in temporary files.
        kept_files: How many files these are.
        stream_bytes: What came and is no whole response yet.
        borrowed_bytes: How much of the reserve it has taken.
    """

    __slots__ = (
        "_reserve",
        "borrowed_bytes",
        "held_bytes",
        "kept_bytes",
        "kept_files",
        "kept_spooled_bytes",
        "max_held_bytes",
        "max_held_seen",
        "max_kept_bytes",
        "max_spool_bytes",
        "own_bytes",
        "spooled_bytes",
        "spooled_files",
        "stream_bytes",
    )

    def __init__(
        self, max_held_bytes: int, max_spool_bytes: int, max_kept_bytes: int, own_bytes: int, reserve: Reserve
    ) -> None:
        self._reserve = reserve
        self.own_bytes = own_bytes
        self.borrowed_bytes = 0
        self.max_held_bytes = max_held_bytes
        self.max_spool_bytes = max_spool_bytes
        self.max_kept_bytes = max_kept_bytes
        self.held_bytes = 0
        self.spooled_bytes = 0
        self.spooled_files = 0
        self.max_held_seen = 0
        self.kept_bytes = 0
        self.kept_spooled_bytes = 0
        self.kept_files = 0
        self.stream_bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether more is handed over than may be."""
        return (
            self.held_bytes > self.max_held_bytes
            or self.spooled_bytes > self.max_spool_bytes
            or self.spooled_files > MAX_FILES
        )

    @property
    def is_half_full(self) -> bool:
        """Whether more than half of what may be is handed over, in memory or in files."""
        return (
            self.held_bytes > self.max_held_bytes // 2
            or self.spooled_bytes > self.max_spool_bytes // 2
            or self.spooled_files > MAX_FILES // 2
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing is on the account."""
        return not (self.held_bytes or self.spooled_bytes or self.spooled_files or self.is_keeping)

    @property
    def is_keeping(self) -> bool:
        """Whether something is kept."""
        return any((self.kept_bytes, self.kept_spooled_bytes, self.kept_files, self.stream_bytes, self.borrowed_bytes))

    def hold(self, messages: Iterable[Message]) -> None:
        """Messages are handed over. `Arrivals.take` counts those of the expected shape itself, a chunk at a time."""
        for message in messages:
            spooled = message.spooled_size
            self.held_bytes += message.wire_size - spooled
            if spooled:
                self.spooled_bytes += spooled
                self.spooled_files += message.spooled_files

    def release(self, message: Message) -> None:
        """A message is needed no more."""
        if message.is_held:
            message.is_held = False
            self.held_bytes -= message.wire_size
            # Most connections spool nothing, and then there is nothing to ask the message for.
            if self.spooled_files and (spooled := message.spooled_size):
                self.held_bytes += spooled
                self.spooled_bytes -= spooled
                self.spooled_files -= message.spooled_files

    def close(self) -> None:
        """The connection has ended: no limit is to keep anybody from tidying up."""
        self.stream_bytes = 0
        self.max_kept_bytes = sys.maxsize
        self.settle()

    def streaming(self, count: int) -> None:
        """So many bytes came and are no whole response yet.

        Raises:
            ResponseTooLarge: With them more is kept than may be.
        """
        self.stream_bytes = count
        kept = count + self.kept_bytes
        if kept > self.max_kept_bytes:
            raise ResponseTooLarge("what a connection keeps", size=kept, limit=self.max_kept_bytes)
        if kept > self.own_bytes or self.borrowed_bytes:
            self.settle()
            taken = self._reserve.taken_bytes
            if self.borrowed_bytes and taken > self.max_kept_bytes:
                raise ResponseTooLarge("what several connections keep", size=taken, limit=self.max_kept_bytes)

    def settle(self) -> None:
        """Take from the reserve, or give back to it, what is kept now."""
        borrowed = max(0, self.stream_bytes + self.kept_bytes - self.own_bytes)
        self._reserve.taken_bytes += borrowed - self.borrowed_bytes
        self.borrowed_bytes = borrowed


class Charge:
    """What one keeper keeps: on the account of its connection until it is released, once and whole.

    Args:
        holdings: The account.
        name: What an error calls it.

    Attributes:
        kept_bytes: In memory.
        spooled_bytes: In temporary files.
        files: How many files these are.
    """

    __slots__ = ("_holdings", "_name", "files", "kept_bytes", "spooled_bytes")

    def __init__(self, holdings: Holdings, name: str) -> None:
        self._holdings = holdings
        self._name = name
        self.kept_bytes = 0
        self.spooled_bytes = 0
        self.files = 0

    def add(self, count: int) -> None:
        """Keep so many bytes more in memory.

        Raises:
            ResponseTooLarge: With them more is kept than may be.
        """
        holdings = self._holdings
        self.kept_bytes += count
        holdings.kept_bytes += count
        kept = holdings.kept_bytes + holdings.stream_bytes
        if kept > holdings.max_kept_bytes:
            raise ResponseTooLarge(self._name, size=kept, limit=holdings.max_kept_bytes)

    def spool(self, size: int, files: int = 1) -> None:
        """Keep so many bytes more in temporary files, and so many files.

        One body of a usual size is taken whatever `max_spool_bytes` says, or it could not be had at all.

        Raises:
            ResponseTooLarge: With them more is kept than may be.
        """
        holdings = self._holdings
        before, limit = holdings.kept_spooled_bytes, holdings.max_spool_bytes
        if size > max(limit, ONE_BODY_BYTES) or (before and before + size > limit):
            raise ResponseTooLarge("temporary files for one message", size=before + size, limit=limit)
        if holdings.kept_files + files > MAX_FILES:
            raise ResponseTooLarge(
                "the number of large literals in one message", size=holdings.kept_files + files, limit=MAX_FILES
            )
        self._keep_files(size, files)

    def hand_over(self) -> int:
        """What is in temporary files is handed over with its message; how many bytes that is."""
        size, files = self.spooled_bytes, self.files
        self._keep_files(-size, -files)
        self._holdings.spooled_bytes += size
        self._holdings.spooled_files += files
        return size

    def release(self) -> None:
        """Nothing of it is kept any more."""
        holdings = self._holdings
        holdings.kept_bytes -= self.kept_bytes
        self.kept_bytes = 0
        if holdings.borrowed_bytes:
            holdings.settle()
        if self.files:
            self._keep_files(-self.spooled_bytes, -self.files)

    def _keep_files(self, size: int, files: int) -> None:
        self.spooled_bytes += size
        self.files += files
        self._holdings.kept_spooled_bytes += size
        self._holdings.kept_files += files
