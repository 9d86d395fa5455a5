"""Which connection goes to whom, and how many to open and to close: decided here, without any I/O.

`decide` says what is to be done as a value, and the books are kept as if it were done; the pool does it afterwards.

Invariants:

- `leased + idle + opening + closing <= limit <= max_size`, except that a limit lowered by a refusal never takes a
  lease away, and that adopted connections come on top.
- Waiting is first come, first served.
- A connection in doubt (not clean, or too old) is handed to nobody.
- Nobody waits while a connection is idle, or while one may be opened that is not being opened.
- Where slots are shared with other pools (`net.pool.slots`), no connection is opened without one, and each slot beyond
  the connections that count is given back in the decision that finds it: so none can be forgotten, whatever became of
  the connection. One that was ended without a goodbye counts until the server must have heard of it.
- While others wait for slots, no connection is idle, and none beyond the pool's share is handed out again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from imapipe.models.document import Document
from imapipe.net.pool.connection_limit import ConnectionLimit
from imapipe.net.pool.lease import Holder
from imapipe.net.pool.slots import Allowance
from imapipe.net.session import SelectedMailbox


class Leasable(Protocol):
    """What is asked of a connection."""

    @property
    def is_clean(self) -> bool:
        """Whether it can be given to somebody else."""

    @property
    def is_quiet(self) -> bool:
        """Whether it can be told goodbye."""

    @property
    def expires_at(self) -> float:
        """When it is to be replaced."""

    @property
    def selected(self) -> SelectedMailbox | None:
        """The mailbox that it has open."""


class Wish(Protocol):
    """What is asked of somebody who waits."""

    @property
    def mailbox(self) -> str | None:
        """Which mailbox his connection should have open."""

    @property
    def write(self) -> bool:
        """Whether that should be open for writing."""

    @property
    def holder(self) -> Holder | None:
        """The run whose handler he is."""

    @property
    def is_over(self) -> bool:
        """Whether he waits no more."""


C = TypeVar("C", bound=Leasable)
W = TypeVar("W", bound=Wish)


@dataclass(slots=True)
class Orders(Generic[C, W]):
    """What is to be done now.

    Attributes:
        grants: Who gets which connection.
        goodbyes: Connections to log out; `closed` is to be called for each when that is over.
        aborts: Connections to end without a word; where slots are shared, `closed` is to be called for each, a little
            later.
        open: How many to open; `opened` or `failed_to_open` is to be called for each.
        look_again_at: When to decide again, or None where something else will come first.
        slots_back: How many slots to give back.
        slots_wanted: How many connections there is use for now, those in use included, whether or not there are slots.
    """

    grants: list[tuple[W, C]] = field(default_factory=list)
    goodbyes: list[C] = field(default_factory=list)
    aborts: list[C] = field(default_factory=list)
    open: int = 0
    look_again_at: float | None = None
    slots_back: int = 0
    slots_wanted: int = 0


@dataclass(frozen=True, slots=True)
class PoolStats(Document):
    """The pool at one moment.

    Attributes:
        max_size: What the pool may hold.
        limit: What it holds at most for now; below `max_size` after a refusal.
        leased: Connections in use.
        idle: Connections waiting for use.
        opening: Connections being made.
        waiting: Callers of `acquire` in the queue.
        opened: Connections made since the start.
        refused: How often the server had too many.
    """

    max_size: int
    limit: int
    leased: int
    idle: int
    opening: int
    waiting: int
    opened: int
    refused: int


class Decisions(Generic[C, W]):
    """The books of a pool.

    Attributes:
        limit: How many connections there may be.
        idle: Connections that wait for use, the one used last at the end.
        leased: Connections in use.
        waiting: Who waits, in his turn.
        allowance: The slots of this pool where they are shared with others, else None.
    """

    __slots__ = (
        "_closing",
        "_dismissed",
        "_opened",
        "_opening",
        "_returning",
        "allowance",
        "idle",
        "leased",
        "limit",
        "waiting",
    )

    def __init__(self, max_size: int) -> None:
        self.limit = ConnectionLimit(max_size)
        self.idle: list[C] = []
        self.leased: set[C] = set()
        self.waiting: deque[W] = deque()
        self.allowance: Allowance | None = None
        self._opening = 0
        self._closing = 0
        self._opened = 0
        self._returning = 0
        self._dismissed: list[C] = []

    @property
    def stats(self) -> PoolStats:
        """How it stands."""
        return PoolStats(
            max_size=self.limit.maximum,
            limit=self.limit.value,
            leased=len(self.leased),
            idle=len(self.idle),
            opening=self._opening,
            waiting=len(self.waiting),
            opened=self._opened,
            refused=self.limit.refusals,
        )

    @property
    def has_company(self) -> bool:
        """Whether a connection works or is being made, so that those who wait may hope."""
        return bool(self.leased or self.idle or self._opening)

    @property
    def count(self) -> int:
        """The connections that there are, as the server counts them."""
        return len(self.leased) + len(self.idle) + self._opening + self._closing

    @property
    def owed(self) -> int:
        """How many connections others wait for that are beyond this pool's share, and are not being closed yet."""
        allowance = self.allowance
        return 0 if allowance is None else min(allowance.asked_for, self.count - allowance.share) - self._closing

    def decide(self, now: float) -> Orders[C, W]:
        """Hand out what is idle, in order; be rid of what is in doubt; open what is missing, where that is allowed."""
        orders: Orders[C, W] = Orders()
        for connection in tuple(self.idle):
            if not connection.is_clean or now >= connection.expires_at:
                self._give_up(connection)
        self._dismiss(orders)
        self._give_up_idle(self.owed, orders)
        while self.waiting and self.idle:
            wish = self.waiting.popleft()
            if wish.is_over:
                continue
            connection = self._pick(wish)
            self.idle.remove(connection)
            self.leased.add(connection)
            orders.grants.append((wish, connection))
        allowance = self.allowance
        if allowance is not None:
            self._give_up_idle(allowance.asked_for - self._closing, orders)
        self.limit.grow(now)
        lacking = 0
        for _ in range(len(self.waiting) - self._opening):
            count = self.count
            opens_at = self.limit.opens_at(now, count + lacking)
            if opens_at is None or opens_at > now:
                orders.look_again_at = opens_at
                break
            if allowance is not None and count >= allowance.granted:
                lacking += 1
                continue
            self._opening += 1
            orders.open += 1
        if allowance is not None:
            orders.slots_wanted = len(self.leased) + self._opening + lacking
            unused = max(0, allowance.granted - self.count)
            allowance.granted -= unused
            orders.slots_back = unused + self._returning
            self._returning = 0
        return orders

    def _give_up(self, connection: C) -> None:
        self.idle.remove(connection)
        self._dismissed.append(connection)

    def _give_up_idle(self, count: int, orders: Orders[C, W]) -> None:
        """Give up so many of those that are idle, the ones used longest ago first."""
        for connection in self.idle[: max(0, count)]:
            self._give_up(connection)
        self._dismiss(orders)

    def _dismiss(self, orders: Orders[C, W]) -> None:
        """A goodbye where that can be said: until it is over, the server counts the connection, and so do we."""
        for connection in self._dismissed:
            if connection.is_quiet:
                self._closing += 1
                orders.goodbyes.append(connection)
            else:
                # It hears of it a little later than we know.
                self._closing += self.allowance is not None
                orders.aborts.append(connection)
        self._dismissed.clear()

    def _pick(self, wish: W) -> C:
        """The idle connection that needs least to be what he wants, else the one used last (others may expire)."""
        best, fewest = self.idle[-1], 3
        for connection in reversed(self.idle):
            steps = _steps(connection.selected, wish)
            if steps < fewest:
                best, fewest = connection, steps
        return best

    def take_back(self, connection: C, now: float) -> None:
        """A lease was given back. The connection is dismissed where it cannot be used again."""
        self.leased.discard(connection)
        keeps = connection.is_clean and now < connection.expires_at
        (self.idle if keeps else self._dismissed).append(connection)

    def opened(self, connection: C) -> None:
        """A connection was made."""
        self._opening -= 1
        self._opened += 1
        self.limit.succeed()
        self.idle.append(connection)

    def failed_to_open(self) -> None:
        """A connection could not be made; `refuse` or `fail` of the limit says why."""
        self._opening -= 1

    def refused(self, now: float) -> None:
        """The server has too many connections of this account."""
        self.limit.refuse(now, len(self.leased) + len(self.idle) + self._opening)

    def lost(self, connection: C) -> bool:
        """A connection has ended; whether it was idle, so that it is nobody's now."""
        if connection not in self.idle:
            return False
        self.idle.remove(connection)
        return True

    def closing(self) -> None:
        """A goodbye is being said that was not ordered here."""
        self._closing += 1

    def closed(self) -> None:
        """A goodbye is over."""
        self._closing -= 1
        allowance = self.allowance
        if allowance is None or not allowance.asked_for or allowance.granted <= self.count:
            return
        if self.count >= allowance.share or not self.waiting:
            # Whoever asked for it has it now: it is for nobody here, and nothing more is to be given up for the same
            # question.
            allowance.asked_for -= 1
            allowance.granted -= 1
            self._returning += 1

    def withdraw(self, wish: W) -> None:
        """He waits no more."""
        if wish in self.waiting:
            self.waiting.remove(wish)

    def waits_for_itself(self, run: Holder | None) -> bool:
        """Whether a handler of this run would wait for a connection that only the run itself can give back."""
        return run is not None and run.leases_held >= self.limit.value and not self.idle

    def take_self_waits(self) -> list[W]:
        """Take those out of the queue who wait for their own run."""
        found = [wish for wish in self.waiting if self.waits_for_itself(wish.holder)]
        for wish in found:
            self.waiting.remove(wish)
        return found


def _steps(selected: SelectedMailbox | None, wish: Wish) -> int:
    """How far a connection is from what is wished: 0 not at all, 1 opened otherwise, 2 something else is open."""
    if wish.mailbox is None:
        return 0 if selected is None else 2
    if selected is None or selected.name != wish.mailbox:
        return 2
    return 0 if selected.read_only is not wish.write else 1
