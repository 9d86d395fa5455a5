"""How large a response may be: what the framer does not wait for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

LONG_BYTES: Final = 16 * 1024
"""Texts that are longer are not read at one go in an event loop: each kilobyte may take half a millisecond."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a response may be, in bytes.

    Attributes:
        line_bytes: One line of an answer to a command of your own (a million UIDs), which stands whole, and several
            times for a moment. Others have at most 4 MiB, but for lists of messages.
        piece_bytes: Lists of messages (SEARCH, ESEARCH, VANISHED) that are longer are taken in pieces of this size.
        literal_bytes: One literal.
        kept_bytes: All that a connection keeps in memory and cannot hand over yet: what has come of a response, of
            messages that come in parts, and of the answers to a command, with the objects for it. A million of
            scattered UIDs are as much as that, or lists of 128 MiB.
        literals: The number of literals in one response.
    """

    line_bytes: int = 8 * 1024 * 1024
    piece_bytes: int = 32 * 1024
    literal_bytes: int = 2 * 1024 * 1024 * 1024
    kept_bytes: int = 32 * 1024 * 1024
    literals: int = 10_000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{field.name} takes a whole number, not {value!r}")
            if value < 1:
                raise ValueError(f"{field.name} must be 1 or more, not {value}")
