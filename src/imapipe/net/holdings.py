"""What a connection holds of messages that it handed over, and how much that may be.

Invariants:

- The bytes of a message are held by that message: they are counted in when it is handed over and out when it is
  released, both times as the message itself says, in memory and in temporary files apart.
- A message is released once. Whoever releases it again changes nothing.
- Files are counted, too: a process has few descriptors, and one body may have come in many pieces.
- Only what can be released is held: a connection that holds too much stops reading, and nobody else makes it go on.
"""

from __future__ import annotations

from collections.abc import Iterable

from imapipe.models.message import Message

# How many temporary files may be handed over and not released; a pool has several connections, a process 1,024 files.
MAX_FILES = 64


class Holdings:
    """The messages of a connection that nobody has released yet, as bytes.

    Args:
        max_held_bytes: Bytes in memory above which it is full.
        max_spool_bytes: Bytes in temporary files above which it is full.

    Attributes:
        spooled_files: Temporary files handed over and not released.
        held_bytes: Bytes handed over and not released, in memory.
        spooled_bytes: The same in temporary files.
        max_held_seen: The most `held_bytes` has been.
    """

    __slots__ = (
        "held_bytes",
        "max_held_bytes",
        "max_held_seen",
        "max_spool_bytes",
        "spooled_bytes",
        "spooled_files",
    )

    def __init__(self, max_held_bytes: int, max_spool_bytes: int) -> None:
        self.max_held_bytes = max_held_bytes
        self.max_spool_bytes = max_spool_bytes
        self.held_bytes = 0
        self.spooled_bytes = 0
        self.spooled_files = 0
        self.max_held_seen = 0

    @property
    def is_full(self) -> bool:
        """Whether more is held than may be."""
        return (
            self.held_bytes > self.max_held_bytes
            or self.spooled_bytes > self.max_spool_bytes
            or self.spooled_files > MAX_FILES
        )

    @property
    def is_half_full(self) -> bool:
        """Whether more than half of what may be is held, in memory or in files."""
        return (
            self.held_bytes > self.max_held_bytes // 2
            or self.spooled_bytes > self.max_spool_bytes // 2
            or self.spooled_files > MAX_FILES // 2
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held."""
        return not (self.held_bytes or self.spooled_bytes or self.spooled_files)

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
