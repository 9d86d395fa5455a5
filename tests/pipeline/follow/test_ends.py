"""How following ends: before it began, by whoever follows, by somebody else; and what its watch does meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from tests.pipeline.follow.follower import Follower, awaited

import imapipe
from imapipe import search as q
from imapipe.pipeline.follow.watch import Watch, _until_aside
from imapipe.testing import Server


async def _ignore(_: imapipe.Message) -> None:
    """Take a message."""


@pytest.mark.asyncio
async def test_what_is_stopped_before_it_begins_ends_at_once_and_options_are_checked() -> None:
    async with Server({"INBOX": 1}) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        job = pool.mailbox("INBOX").search(q.ALL)
        with pytest.raises(ValueError, match='way is "notify", "idle" or "poll", not \'push\''):
            _ = job.follow(_ignore, way="push")  # type: ignore[call-overload]
        with pytest.raises(ValueError, match="poll_seconds and idle_seconds must be above 0"):
            _ = job.follow(_ignore, idle_seconds=0)
        follow = job.follow(_ignore)
        assert follow.health == imapipe.FollowHealth(is_running=False, heard_seconds_ago=None, trouble="", mailboxes={})
        follow.stop()
        report = await follow
        assert (report.planned, report.complete, server.counters.peak_connections) == (0, True, 0)


@pytest.mark.asyncio
async def test_an_iteration_that_is_stopped_ends_like_any_other() -> None:
    async with Server({"INBOX": 3}) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        handled: list[int] = []
        async with pool.mailbox("INBOX").search(q.ALL).follow() as messages:
            async for message in messages:
                handled.append(message.uid)
                if message.uid == 3:
                    messages.stop()
            assert handled == [1, 2, 3]
        assert messages.report.done >= 2


@pytest.mark.asyncio
async def test_following_that_somebody_else_cancels_is_cancelled_and_however_often_it_ends_once() -> None:
    async with Server({"INBOX": 3}) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        job = pool.mailbox("INBOX").search(q.ALL)
        for is_inner in (True, False):
            follower = Follower(pool)
            follow = job.follow(follower.handle)
            task = asyncio.ensure_future(awaited(follow))
            await follower.until(lambda follower=follower: follower.is_watched("notify"))  # type: ignore[misc]
            if is_inner:
                # As all tasks are at the end of a loop.
                assert follow._inner is not None
                follow._inner.cancel()
            else:
                for _ in range(3):
                    task.cancel()
                    await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (follow.report.done, follow.health.is_running, pool.stats.leased) == (3, False, 0)


@pytest.mark.asyncio
async def test_what_a_server_tells_is_asked_for_again_until_it_can_be_and_what_is_final_is_raised() -> None:
    waited: list[tuple[str, int]] = []
    outcomes: list[object] = []

    class Pool:
        async def perform(self, ask: object) -> object:
            outcome = outcomes.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

    async def wait_out(error: Exception, tries: int, mailbox: str, way: str) -> None:
        waited.append((type(error).__name__, tries))

    follower = SimpleNamespace(pool=Pool(), gate=SimpleNamespace(use=nullcontext), wait_out=wait_out)
    watch = Watch("notify", 60.0)
    outcomes += [imapipe.ConnectionLost("it was cut"), imapipe.CommandTimeout("NOOP", timeout_seconds=5.0), "idle"]
    assert await watch._offered(follower) == "idle"  # type: ignore[arg-type]
    assert waited == [("ConnectionLost", 1), ("CommandTimeout", 2)]
    outcomes.append(imapipe.AuthenticationFailed("ann", "", "refused"))
    with pytest.raises(imapipe.AuthenticationFailed):
        await watch._offered(follower)  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_watching_ends_where_its_connection_is_too_old_or_needed() -> None:
    now = asyncio.get_running_loop().time()
    for expires_at, is_old in ((now - 1.0, True), (now + 100.0, False)):
        end = asyncio.Event()
        Watch._end_where_old(SimpleNamespace(expires_at=expires_at), end)  # type: ignore[arg-type]
        assert end.is_set() == is_old

    async def watching() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise imapipe.ConnectionLost("it was cut in the middle of DONE") from None

    # Cancelled, that is what is raised, and nobody complains of what came of it.
    task = asyncio.ensure_future(_until_aside(watching(), asyncio.Event(), asyncio.Event()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
