"""Slots: permissions for connections, where the pools of many processes share one number for an account.

A pool asks for slots before it dials, and gives each back when its connection is gone. Who gives them
(`imapipe.cluster` does, from a database) tells the pool what it may have; the pool tells what it has use for. Calls are
made in the event loop of the pool unless something else is said, and are synchronous: nobody waits for anybody.

Invariants:

- A pool has at most as many connections as slots, those being opened or closed included. A slot that is given back
  stands for a connection that the server does not count any more.
- What is granted twice is used twice: whoever grants keeps the books.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class Allowance:
    """What a pool may have now.

    Attributes:
        granted: The slots that it has.
        asked_for: How many others wait for.
        share: How many it may keep while others wait, though its own callers have use for more.
    """

    granted: int = 0
    asked_for: int = 0
    share: int = 0


class SlotUser(Protocol):
    """A pool, as whoever gives slots sees it."""

    def granted(self, count: int) -> None:
        """So many slots more."""

    def asked_for(self, count: int, share: int) -> None:
        """Others wait for so many slots; those beyond the share are to be given back where that ends no work."""

    def expired(self, error: Exception) -> None:
        """None of its slots is its own any more: every connection is to end now, with this error."""

    def failed(self, error: Exception) -> None:
        """There will be no slots: who waits for a connection gets this error."""

    def awaited(self, reason: str, lasted_seconds: float) -> None:
        """Slots are waited for, for this reason and for so long by now: listeners are told."""

    def shut(self) -> Sequence[object]:
        """End every connection, also those that are being made, whatever the event loop is doing; in any thread.

        Gives something for each that its server may count still, which `Slots.over` is called with when it does not.
        """


class Slots(Protocol):
    """The slots of one pool, from whoever gives them."""

    @property
    def shortage(self) -> str:
        """Why the pool has no more of them, as a clause: for whoever has waited too long."""

    def begin(self, user: SlotUser) -> None:
        """The pool is used for the first time, in the running event loop."""

    def want(self, count: int) -> None:
        """The pool has use for so many connections, those in use included."""

    def give_back(self, count: int) -> None:
        """So many of its connections are gone, or will not be made."""

    def made(self) -> None:
        """A connection was made: the server has room."""

    def refused(self, working: int) -> None:
        """The server has too many connections of the account; `working` of this pool's are not refused."""

    def over(self, connection: object) -> None:
        """A server counts a connection no more, of those that `SlotUser.shut` gave, or another one."""

    def check(self) -> None:
        """See whether time has run out while the process stood still; `SlotUser.expired` is called in here then."""

    def leave(self, counted: int = 0) -> None:
        """The pool is closed. So many of its connections have ended here without a wait for their servers' end.

        Those servers count them for a moment, of which the pool will not hear.
        """
