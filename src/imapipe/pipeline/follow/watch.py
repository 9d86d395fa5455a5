"""Waiting for news of mailboxes, so that looks at the account may be rare.

By NOTIFY over one connection, else by IDLE over as many as may be.

Invariants:

- Whatever goes wrong here costs only time: the looks at the account go on, and find what nobody told of.
- A connection that ends is replaced, for ever; what it told of is polled until then.
- Where the server has less to tell than NOTIFY or IDLE promise, mailboxes that it never named are polled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from functools import partial
from typing import Final, Literal

from imapipe.errors import CommandBad, CommandNo, ImapipeError
from imapipe.models.mailbox import MailboxStatus
from imapipe.models.news import News
from imapipe.net.connection import Connection
from imapipe.pipeline.follow.followed import Followed
from imapipe.pipeline.follow.follower import Follower
from imapipe.pipeline.follow.verdict import is_final

Way = Literal["notify", "idle", "poll"]

# More names than this, or longer ones, are asked for as all there are.
_MOST_NAMES: Final = 50
_MOST_NAME_CHARACTERS: Final = 4000
# So often in a row NOTIFY is said anew to a server that has more news than it tells; then IDLE does as well.
_MOST_OVERFLOWS: Final = 3
# A connection that lasted for so long worked: it is replaced at once, but for a moment.
_WORKED_SECONDS: Final = 5.0


class Watch:
    """Waits for news in the best way that the server has.

    Args:
        best: The best way to use: "notify", "idle" (no NOTIFY), or "poll" (neither).
        idle_seconds: When IDLE is ended and begun anew.

    Attributes:
        reconnects: How many connections ended.
    """

    def __init__(self, best: Way, idle_seconds: float) -> None:
        self._best = best
        self._idle_seconds = idle_seconds
        self._claimed: set[str] = set()
        self.reconnects = 0

    async def __call__(self, follower: Follower) -> None:
        """Wait for news, until it is cancelled. Raises what ends following."""
        if self._best == "poll":
            follower.knows_ways()
            return
        await follower.caught_up.wait()
        offered = await self._offered(follower)
        # A connection that has said NOTIFY is of no other use: where there is only one, IDLE leaves it to the runs.
        may_notify = self._best == "notify" and offered == "notify" and follower.gate.limit > 1
        if may_notify:
            await self._by_notify(follower)
        if offered == "poll":
            follower.knows_ways()
            return
        follower.gate.watchers = max(1, follower.gate.limit - 1)
        async with asyncio.TaskGroup() as group:
            for number in range(follower.gate.watchers):
                group.create_task(self._by_idle(follower, number), name=f"imapipe idle {number}")
            # Each has begun, and claimed its mailbox.
            await asyncio.sleep(0)
            follower.knows_ways(but=self._claimed)

    async def _offered(self, follower: Follower) -> Way:
        async def ask(connection: Connection) -> Way:
            if not connection.offers("IDLE"):
                return "poll"
            return "notify" if connection.offers("NOTIFY") else "idle"

        tries = 0
        while True:
            try:
                async with follower.gate.use():
                    return await follower.pool.perform(ask)
            except ImapipeError as error:
                tries = await self._lost(follower, error, tries, "", "")

    async def _lost(self, follower: Follower, error: ImapipeError, tries: int, mailbox: str, way: str) -> int:
        """An attempt ended: raise what is final, or wait; gives how often that was so in a row."""
        if is_final(error, alone=False, worked_before=True):
            raise error
        await follower.wait_out(error, tries + 1, mailbox, way)
        return tries + 1

    # -- NOTIFY ----------------------------------------------------------------------------------------

    async def _by_notify(self, follower: Follower) -> None:
        """Over one connection, for ever; returns where the server does not take it."""
        follower.gate.watchers = 1
        tries = 0
        while True:
            told: set[str] = set()
            began = asyncio.get_running_loop().time()
            try:
                has_gaps = await self._notify_once(follower, told)
            except (CommandNo, CommandBad) as error:
                follower.tell_trouble(error, 0.0, "", "notify")
                return
            except ImapipeError as error:
                self.reconnects += 1
                self._poll(follower, told)
                tries = await self._lost(follower, error, _tries_now(tries, began), "", "notify")
            else:
                tries = _tries_now(tries, began) if has_gaps else 0
                if has_gaps:
                    # A server that has too much to tell each time is not asked over and over.
                    overflow = CommandNo("NOTIFY", "NOTIFICATIONOVERFLOW", "there is more news than the server tells")
                    if tries == _MOST_OVERFLOWS:
                        follower.tell_trouble(overflow, 0.0, "", "notify")
                        return
                    tries = await self._lost(follower, overflow, tries, "", "notify")
            finally:
                self._poll(follower, told)

    async def _notify_once(self, follower: Follower, told: set[str]) -> bool:
        """Over one connection, as long as it goes; whether the server has more news than it tells, which ended it."""
        gate = follower.gate
        connection = await gate.take(None)
        end = asyncio.Event()
        has_gaps = False
        try:
            await connection.unselect()

            def heard(news: News) -> None:
                nonlocal has_gaps
                follower.heard()
                if news.status is not None:
                    self._told(follower, news.status, told)
                if news.has_new_names:
                    follower.look_again()
                if news.has_gaps:
                    # It tells nothing more: ask anew, which tells how all of them stand.
                    has_gaps = True
                    end.set()

            watching = connection.watch(
                heard,
                end,
                renew_seconds=self._idle_seconds,
                answer_seconds=follower.pool.plane_options.command_timeout_seconds,
                renewed=partial(self._renewed, follower, told, connection, end),
                notify=_names(follower),
            )
            await _until_aside(watching, gate.step_aside, end)
        finally:
            follower.pool.give_back(connection)
        return has_gaps

    def _told(self, follower: Follower, status: MailboxStatus, told: set[str]) -> None:
        followed = follower.mailboxes.get(status.name)
        if followed is not None and status.name not in told:
            told.add(status.name)
            self._goes(follower, followed, "notify")
        follower.told(status)

    def _renewed(self, follower: Follower, told: set[str], connection: Connection, end: asyncio.Event) -> None:
        # What it tells of it has named before it answered.
        follower.knows_ways()
        for name in told:
            follower.heard(follower.mailboxes.get(name))
        self._end_where_old(connection, end)

    # -- IDLE ------------------------------------------------------------------------------------------

    async def _by_idle(self, follower: Follower, number: int) -> None:
        """Over one connection, on the first mailbox that nobody else watches, for ever."""
        tries = 0
        while True:
            followed = self._claim(follower) if number < max(1, follower.gate.limit - 1) else None
            if followed is None:
                follower.changed.clear()
                await follower.changed.wait()
                continue
            began = asyncio.get_running_loop().time()
            try:
                await self._idle_once(follower, followed)
                tries = 0
            except ImapipeError as error:
                self.reconnects += 1
                self._poll(follower, (followed.name,))
                if isinstance(error, CommandNo):
                    follower.look_again()
                tries = await self._lost(follower, error, _tries_now(tries, began), followed.name, "idle")
            finally:
                self._claimed.discard(followed.name)
                self._poll(follower, (followed.name,))

    def _claim(self, follower: Follower) -> Followed | None:
        for name, followed in follower.mailboxes.items():
            if name not in self._claimed and not followed.is_gone:
                self._claimed.add(name)
                return followed
        return None

    async def _idle_once(self, follower: Follower, followed: Followed) -> None:
        gate = follower.gate
        connection = await gate.take(followed.name)
        end = asyncio.Event()
        try:
            selected = await connection.examine(followed.place.specification.mailbox)
            self._goes(follower, followed, "idle")
            follower.told(
                MailboxStatus(
                    followed.name,
                    messages=selected.exists,
                    uidnext=selected.uidnext,
                    uidvalidity=selected.uidvalidity,
                    mailbox_id=selected.mailbox_id or None,
                )
            )
            exists = selected.exists

            def heard(news: News) -> None:
                nonlocal exists
                follower.heard(followed)
                if news.exists is None:
                    return
                if news.exists > exists:
                    followed.expects(exists=news.exists)
                    follower.is_due(followed)
                exists = news.exists
                if followed.is_gone:
                    end.set()

            def renewed() -> None:
                follower.heard(followed)
                self._end_where_old(connection, end)

            watching = connection.watch(
                heard,
                end,
                renew_seconds=self._idle_seconds,
                answer_seconds=follower.pool.plane_options.command_timeout_seconds,
                renewed=renewed,
            )
            await _until_aside(watching, gate.step_aside, end)
        finally:
            follower.pool.give_back(connection)

    # -- both ------------------------------------------------------------------------------------------

    def _goes(self, follower: Follower, followed: Followed, way: Way) -> None:
        if followed.way != way:
            follower.goes(followed, way)

    def _poll(self, follower: Follower, names: Collection[str]) -> None:
        for name in names:
            followed = follower.mailboxes.get(name)
            if followed is not None and followed.way != "poll":
                self._goes(follower, followed, "poll")
                # The pause between two looks was for ways that are quicker.
                follower.look_again()

    @staticmethod
    def _end_where_old(connection: Connection, end: asyncio.Event) -> None:
        """Tokens run out, and so does the age that a connection may have."""
        if asyncio.get_running_loop().time() > connection.expires_at:
            end.set()


def _tries_now(tries: int, began: float) -> int:
    """How often in a row it was tried in vain, before an attempt that began then and ended now."""
    return 0 if asyncio.get_running_loop().time() - began > _WORKED_SECONDS else tries


async def _until_aside(watching: Coroutine[object, object, None], aside: asyncio.Event, end: asyncio.Event) -> None:
    """Watch, and end that where the connection is needed for something else."""
    task = asyncio.ensure_future(watching)
    needed = asyncio.ensure_future(aside.wait())
    try:
        await asyncio.wait((task, needed), return_when=asyncio.FIRST_COMPLETED)
        end.set()
        await asyncio.shield(task)
    finally:
        needed.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                # Seen, so that nobody complains of it; what is raised here is the cancellation.
                task.exception()


def _names(follower: Follower) -> list[str]:
    """The mailboxes that NOTIFY is to be for; none is all, also where that is easier to say, or surer."""
    if follower.territory.is_everything:
        return []
    names = [followed.name for followed in follower.mailboxes.values() if not followed.is_gone]
    is_short = len(names) <= _MOST_NAMES and sum(map(len, names)) <= _MOST_NAME_CHARACTERS
    return names if is_short and all(name.isascii() and "&" not in name for name in names) else []
