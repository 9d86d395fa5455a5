"""Following: what is there, then what arrives, whatever the connections do meanwhile."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
from tests.pipeline.follow.follower import Follower, awaited

import imapipe
from imapipe import search as q
from imapipe import sinks
from imapipe.events import FollowTrouble, MailboxGone
from imapipe.net.pool import pool as pool_module
from imapipe.pipeline.follow import follower as follower_module
from imapipe.testing import (
    Bye,
    CutAfterBytes,
    CutConnection,
    Inject,
    Mailbox,
    RefuseConnection,
    RefuseCredentials,
    Reply,
    Server,
)

_MAIL = b"Message-ID: <%d@x>\r\nSubject: new\r\n\r\nnew\r\n"
_WITHOUT_NOTIFY = {"LIST-STATUS", "IDLE", "ESEARCH", "UIDPLUS", "LITERAL+", "ENABLE", "CONDSTORE"}
_WITHOUT_IDLE = _WITHOUT_NOTIFY - {"IDLE"}


@asynccontextmanager
async def _following(
    server: Server,
    job: Callable[[imapipe.Pool], imapipe.Pipeline | imapipe.AccountPipeline],
    max_size: int = 4,
    silence_seconds: float = 60.0,
    **options: object,
) -> AsyncIterator[tuple[Follower, imapipe.Follow]]:
    async with imapipe.create_pool(
        server.url,
        password=server.password,
        max_size=max_size,
        command_timeout_seconds=silence_seconds,
        stall_timeout_seconds=silence_seconds,
    ) as pool:
        follower = Follower(pool)
        follow = job(pool).follow(follower.handle, **options)  # type: ignore[call-overload]
        task = asyncio.ensure_future(awaited(follow))
        try:
            yield follower, follow
        finally:
            follow.stop()
            await task


def check_sums(report: imapipe.FollowReport) -> None:
    assert report.planned == report.done + report.skipped + report.vanished + report.failed + report.pending


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("extensions", "way", "size", "expected"),
    [
        (None, "notify", 4, "notify"),
        (_WITHOUT_NOTIFY, "notify", 4, "idle"),
        (None, "notify", 1, "idle"),
        (None, "idle", 2, "idle"),
        (None, "poll", 4, "poll"),
    ],
)
async def test_what_is_there_and_what_arrives_by_each_way(
    extensions: set[str] | None, way: str, size: int, expected: str
) -> None:
    server = (
        Server({"INBOX": 3, "other": 2})
        if extensions is None
        else Server({"INBOX": 3, "other": 2}, extensions=extensions)
    )
    async with server:
        job = _following(
            server, lambda pool: pool.mailbox("INBOX").search(q.ALL).fetch("envelope"),
            way=way, max_size=size, poll_seconds=0.1 if way == "poll" else 60.0,
        )  # fmt: skip
        async with job as (follower, follow):
            await follower.until(lambda: len(follower.handled) == 3)
            await follower.until(lambda: follow.health.mailboxes["INBOX"].way == expected)
            for number in range(4, 8):
                server.mailboxes["INBOX"].append(_MAIL % number)
                await follower.until(lambda number=number: ("INBOX", number) in follower.handled)  # type: ignore[misc]
            assert set(follower.handled.values()) == {1}
            await follower.until(lambda: follow.report.done == 7)
            assert follow.health.is_running
            assert follow.health.mailboxes["INBOX"].lag_seconds == 0.0
        check_sums(follow.report)
        assert (follow.report.done, follow.report.complete, follow.report.latency_seconds.count) == (7, True, 4)
        assert not follow.health.is_running


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("extensions", "way", "expected"),
    [
        (None, "notify", {"INBOX": "notify", "other": "notify", "third": "notify"}),
        (_WITHOUT_NOTIFY, "notify", {"INBOX": "idle", "other": "idle", "third": "poll"}),
        (_WITHOUT_IDLE, "notify", {"INBOX": "poll", "other": "poll", "third": "poll"}),
        (None, "poll", {"INBOX": "poll", "other": "poll", "third": "poll"}),
    ],
)
async def test_by_which_way_news_comes_is_told_once_it_is_known(
    extensions: set[str] | None, way: Literal["notify", "poll"], expected: dict[str, str]
) -> None:
    options = {} if extensions is None else {"extensions": extensions}
    async with (
        Server({"INBOX": 3, "other": 2, "third": 0}, **options) as server,  # type: ignore[arg-type]
        imapipe.create_pool(server.url, password=server.password, max_size=3) as pool,
    ):
        follower = Follower(pool)
        follow = pool.each().search(q.ALL).fetch("envelope").follow(follower.handle, way=way)
        task = asyncio.ensure_future(awaited(follow))
        try:
            await follower.until(lambda: len(follower.told) >= 3)
            assert sorted(follower.told) == sorted(expected.items())
            assert {name: each.way for name, each in follow.health.mailboxes.items()} == expected
        finally:
            follow.stop()
            await task


@pytest.mark.asyncio
async def test_names_that_are_told_again_and_again_are_not_looked_at_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follower_module, "_BETWEEN_LOOKS_SECONDS", 3600.0)
    async with (
        Server({"INBOX": 1, "other": 1}) as server,
        _following(server, lambda pool: pool.each().search().fetch("flags")) as (follower, _),
    ):
        await follower.until(lambda: follower.is_watched("notify", "notify"))
        looks = len(server.commands.named("LIST"))
        for number in range(2, 6):
            server.push(b'* LIST () "/" "other"\r\n')
            server.mailboxes["INBOX"].append(_MAIL % number)
            await follower.until(lambda number=number: ("INBOX", number) in follower.handled)  # type: ignore[misc]
        assert len(server.commands.named("LIST")) == looks


@pytest.mark.asyncio
async def test_iterating_acknowledges_and_the_last_one_is_not(tmp_path: Path) -> None:
    async with Server({"INBOX": 2}) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch("envelope").use(imapipe.Checkpoint(tmp_path / "state.json"))
        uids = []
        async with asyncio.timeout(60), job.follow() as messages:
            async for message in messages:
                uids.append(message.uid)
                if message.uid == 2:
                    server.mailboxes["INBOX"].append(_MAIL % 3)
                if message.uid == 3:
                    break
        assert uids == [1, 2, 3]
        report = messages.report
        check_sums(report)
        assert (report.done, report.pending) == (2, 1)
        # The next one goes on where this one ended.
        async with asyncio.timeout(60), job.follow() as messages:
            async for message in messages:
                assert message.uid == 3
                break
        assert messages.report.skipped == 2


@pytest.mark.asyncio
async def test_all_mailboxes_with_those_that_come_go_and_get_other_names() -> None:
    async with Server({"INBOX": 1, "a": 1, "b": 0}) as server:
        job = _following(server, lambda pool: pool.each().search(q.ALL).fetch("envelope"), poll_seconds=0.2)
        async with job as (follower, follow):
            await follower.until(lambda: follower.is_watched("notify", "notify", "notify"))
            server.mailboxes.add("c", Mailbox())
            server.mailboxes["c"].append(_MAIL % 1)
            await follower.until(lambda: ("c", 1) in follower.handled)
            # It is told apart by MAILBOXID: nothing of it comes again.
            server.mailboxes.rename("a", "d")
            server.mailboxes["d"].append(_MAIL % 2)
            await follower.until(lambda: ("d", 2) in follower.handled)
            assert ("d", 1) not in follower.handled
            server.mailboxes.remove("b")
            await follower.until(lambda: MailboxGone("b") in follower.events)
        assert set(follower.handled.values()) == {1}
        assert (follow.report.done, follow.report.complete) == (4, True)


@pytest.mark.asyncio
async def test_beginning_again_opens_no_mailbox_in_which_nothing_is_new(tmp_path: Path) -> None:
    def job(pool: imapipe.Pool) -> imapipe.AccountPipeline:
        return pool.each().search(q.ALL).fetch("envelope").use(imapipe.Checkpoint(tmp_path / "state.json"))

    async with Server({"INBOX": 2, "a": 2, "b": 2}) as server:
        async with _following(server, job) as (follower, _):
            await follower.until(lambda: len(follower.handled) == 6)
        server.commands.clear()
        server.mailboxes["a"].append(_MAIL % 3)
        async with _following(server, job) as (follower, _):
            await follower.until(lambda: ("a", 3) in follower.handled)
        assert list(follower.handled) == [("a", 3)]
        looks = [(record.name, record.arguments) for record in server.commands.named("EXAMINE", "UID SEARCH")]
        assert looks == [("EXAMINE", '"a"')]


@pytest.mark.asyncio
@pytest.mark.parametrize("many", [False, True])
async def test_beginning_again_tries_what_failed_also_where_more_came_behind_it(tmp_path: Path, many: bool) -> None:
    def job(pool: imapipe.Pool) -> imapipe.Pipeline | imapipe.AccountPipeline:
        where = pool.each() if many else pool.mailbox("INBOX")
        return where.search(q.ALL).fetch("envelope").use(imapipe.Checkpoint(tmp_path / "state.json"))

    async with Server({"INBOX": 3}) as server:
        async with imapipe.create_pool(server.url, password=server.password) as pool:
            handled: list[int] = []
            third, fourth = asyncio.Event(), asyncio.Event()

            async def handle(message: imapipe.Message) -> None:
                if message.uid == 2:
                    raise ValueError("by the test")
                handled.append(message.uid)
                if message.uid > 2:
                    (third if message.uid == 3 else fourth).set()

            follow = job(pool).follow(handle)
            task = asyncio.ensure_future(awaited(follow))
            await third.wait()
            server.mailboxes["INBOX"].append(_MAIL % 4)
            await fourth.wait()
            follow.stop()
            report = await task
            check_sums(report)
            assert (sorted(handled), report.failed) == ([1, 3, 4], 1)
        async with _following(server, job) as (follower, again):
            await follower.until(lambda: ("INBOX", 2) in follower.handled)
        assert (list(follower.handled), again.report.done) == ([("INBOX", 2)], 1)


@pytest.mark.asyncio
async def test_uids_that_begin_anew_are_all_handled_and_a_checkpoint_says_no(tmp_path: Path) -> None:
    async with Server({"INBOX": 2}) as server:
        async with _following(server, lambda pool: pool.mailbox("INBOX").search(q.ALL)) as (follower, follow):
            await follower.until(lambda: len(follower.handled) == 2)
            server.mailboxes["INBOX"].uidvalidity += 1
            server.mailboxes["INBOX"].append(_MAIL % 3)
            await follower.until(lambda: follower.handled["INBOX", 1] == 2)
            await follower.until(lambda: ("INBOX", 3) in follower.handled)
        check_sums(follow.report)
        async with imapipe.create_pool(server.url, password=server.password) as pool:
            job = pool.mailbox("INBOX").search(q.ALL).use(imapipe.Checkpoint(tmp_path / "state.json"))
            await job.run(follower.handle)
            server.mailboxes["INBOX"].uidvalidity += 1
            with pytest.raises(imapipe.UidValidityChanged):
                await job.follow(follower.handle)


@pytest.mark.asyncio
async def test_final_errors_end_it_and_cancelling_saves(tmp_path: Path) -> None:
    async with Server({"INBOX": 5}) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        with pytest.raises(imapipe.CommandNo):
            await pool.mailbox("nowhere").search().follow(_ignore)
        with pytest.raises(TypeError, match="async"):
            await pool.mailbox("INBOX").search().follow(print)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="poll_seconds"):
            pool.mailbox("INBOX").search().follow(poll_seconds=0)
        done = asyncio.Event()

        async def handle(message: imapipe.Message) -> None:
            if message.uid == 5:
                done.set()
                await asyncio.Event().wait()

        job = pool.mailbox("INBOX").search(q.ALL).use(imapipe.Checkpoint(tmp_path / "state.json"))
        follow = job.follow(handle)
        task = asyncio.ensure_future(awaited(follow))
        await done.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        check_sums(follow.report)
        assert (follow.report.done, follow.report.pending) == (4, 1)
        assert pool.stats.leased == 0
        report = await job.run(_ignore)
        assert (report.skipped, report.done) == (4, 1)
        server.faults.add(RefuseCredentials())
        async with imapipe.create_pool(server.url, password=server.password) as other:
            with pytest.raises(imapipe.AuthenticationFailed):
                await other.mailbox("INBOX").search().follow(_ignore)


@pytest.mark.asyncio
async def test_a_sink_gets_all_and_commits(tmp_path: Path) -> None:
    async with (
        Server({"INBOX": 2, "a": 1}) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        follower = Follower(pool)
        follow = (
            pool.each().search(q.ALL).fetch("full").follow(sinks.Maildir(tmp_path / "mail"), commit_every_seconds=0.1)
        )
        task = asyncio.ensure_future(awaited(follow))
        await follower.until(lambda: follow.report.done == 3)
        server.mailboxes["a"].append(_MAIL % 2)
        await follower.until(lambda: follow.report.done == 4)
        follow.stop()
        report = await task
        assert (report.complete, report.latency_seconds.count) == (True, 1)
        assert len([path for path in (tmp_path / "mail").rglob("*") if path.parent.name in ("cur", "new")]) == 4


@pytest.mark.asyncio
async def test_whoever_waits_for_a_connection_gets_one_of_those_that_wait_for_news() -> None:
    async with (
        Server({"INBOX": 1}, extensions=_WITHOUT_NOTIFY) as server,
        imapipe.create_pool(server.url, password=server.password, max_size=2) as pool,
    ):
        follower = Follower(pool)
        asked = 0

        async def handle(message: imapipe.Message) -> None:
            nonlocal asked
            async with pool.acquire() as connection:
                await connection.noop()
                asked += 1
            await follower.handle(message)

        follow = pool.mailbox("INBOX").search(q.ALL).follow(handle)
        task = asyncio.create_task(awaited(follow))
        await follower.until(lambda: follower.is_watched("idle"))
        server.mailboxes["INBOX"].append(_MAIL % 2)
        await follower.until(lambda: ("INBOX", 2) in follower.handled)
        # And comes back to it.
        await follower.until(lambda: follow.health.mailboxes["INBOX"].way == "idle")
        assert asked == 2
        follow.stop()
        assert (await task).complete


@pytest.mark.asyncio
async def test_notify_that_is_refused_and_a_mailbox_that_goes_and_comes_back() -> None:
    async with Server({"INBOX": 1, "a": 2}, faults=[Reply("NO", "not now", command="NOTIFY")]) as server:
        job = _following(server, lambda pool: pool.mailbox("a").search(q.ALL), poll_seconds=0.1)
        async with job as (follower, follow):
            await follower.until(lambda: follower.is_watched("idle"))
            server.mailboxes.remove("a")
            await follower.until(lambda: MailboxGone("a") in follower.events)
            assert follow.health.mailboxes["a"].is_gone
            # Another mailbox of that name: its UIDs are other messages.
            server.mailboxes.add("a", Mailbox([_MAIL % 7], uidvalidity=77))
            await follower.until(lambda: follower.handled["a", 1] == 2)
            server.mailboxes["a"].append(_MAIL % 8)
            await follower.until(lambda: follower.handled["a", 2] == 2)
        check_sums(follow.report)
        assert (follow.report.done, follow.report.complete) == (4, True)


@pytest.mark.asyncio
async def test_a_server_that_always_has_too_much_to_tell_is_not_asked_over_and_over() -> None:
    fault = Inject(b"* OK [NOTIFICATIONOVERFLOW] too much\r\n", command="NOTIFY", where="after")
    async with Server({"INBOX": 1, "a": 2}, faults=[fault]) as server:
        job = _following(server, lambda pool: pool.each().search(q.ALL), poll_seconds=0.1)
        async with job as (follower, _):
            await follower.until(lambda: follower.is_watched("idle", "idle"))
            server.mailboxes["a"].append(_MAIL % 8)
            await follower.until(lambda: follower.handled["a", 3] == 1)
        assert len([record for record in server.commands if record.name == "NOTIFY"]) == 4
        assert [event.way for event in follower.events if isinstance(event, FollowTrouble)] == ["notify"] * 4


@pytest.mark.asyncio
async def test_a_message_that_the_server_cannot_give_now_is_asked_for_again() -> None:
    async with Server({"INBOX": 1}) as server:
        async with _following(server, lambda pool: pool.mailbox("INBOX").search(q.ALL).fetch("full")) as (
            follower,
            follow,
        ):
            await follower.until(lambda: follower.handled["INBOX", 1] == 1)
            server.faults.add(Reply("NO", "try later", code="SERVERBUG", command="UID FETCH", times=1))
            server.mailboxes["INBOX"].append(_MAIL % 8)
            await follower.until(lambda: follower.handled["INBOX", 2] == 1)
        check_sums(follow.report)
        assert follow.report.complete


@pytest.mark.asyncio
async def test_what_cannot_be_used_twice_or_without_a_block_says_so() -> None:
    async with Server({"INBOX": 1}) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        job = pool.mailbox("INBOX").search(q.ALL)
        with pytest.raises(RuntimeError, match=r"async with job\.follow"):
            await anext(job.follow())
        async with job.follow() as messages:
            await pool.close()
            with pytest.raises(imapipe.PoolClosed):
                await anext(messages)
        with pytest.raises(RuntimeError, match="used already"):
            await messages.__aenter__()


async def _ignore(_: imapipe.Message) -> None:
    return


@pytest.mark.asyncio
@pytest.mark.slow
@pytest.mark.parametrize("notify", [True, False])
async def test_a_thousand_arrivals_over_connections_that_are_cut_stalled_and_refused(notify: bool) -> None:
    """Each is handled once, or again where a cut came in the middle; nothing is lost, and trouble is told."""
    chance = random.Random(20 + notify)
    names = ["INBOX", *(f"box {number}" for number in range(19))]
    faults = [
        CutConnection(lambda: 4000 + int(chance.expovariate(1 / 12_000)), kind="reset"),
        CutAfterBytes(
            lambda: chance.randrange(400), kind="close", command="UID FETCH", when=lambda _: chance.random() < 0.1
        ),
        CutAfterBytes(0, kind="close", command="IDLE", nth=2),
        CutAfterBytes(10, kind="stall", command="IDLE", when=lambda _: chance.random() < 0.1),
        RefuseConnection(when=lambda _: chance.random() < 0.2),
        Bye("going", command="EXAMINE", when=lambda _: chance.random() < 0.03),
    ]
    boxes = dict.fromkeys(names, 1)
    server = Server(boxes, faults=faults) if notify else Server(boxes, faults=faults, extensions=_WITHOUT_NOTIFY)
    async with server:
        # Only here connections fall silent, and are to be given up soon; one more that is costs nothing.
        job = _following(
            server,
            lambda pool: pool.each().search(q.ALL).fetch("envelope"),
            silence_seconds=1.5,
            poll_seconds=1.0,
            idle_seconds=0.3,
        )
        async with job as (follower, follow):
            await follower.until(lambda: len(follower.handled) == 20)
            for _ in range(100):
                box = server.mailboxes[chance.choice(names)]
                for number in range(10):
                    box.append(_MAIL % number)
                await asyncio.sleep(chance.random() * 0.04)
            await follower.until(lambda: len(follower.handled) == 1020, seconds=90)
            # Where a slow machine got along with few bytes, none of those that wait for news was cut yet.
            while not follow.report.reconnects:
                server.disconnect_all()
                await asyncio.sleep(0.1)
            # One that ended in the middle is looked at once more.
            await follower.until(lambda: follow.report.done == 1020 and follow.report.complete, seconds=90)
            assert all(each.heard_seconds_ago is not None for each in follow.health.mailboxes.values())
        report = follow.report
        check_sums(report)
        assert (report.complete, report.failed, report.vanished) == (True, 0, 0)
        # Whatever was handled twice was so because its connection ended before the run knew.
        assert 1020 <= sum(follower.handled.values()) <= 1100
        assert report.latency_seconds.count >= 1000
        assert report.reconnects
        assert any(isinstance(event, FollowTrouble) for event in follower.events)


@pytest.mark.asyncio
async def test_arrivals_do_not_write_the_whole_checkpoint_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is opened once for the job, and each arrival adds lines to its journal."""
    documents = 0
    replace_file = os.replace

    def counted(source: str, target: str) -> None:
        nonlocal documents
        documents += target.endswith(".json")
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", counted)
    async with Server({"INBOX": 1}) as server:
        job = _following(
            server,
            lambda pool: (
                pool.mailbox("INBOX").search(q.ALL).fetch("flags").use(imapipe.Checkpoint(tmp_path / "state.json"))
            ),
        )
        async with job as (follower, follow):
            for number in range(2, 12):
                server.mailboxes["INBOX"].append(_MAIL % number)
                await follower.until(lambda number=number: follow.report.done >= number - 1)  # type: ignore[misc]
            await follower.until(lambda: follow.report.done == 11)
            assert documents == 1
    # The last one is of the end.
    assert documents == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("way", ["notify", "idle"])
