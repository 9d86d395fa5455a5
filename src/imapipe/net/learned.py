"""What the connections of a pool have found out about their server, and the next one need not find out again.

Invariants:

- A length that was taken once is not suspected again. Until then a command that was refused, or ended its connection
  before a byte of its answer came, may have been too long: the next ones are shorter.
- Where even short ones are refused, it was not the length, and commands may be as long as before.
"""

from __future__ import annotations

import logging
from typing import Final

from imapipe.errors import (
    CommandBad,
    CommandError,
    CommandTimeout,
    ConnectionLost,
    ImapipeError,
    ServerBye,
    Throttled,
)
from imapipe.net.signals import refusal_in
from imapipe.net.transient import is_about_length
from imapipe.wire.command.encoder import MAX_COMMAND_BYTES
from imapipe.wire.response.note import Note, count_notes

_log = logging.getLogger(__name__)

# RFC 2683 §3.2.1.5 asks clients to stay near 1,000 bytes; there are servers with a buffer of 512.
_LENGTHS: Final = (990, 490)
_LEAST_SET_BYTES: Final = 100
# One may have been dead before it was asked.
_DEADLY_ENDINGS: Final = 2


class Learned:
    """What is known of a server by experience.

    Attributes:
        has_greeted: Whether a connection to it was ever made: its name is known to be right.
        harmless_ways: The ways (`net.ways`) that were answered, with whatever.
        max_command_bytes: How long a line of a command may be.
        spellings: By the name that was asked for, the one under which the server has that mailbox, or None.
        notes: What of answers outside of runs was passed over, and how often; at most as many as `count_notes` keeps.
    """

    __slots__ = (
        "_endings",
        "_is_proven",
        "_longest_taken",
        "harmless_ways",
        "has_greeted",
        "max_command_bytes",
        "notes",
        "spellings",
    )

    def __init__(self) -> None:
        self._endings: dict[str, int] = {}
        self.has_greeted = False
        self.harmless_ways: set[str] = set()
        self.notes: dict[Note, int] = {}
        self.spellings: dict[str, str | None] = {}
        self.max_command_bytes = MAX_COMMAND_BYTES
        self._longest_taken = 0
        self._is_proven = True

    def passed_over(self, kind: str, detail: str) -> None:
        """Something of an answer could not be read, or was not given: it is counted, and logged the first time."""
        note = Note(kind, detail)
        if note not in self.notes:
            _log.warning("passed over: %s", note.detail)
        count_notes(self.notes, [note])

    def ended_in(self, way: str, error: ConnectionLost | CommandTimeout | ServerBye) -> None:
        """A connection ended while it was asked in this way."""
        asks_for_less = isinstance(error, ServerBye) and isinstance(refusal_in(error), Throttled)
        if way not in self.harmless_ways and not asks_for_less:
            self._endings[way] = self._endings.get(way, 0) + 1

    def is_deadly(self, way: str) -> bool:
        """Whether connections end when they are asked in this way."""
        return way not in self.harmless_ways and self._endings.get(way, 0) >= _DEADLY_ENDINGS

    def room(self, max_text_bytes: int) -> int:
        """How long a set of UIDs may be, where `wire.command.encoder.uid_text_room` has found room for so much."""
        return max(_LEAST_SET_BYTES, max_text_bytes - (MAX_COMMAND_BYTES - self.max_command_bytes))

    def taken(self, line_bytes: int) -> None:
        """A command with a line of this length was taken."""
        if line_bytes > self._longest_taken:
            self._longest_taken = line_bytes
            self._is_proven = self._is_proven or line_bytes > _LENGTHS[-1] // 2

    def is_too_long(self, line_bytes: int, error: ImapipeError) -> bool:
        """Whether a command failed that may have been too long; then there is less room from now on.

        Args:
            line_bytes: The length of its line.
            error: What it was refused with, or what ended the connection before anything of its answer came.
        """
        if isinstance(error, CommandError) and not isinstance(error, CommandBad | ServerBye):
            if not is_about_length(error):
                return False
        if line_bytes <= self._longest_taken:
            return False
        shorter = next((length for length in _LENGTHS if length < line_bytes), 0)
        if not shorter:
            if not self._is_proven:
                self.max_command_bytes, self._is_proven = MAX_COMMAND_BYTES, True
            return False
        if shorter < self.max_command_bytes:
            self.max_command_bytes, self._is_proven = shorter, False
        return True
