"""A pool's slots (`net.pool.slots.Slots`), as the keeper of this process gets them from the database.

Everything here is under the keeper's lock, and nothing waits: calls of the pool change numbers, and the keeper's thread
finds them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Protocol

from imapipe.cluster.slot_rows import SlotRequest
from imapipe.net.pool.parting import PARTING_SECONDS
from imapipe.net.pool.slots import SlotUser
from imapipe.runtime.clock import uptime


class Office(Protocol):
    """The keeper, as a member sees it."""

    @property
    def lock(self) -> AbstractContextManager[object]:
        """Held while something of a member is changed; whoever has it may take it again."""

    def changed(self, member: Member) -> None:
        """Something of it is to be told to the database."""

    def check(self) -> None:
        """See whether the lease has ended."""


class Member:
    """One pool.

    Attributes:
        name: Unlike that of any other pool, ever.
        account: Its account.
        held: The slots that are its own, granted or about to be.
        lapsed: Those of an ended lease whose connections servers may count still.
        wanted: The connections that it has use for.
        was_asked: It was told that others wait.
        waits_since: Since when it wants more than it has, by the keeper's clock, or None.
        told_at: When that was told the last time.
        shortage: Why it has no more.
        has_left: Its pool is closed.
        counts_until: Until when what it has left behind counts, by the keeper's clock.
    """

    def __init__(self, office: Office, name: str, account: str, maximum: int) -> None:
        self.name = name
        self.account = account
        self.held = 0
        self.lapsed: set[object] = set()
        self.wanted = 0
        self.was_asked = False
        self.waits_since: float | None = None
        self.told_at = 0.0
        self.shortage = "the database that keeps the limits has not answered yet"
        self.has_left = False
        self.counts_until = 0.0
        self._office = office
        self._maximum = maximum
        self._refused: int | None = None
        self._has_made = False
        self._is_ending = 0
        self._end: Exception | None = None
        self._user: SlotUser | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def is_short(self) -> bool:
        """Whether it wants more than it has."""
        return self.wanted > self.held

    # -- what the pool says, in its loop ---------------------------------------------------------

    def begin(self, user: SlotUser) -> None:
        """The pool is used for the first time."""
        self._user = user
        self._loop = asyncio.get_running_loop()
        self._office.changed(self)

    def want(self, count: int) -> None:
        """The pool has use for so many connections."""
        with self._office.lock:
            was_short, self.wanted = self.is_short, count
            # What it does with slots that it has is told with the next thing: nobody gets more or fewer for it.
            if was_short or self.is_short:
                self._office.changed(self)

    def give_back(self, count: int) -> None:
        """So many of its connections are gone."""
        with self._office.lock:
            # What goes while an end is on its way to the pool has gone with it already.
            if not self._is_ending:
                self.held -= count
                self._office.changed(self)

    def made(self) -> None:
        """A connection was made; told with the next thing."""
        self._has_made = True

    def refused(self, working: int) -> None:
        """The server has too many."""
        with self._office.lock:
            self._refused = working
            self._office.changed(self)

    def over(self, connection: object) -> None:
        """A server counts a connection no more."""
        with self._office.lock:
            if connection in self.lapsed:
                self.lapsed.discard(connection)
                self._office.changed(self)

    def check(self) -> None:
        """See whether the lease has ended while the process stood still; then all connections end before this returns.

        What is called later for the same end finds nothing that is left: slots come behind it.
        """
        self._office.check()
        if self._is_ending and self._user is not None and self._end is not None:
            self._user.expired(self._end)

    def leave(self, counted: int = 0) -> None:
        """The pool is closed; servers may count so many of its connections, for as long as it would have waited."""
        with self._office.lock:
            self.has_left = True
            self.held = self.wanted = counted
            self.counts_until = uptime() + PARTING_SECONDS
            self.lapsed.clear()
            self._office.changed(self)

    # -- what the keeper says, in any thread -----------------------------------------------------

    def free_what_is_left(self) -> None:
        """Servers have ended what the pool left behind."""
        self.held = self.wanted = 0

    def request(self) -> SlotRequest:
        """What is to be told to the database."""
        lapsed = len(self.lapsed)
        return SlotRequest(
            self.name,
            self.account,
            self._maximum,
            self.held + lapsed,
            self.wanted + lapsed,
            refused=self._refused,
            made=self._has_made,
        )

    def told(self, request: SlotRequest) -> None:
        """That was told; what happened meanwhile is not."""
        if self._refused == request.refused:
            self._refused = None
        self._has_made = self._has_made and not request.made

    def grant(self, count: int) -> None:
        """So many slots more are its own."""
        self.held += count
        self._call(lambda user: user.granted(count))

    def ask(self, count: int, share: int) -> None:
        """Others wait for so many."""
        self.was_asked = count > 0
        self._call(lambda user: user.asked_for(count, share))

    def fail(self, error: Exception) -> None:
        """There will be none for those who wait."""
        self._call(lambda user: user.failed(error))

    def tell(self, reason: str, lasted_seconds: float) -> None:
        """What it waits for."""
        self._call(lambda user: user.awaited(reason, lasted_seconds))

    def expire(self, error: Exception) -> None:
        """Nothing is its own any more: its connections are shut, and count until servers have ended them, too."""
        if self.has_left:
            return
        self.held = 0
        self._end = error
        if self._loop is None or self._user is None:
            return
        self._is_ending += 1

        def end(user: SlotUser) -> None:
            with self._office.lock:
                user.expired(error)
                self._is_ending -= 1

        # Behind that, so that a loop that runs ends its connections by itself, with this error.
        self._call(end)
        self.lapsed.update(self._user.shut())

    def _call(self, what: Callable[[SlotUser], None]) -> None:
        """Call the pool in its loop, in the order in which this is called."""
        user, loop = self._user, self._loop
        if user is not None and loop is not None and not self.has_left:
            with suppress(RuntimeError):  # the loop is closed: so is the pool, or nobody will ever use it
                loop.call_soon_threadsafe(what, user)