@pytest.mark.parametrize("checkpoint", [False, True], ids=["", "checkpoint"])
async def test_an_arrival_costs_one_round_trip(
    tmp_path: Path, way: str, checkpoint: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EXAMINE and FETCH go out together, on a line of 100 ms, however long the connection was idle before."""
    monkeypatch.setattr(pool_module, "IDLE_CHECK_SECONDS", 0.0)
    async with Server({"INBOX": 3}, latency_seconds=0.1) as server:
        box = server.mailboxes["INBOX"]

        def job(pool: imapipe.Pool) -> imapipe.Pipeline:
            made = pool.mailbox("INBOX").search(q.ALL).fetch("full")
            return made.use(imapipe.Checkpoint(tmp_path / "state.json")) if checkpoint else made

        async with _following(server, job, way=way) as (follower, follow):
            await follower.until(lambda: follower.is_watched(way))
            await follower.until(lambda: follow.report.done == 3)
            # The first one may find no connection but that which waits.
            for turn, count in enumerate((1, 1, 1, 3)):
                last = len(box) + count
                server.commands.clear()
                for number in range(len(box), last):
                    box.append(_MAIL % number)
                await follower.until(lambda last=last: follow.report.done == last)  # type: ignore[misc]
                if turn and count == 1:
                    sent = [record for record in server.commands if record.name != "IDLE"]
                    assert [(record.name, record.pipelined) for record in sent] == [
                        ("EXAMINE", False),
                        ("UID FETCH", True),
                    ]
                # However the news of several is told, nothing comes twice.
                assert sum(server.commands.fetched().values()) == count
        assert set(follower.handled.values()) == {1}
        check_sums(follow.report)


@pytest.mark.asyncio
@pytest.mark.parametrize("what", ["other message", "uidvalidity", "limit"])
async def test_what_was_asked_for_in_vain_is_given_to_nobody(what: str) -> None:
    """What came is gone, or means other messages, before the mailbox is opened; or a limit is to be asked first."""
    async with Server({"INBOX": 3}, latency_seconds=0.05) as server:
        box = server.mailboxes["INBOX"]

        def job(pool: imapipe.Pool) -> imapipe.Pipeline:
            made = pool.mailbox("INBOX").search(q.ALL).fetch("full")
            return made.use(imapipe.RateLimit(messages_per_second=10_000)) if what == "limit" else made

        async with _following(server, job, way="notify") as (follower, follow):
            await follower.until(lambda: follower.is_watched("notify"))
            box.append(_MAIL % 4)
            await follower.until(lambda: follow.report.done == 4)
            server.commands.clear()
            box.append(_MAIL % 5)
            if what == "other message":
                await asyncio.sleep(0.01)
                box.expunge([5])
                box.append(_MAIL % 6)
                await follower.until(lambda: ("INBOX", 6) in follower.handled)
                assert ("INBOX", 5) not in follower.handled
            elif what == "uidvalidity":
                await asyncio.sleep(0.01)
                box.change_uidvalidity()
                await follower.until(lambda: follow.report.done == 9)
            else:
                await follower.until(lambda: ("INBOX", 5) in follower.handled)
                assert not any(record.pipelined for record in server.commands.named("UID FETCH"))
            await follower.until(lambda: follow.report.pending == 0)
        check_sums(follow.report)
        assert follow.report.complete
