"""A pool's side of the slots that it shares with other pools; nothing where it shares none.

The books are those of `net.pool.decisions`, whose `allowance` is kept here; what is to be done, the pool does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from imapipe.models.event import LimitAwaited
from imapipe.net.connection import Connection
from imapipe.net.pool.decisions import Decisions, Orders
from imapipe.net.pool.lease import Waiter
from imapipe.net.pool.parting import Handle, Partings
from imapipe.net.pool.slots import Allowance, Slots
from imapipe.runtime.event_bus import EventBus


class PoolSlots:
    """The slots of one pool (a `net.pool.slots.SlotUser`).

    Args:
        decisions: The books of the pool.
        events: Where is told what is waited for.
        assign: Looks what is to be done.
        end_all: Ends every connection, also those that are being made, with an error.
        fail_waiting: Fails everybody who waits, with an error.

    Attributes:
        partings: The sockets of the connections.
    """

    __slots__ = (
        "_assign",
        "_decisions",
        "_end_all",
        "_events",
        "_fail_waiting",
        "_has_begun",
        "_source",
        "_wanted",
        "partings",
    )

    def __init__(
        self,
        decisions: Decisions[Connection, Waiter],
        events: EventBus,
        *,
        assign: Callable[[], None],
        end_all: Callable[[Exception], None],
        fail_waiting: Callable[[Exception], None],
    ) -> None:
        self._decisions = decisions
        self._events = events
        self._assign = assign
        self._end_all = end_all
        self._fail_waiting = fail_waiting
        self.partings = Partings(self.check, self._over)
        self._source: Slots | None = None
        self._has_begun = False
        self._wanted = 0

    @property
    def are_shared(self) -> bool:
        """Whether there is anybody to share them with."""
        return self._source is not None

    # -- what the pool says ----------------------------------------------------------------------

    def share(self, source: Slots) -> None:
        """Have no connection without a slot of these."""
        if self._source is not None:
            raise RuntimeError("this pool shares its slots already")
        self._source = source
        self._decisions.allowance = Allowance()

    def begin(self) -> None:
        """The pool is used for the first time, in the running event loop."""
        if self._source is not None:
            self._has_begun = True
            self._source.begin(self)

    def check(self) -> None:
        """End all connections if the slots have expired while the process stood still."""
        if self._source is not None:
            self._source.check()

    def tell(self, orders: Orders[Connection, Waiter]) -> None:
        """Pass on what was decided."""
        if self._source is None:
            return
        if orders.slots_back:
            self._source.give_back(orders.slots_back)
        if orders.slots_wanted != self._wanted:
            self._wanted = orders.slots_wanted
            self._source.want(orders.slots_wanted)

    def made(self) -> None:
        """A connection was made."""
        if self._source is not None:
            self._source.made()

    def refused(self) -> None:
        """The server has too many connections of the account."""
        if self._source is not None:
            self._source.refused(self._decisions.count)

    def leave(self, counted: int = 0) -> None:
        """The pool is closed, and servers may count so many of its connections; the second time it does nothing."""
        if self._source is not None and self._has_begun:
            self._has_begun = False
            self._source.leave(counted)

    def _over(self, handle: Handle) -> None:
        if self._source is not None:
            self._source.over(handle)

    def shortage(self) -> str:
        """Why there are no slots for those who wait; "" where that is not what they wait for."""
        allowance = self._decisions.allowance
        if self._source is None or allowance is None or self._wanted <= allowance.granted:
            return ""
        return self._source.shortage

    # -- what the pool is told -------------------------------------------------------------------

    def granted(self, count: int) -> None:
        """So many slots more."""
        if self._decisions.allowance is not None:
            self._decisions.allowance.granted += count
            self._assign()

    def asked_for(self, count: int, share: int) -> None:
        """Others wait for so many slots; those beyond the share are to be given back where that ends no work."""
        if self._decisions.allowance is not None:
            self._decisions.allowance.asked_for = count
            self._decisions.allowance.share = share
            self._assign()

    def expired(self, error: Exception) -> None:
        """None of the slots is the pool's own any more."""
        if self._decisions.allowance is not None:
            self._decisions.allowance.granted = 0
            self._wanted = 0
            self._end_all(error)
            self._assign()

    def failed(self, error: Exception) -> None:
        """There will be no slots for those who wait."""
        self._fail_waiting(error)
        self._assign()

    def awaited(self, reason: str, lasted_seconds: float) -> None:
        """Tell listeners that slots are waited for."""
        self._events.emit(LimitAwaited("connections", reason, lasted_seconds))

    def shut(self) -> Sequence[object]:
        """Shut the sockets of all connections, and tell which a server may count. May be called in any thread."""
        return self.partings.shut()
