"""Following mailboxes: runs, one after the other, on those of which there is news.

A look at the account (STATUS, or one LIST with the STATUS of all) is the truth and comes every so often; NOTIFY and
IDLE make it quick (`watch`). News of a mailbox makes it due; each mailbox that is due gets a run of the job on what is
above its cursor and on what has no outcome yet (`followed`), with the middleware and the consumer of the job. So all
that holds for a run holds here.

Invariants:

- What arrives at any time, a reconnect or a run on the same mailbox included, is above the cursor of that mailbox: the
  next look finds it.
- One run for a mailbox at a time.
- No error that passes ends it; each is told by an event and waited out, for longer and longer up to a minute.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from typing import Final, Protocol

from imapipe.errors import ImapipeError, UidValidityChanged
from imapipe.middleware.base import Middleware
from imapipe.models.cursor import possible_uidnext
from imapipe.models.event import FollowTrouble, MailboxFollowed, MailboxGone, NewsHandled
from imapipe.models.mailbox import MailboxStatus
from imapipe.models.message import Message
from imapipe.net.pool.pool import ConnectionPool
from imapipe.net.transient import is_transient, reason
from imapipe.pipeline.delivery.consumption import Consumption
from imapipe.pipeline.delivery.handlers import Handler, check_handler
from imapipe.pipeline.delivery.sink import is_sink, sink_for
from imapipe.pipeline.delivery.tasks import raise_first
from imapipe.pipeline.follow.followed import Followed, Place
from imapipe.pipeline.follow.gate import Gate
from imapipe.pipeline.follow.verdict import is_final
from imapipe.pipeline.memory import kept_open
from imapipe.pipeline.run import Run
from imapipe.runtime.backoff import Backoff
from imapipe.runtime.completion import to_the_end
from imapipe.runtime.histogram import Histogram

_log = logging.getLogger(__name__)

_FIRST_WAIT_SECONDS: Final = 0.5
_LONGEST_WAIT_SECONDS: Final = 60.0
_BETWEEN_LOOKS_SECONDS: Final = 0.5


class Territory(Protocol):
    """What is followed."""

    @property
    def is_one(self) -> bool:
        """One mailbox, and no other."""

    @property
    def is_everything(self) -> bool:
        """Mailboxes that come are followed too."""

    @property
    def middleware(self) -> Sequence[Middleware]:
        """The layers of the job."""

    async def look(self) -> Sequence[Place]:
        """The mailboxes there are now; raises ImapipeError where that cannot be found out."""


class Follower:
    """The work of following, for one time.

    Args:
        territory: What is followed.
        pool: The connections.
        account: `user@host:port`.
        consumption: Who takes the messages.
        poll_seconds: How often to look at mailboxes of which news comes in no other way.
        calm_poll_seconds: And how often where it comes for all.

    Attributes:
        mailboxes: What is followed, by name.
        gate: Who may use a connection.
        latency: From the first word of the server about a message to its handler.
        heard_at: Loop time of the last word of the server.
        trouble: What is being waited out, or "".
        caught_up: Set when everything was looked at once.
        changed: Set when mailboxes came or went; whoever waits for it clears it.
    """

    def __init__(
        self,
        territory: Territory,
        pool: ConnectionPool,
        account: str,
        consumption: Consumption,
        *,
        poll_seconds: float,
        calm_poll_seconds: float,
    ) -> None:
        self.territory = territory
        self.pool = pool
        self._account = account
        self._consumption = consumption
        self._poll_seconds = poll_seconds
        self._calm_poll_seconds = calm_poll_seconds
        self._backoff = Backoff(_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS)
        self._work = asyncio.Event()
        self._look_again = asyncio.Event()
        self._knows_ways = False
        self._turns = asyncio.Semaphore(consumption.concurrency)
        self._sink_turn = asyncio.Lock()
        self.mailboxes: dict[str, Followed] = {}
        self.gate = Gate(pool)
        self.latency = Histogram()
        self.heard_at: float | None = None
        self.trouble = ""
        self.caught_up = asyncio.Event()
        self.changed = asyncio.Event()

    async def follow(self, *others: Callable[[Follower], Awaitable[None]]) -> None:
        """Follow, until it is cancelled or a final error comes; `others` wait for news."""
        try:
            async with kept_open(self.territory.middleware), asyncio.TaskGroup() as group:
                group.create_task(self._look_around(), name="imapipe follow")
                group.create_task(self.gate.attend(), name="imapipe follow")
                for number in range(self.pool.max_size):
                    group.create_task(self._run_what_is_due(), name=f"imapipe follow {number}")
                for other in others:
                    group.create_task(_coroutine(other(self)), name="imapipe follow")
        except BaseExceptionGroup as errors:
            raise_first(errors)
        finally:
            self._consumption.close()

    # -- what those who wait for news call -----------------------------------------------------------

    def heard(self, followed: Followed | None = None) -> None:
        """The server said something, about a mailbox or at all."""
        self.heard_at = asyncio.get_running_loop().time()
        if followed is not None:
            followed.heard_at = self.heard_at

    def told(self, status: MailboxStatus) -> None:
        """The server says what a mailbox holds."""
        followed = self.mailboxes.get(status.name)
        if followed is not None and not followed.is_gone:
            self.heard(followed)
            if followed.is_news(status):
                followed.expects(uidnext=possible_uidnext(status.uidnext, status.messages or 0))
                self.is_due(followed)

    def is_due(self, followed: Followed) -> None:
        """There is news of a mailbox."""
        if followed.due_since is None:
            followed.due_since = asyncio.get_running_loop().time()
        self._work.set()

    def goes(self, followed: Followed, way: str) -> None:
        """News of a mailbox comes in this way from now on."""
        followed.way = way
        self.pool.events.emit(MailboxFollowed(followed.name, way))

    def knows_ways(self, but: Collection[str] = ()) -> None:
        """How news comes is known: what nobody watches is polled, also what comes from now on.

        Args:
            but: Mailboxes of which it is told when they are watched, or cannot be.
        """
        self._knows_ways = True
        for name, followed in self.mailboxes.items():
            if not (followed.way or followed.is_gone or name in but):
                self.goes(followed, "poll")

    def look_again(self) -> None:
        """Look at the account soon: names have changed, or something was missed."""
        self._look_again.set()

    async def wait_out(self, error: ImapipeError, tries: int, mailbox: str = "", way: str = "") -> None:
        """Tell of an error that passes, and wait."""
        verdict = is_transient(error, fetching=False)
        pause = self._backoff.seconds(tries, error, at_least=verdict.wait_at_least)
        self.tell_trouble(error, pause, mailbox, way)
        await asyncio.sleep(pause)

    def tell_trouble(self, error: ImapipeError, pause: float, mailbox: str, way: str) -> None:
        """Say that something does not work for now."""
        self.trouble = f"{type(error).__name__}: {error}"
        self.pool.events.emit(FollowTrouble(mailbox, way, reason(error), pause))
        _log.warning("following %s: %s; again in %.1f s", mailbox or self._account, error, pause)

    # -- looking at the account ------------------------------------------------------------------------

    async def _look_around(self) -> None:
        tries = 0
        while True:
            self._look_again.clear()
            try:
                async with self.gate.use():
                    places = await self.territory.look()
            except ImapipeError as error:
                if is_final(error, alone=self.territory.is_one, worked_before=bool(self.mailboxes)):
                    raise
                tries += 1
                await self.wait_out(error, tries)
                continue
            tries, self.trouble = 0, ""
            self.heard()
            self._found(places)
            waiting = self._calm_poll_seconds
            if any(followed.way in {"", "poll"} for followed in self.mailboxes.values() if not followed.is_gone):
                waiting = min(waiting, self._poll_seconds)
            try:
                async with asyncio.timeout(waiting):
                    # A server may tell of new names without an end.
                    await asyncio.sleep(_BETWEEN_LOOKS_SECONDS)
                    await self._look_again.wait()
            except TimeoutError:
                continue

    def _found(self, places: Sequence[Place]) -> None:
        there = {place.name: place for place in places}
        for name, followed in self.mailboxes.items():
            if name not in there and not followed.is_gone:
                followed.is_gone = True
                followed.due_since = None
                self.pool.events.emit(MailboxGone(name))
                self.changed.set()
        for name, place in there.items():
            followed = self.mailboxes.get(name) or self._came(name, place)
            if followed.is_gone:
                followed.is_gone = False
                if followed.way or self._knows_ways:
                    self.goes(followed, followed.way or "poll")
                self.changed.set()
            followed.place = place
            self.heard(followed)
            if place.status is None or followed.is_news(place.status):
                self.is_due(followed)
        self._is_caught_up()

    def _came(self, name: str, place: Place) -> Followed:
        # Looked for before this one is among them: what an earlier job knew of it has the same MAILBOXID.
        before = [old for old in self.mailboxes.values() if old.is_gone and old.is_the_same_as(place)]
        followed = self.mailboxes[name] = Followed(place)
        # Its place is told below, as that of one that comes back.
        followed.is_gone = True
        for old in before:
            followed.take_over(old)
            del self.mailboxes[old.name]
        followed.is_new = followed.is_new and (not self.caught_up.is_set() or followed.cursor is not None)
        return followed

    def _is_caught_up(self) -> None:
        if not any(followed.due_since is not None or followed.is_running for followed in self.mailboxes.values()):
            self.caught_up.set()

    # -- runs ------------------------------------------------------------------------------------------

    async def _run_what_is_due(self) -> None:
        while True:
            followed = await self._next()
            followed.is_running = True
            try:
                async with self.gate.use():
                    await self._run(followed)
            finally:
                followed.is_running = False
                self._work.set()
            self._is_caught_up()

    async def _next(self) -> Followed:
        """The mailbox that is to be run now: of those that are due the one that waits for longest."""
        while True:
            self._work.clear()
            now = asyncio.get_running_loop().time()
            due = [each for each in self.mailboxes.values() if each.due_since is not None and not each.is_running]
            ready = [each for each in due if each.not_before <= now]
            if ready:
                # The others look, too.
                self._work.set()
                return min(ready, key=lambda each: each.due_since or 0.0)
            try:
                async with asyncio.timeout_at(min((each.not_before for each in due), default=None)):
                    await self._work.wait()
            except TimeoutError:
                continue

    async def _run(self, followed: Followed) -> None:
        since, followed.due_since = followed.due_since, None
        if followed.is_gone or since is None:
            return
        is_arrival = not followed.is_new
        run = Run(followed.next_run(), self.pool, self._account, lanes=self.gate.room)
        error: ImapipeError | None = None
        done, whole = 0, False
        try:
            await self._consume(followed, run, since if is_arrival else None)
            whole = True
        except ImapipeError as raised:
            error = raised
        finally:
            done = await to_the_end(followed.ran(run, whole=whole))
        if error is not None:
            self._failed(followed, error, since)
        else:
            followed.error = None
            self.heard(followed)
            if followed.pending:
                self._put_off(followed, since, None)
            else:
                followed.is_new = False
                followed.tries = 0
        if done or error is not None or followed.pending:
            elapsed = asyncio.get_running_loop().time() - since
            self.pool.events.emit(NewsHandled(followed.name, done, len(followed.pending), elapsed))

    def _failed(self, followed: Followed, error: ImapipeError, since: float) -> None:
        # UIDs may change their meaning in the middle of a run; the next one begins with what is so then.
        is_news = isinstance(error, UidValidityChanged) and not isinstance(followed.error, UidValidityChanged)
        worked_before = is_news or (followed.cursor is not None and not isinstance(error, UidValidityChanged))
        if is_final(error, alone=self.territory.is_one, worked_before=worked_before):
            raise error
        followed.error = error
        if worked_before and self.territory.is_one is False:
            # It may have another name now, or be gone.
            self.look_again()
        self._put_off(followed, since, error)

    def _put_off(self, followed: Followed, since: float, error: ImapipeError | None) -> None:
        """What is left is for a later run."""
        followed.tries += 1
        at_least = is_transient(error, fetching=False).wait_at_least if error is not None else None
        pause = self._backoff.seconds(followed.tries, error or TimeoutError(), at_least=at_least)
        followed.not_before = asyncio.get_running_loop().time() + pause
        followed.due_since = since if followed.due_since is None else min(since, followed.due_since)
        if error is not None:
            self.tell_trouble(error, pause, followed.name, followed.way)

    async def _consume(self, followed: Followed, run: Run, since: float | None) -> None:
        consumer = self._consumption.consumer
        if not is_sink(consumer):
            handler = self._measured(check_handler(consumer), since)
            await replace(self._consumption, consumer=handler).consume(run)
            return
        part = sink_for(consumer, followed.name, followed.place.delimiter)
        if part is not None:
            await replace(self._consumption, consumer=part).consume(run)
        else:
            async with self._sink_turn:
                await self._consumption.consume(run)
        if since is not None and run.ledger.done_count:
            elapsed = asyncio.get_running_loop().time() - since
            for _ in range(run.ledger.done_count):
                self.latency.add(elapsed)

    def _measured(self, handler: Handler, since: float | None) -> Handler:
        """The handler, called as often at a time as is said for all mailboxes together."""
        clock, turns = asyncio.get_running_loop().time, self._turns

        async def handle(message: Message) -> None:
            async with turns:
                if since is not None:
                    self.latency.add(max(0.0, clock() - since))
                await handler(message)

        return handle


async def _coroutine(work: Awaitable[None]) -> None:
    await work
