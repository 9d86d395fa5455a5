"""What can happen to a message between two looks at its mailbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message is there that was not.

    Attributes:
        uid: Its UID.
        flags: Its flags, without `\\Recent`.
    """

    uid: int
    flags: frozenset[str]


@dataclass(frozen=True, slots=True)
class FlagsChanged:
    """A message has other flags than before.

    Attributes:
        uid: Its UID.
        flags: All flags that it has now, without `\\Recent`.
    """

    uid: int
    flags: frozenset[str]


@dataclass(frozen=True, slots=True)
class Vanished:
    """A message is there no more: expunged, or moved to another mailbox.

    Attributes:
        uid: The UID that it had.
    """

    uid: int


Change: TypeAlias = Arrived | FlagsChanged | Vanished
"""What `Mailbox.changes` iterates over."""
