"""The keys that a store holds, as its threads share them: until when each is ours, and what of them has news.

Invariants:

- `changed` is held around every change of what is here, and of what waits in a `Held`.
- A lease counts from before it was asked for, by a clock that nobody sets and that goes on while the machine sleeps. It
  counts as lost some time before the database lets it end.
- What is lost is lost once: who holds it is told, what waited is dropped, and whoever waits for something gets an
  answer. It is never written to again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Final

from imapipe.errors import CheckpointError, CheckpointLost
from imapipe.runtime.clock import uptime
from imapipe.store.sql.held import Held, Portion

_log = logging.getLogger(__name__)

TAKEN_OVER: Final = "another run took it over"
# A lease counts as lost so long before its end, that the run has stopped by then.
_MARGIN: Final = 0.15
_MOST_MARGIN_SECONDS: Final = 1.0
# A thread that waits for longer does not notice that the machine slept meanwhile.
_LOOK_SECONDS: Final = 1.0


class HeldKeys:
    """The keys of one store. Every method may be called in any thread.

    Args:
        name: What may be told of the database.
        lease_seconds: How long a lease is.

    Attributes:
        changed: The lock; notified of news.
        trouble: Why the database could not be used the last time, or "".
    """

    __slots__ = ("_held", "_lease_seconds", "_look_seconds", "_margin_seconds", "_name", "_news", "changed", "trouble")

    def __init__(self, name: str, lease_seconds: float) -> None:
        self._name = name
        self._lease_seconds = lease_seconds
        self._margin_seconds = min(lease_seconds * _MARGIN, _MOST_MARGIN_SECONDS)
        self._look_seconds = min(_LOOK_SECONDS, lease_seconds / 10)
        self._held: dict[bytes, Held] = {}
        self._news: dict[bytes, Held] = {}
        self.changed = threading.Condition()
        self.trouble = ""

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._held

    @property
    def have_news(self) -> bool:
        """Whether there is something to do for any of them; asked by whoever has `changed`."""
        return bool(self._news)

    def all(self) -> list[Held]:
        """Those that are ours."""
        with self.changed:
            return list(self._held.values())

    def add(self, held: Held) -> None:
        """A key was taken."""
        with self.changed:
            self._held[held.digest] = held

    def end_of(self, asked: float) -> float:
        """Until when a lease counts as ours that was asked for at a time of `uptime`."""
        return asked + self._lease_seconds - self._margin_seconds

    # -- what waits to be written ----------------------------------------------------------------

    def tell(self, held: Held, change: Callable[[], None]) -> None:
        """Change what waits to be written of a key. Raises CheckpointError: what went wrong since the last call."""
        with self.changed:
            held.check()
            change()
            self._news[held.digest] = held
            self.changed.notify()

    def take_news(self) -> dict[bytes, Held]:
        """Those that have news, by their digest; they count as taken care of."""
        with self.changed:
            news = dict(self._news)
            self._news.clear()
            return news

    def put_back(self, held: Held) -> None:
        """Its news was not taken care of."""
        with self.changed:
            self._news[held.digest] = held

    def portions(self, news: Iterable[Held]) -> list[Portion]:
        """What is to be written of these now, without what is lost."""
        self.lose_overdue()
        with self.changed:
            return [Portion(held) for held in news if held.error is None and held.has_news]

    def settle(self, portion: Portion, result: object, *, durable: bool) -> None:
        """A portion was written; whoever asked for something is given the result."""
        held = portion.held
        with self.changed:
            if held.error is not None:
                # Lost meanwhile, and whoever waits was told.
                return
            request = portion.settle(durable=durable)
            if request is not None and request.is_release:
                del self._held[held.digest]
            elif held.has_news:
                self._news[held.digest] = held
        if request is not None:
            request.done.set_result(result)

    def fail(self, portion: Portion, error: CheckpointError, cause: Exception | None = None) -> None:
        """A portion cannot be written, and it is of no use to try again."""
        if cause is not None:
            error.__cause__ = cause
        held = portion.held
        with self.changed:
            if held.error is not None:
                return
            request, held.request = held.request, None
            if request is None:
                held.failed = error
            elif request.is_release_only:
                # Prolonged no more, it becomes free with its lease.
                del self._held[held.digest]
        if request is not None:
            request.done.set_exception(error)

    # -- what is lost ----------------------------------------------------------------------------

    def lose_overdue(self) -> float:
        """Lose what was not prolonged in time; gives the seconds until it is to be looked again."""
        several = self.all()
        now = uptime()
        for held in several:
            if held.ends <= now:
                self.lose(held, self._why_late())
        next_one = min((held.ends - now for held in several if held.ends > now), default=self._look_seconds)
        return min(self._look_seconds, next_one)

    def lose(self, held: Held, reason: str) -> None:
        """A key is not ours any more: tell it, and write nothing."""
        with self.changed:
            if held.error is not None or self._held.get(held.digest) is not held:
                return
            error = held.error = CheckpointLost(reason, path=self._name)
            del self._held[held.digest]
            self._news.pop(held.digest, None)
            # Its changes stay where they are: they wait for ever, and never count as written.
            held.notes.clear()
            request, held.request = held.request, None
        try:
            held.lost(error)
        except Exception:  # noqa: BLE001 - what somebody else's function raises does not end the thread
            _log.exception("what was to be called for a lost checkpoint failed")
        if request is not None:
            if request.is_release_only:
                request.done.set_result(None)
            else:
                request.done.set_exception(error)

    def _why_late(self) -> str:
        reason = f"its lease of {self._lease_seconds:g} s could not be prolonged in time"
        return f"{reason}: {self.trouble or 'no answer came, or this process was stopped'}"
