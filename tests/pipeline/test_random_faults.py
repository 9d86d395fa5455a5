"""Whatever goes wrong, and however a run is used: the sums are right, nothing is handled twice, nothing is left."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import imapipe
from imapipe import search as q
from imapipe.mime.part import parse_parts
from imapipe.mime.selection import PLAIN
from imapipe.mime.text import read_text
from imapipe.net.pool import connection_limit
from imapipe.pipeline import access, lane
from imapipe.testing import (
    Bye,
    CutAfterBytes,
    CutConnection,
    Delay,
    Fault,
    Inject,
    NilBodies,
    OmitUids,
    PoisonUids,
    RefuseConnection,
    RefuseLogin,
    ReplaceResponses,
    Reply,
    Server,
    SyntheticMailbox,
)

pytestmark = pytest.mark.slow

MESSAGES = 40
uid = st.integers(1, MESSAGES)
uids = st.frozensets(uid, min_size=1, max_size=4)
which: st.SearchStrategy[dict[str, int]] = st.one_of(
    st.fixed_dictionaries({"nth": st.integers(1, 6)}),
    st.fixed_dictionaries({"times": st.integers(1, 3)}),
    st.just({}),
)
once = st.fixed_dictionaries({"nth": st.integers(1, 5), "times": st.integers(1, 2)})
commands = st.sampled_from(["UID FETCH", "UID FETCH", "UID SEARCH", "EXAMINE", None])

faults: st.SearchStrategy[Fault] = st.one_of(
    st.builds(
        lambda after, kind, command, when: CutAfterBytes(after, kind, command=command, **when),
        st.integers(0, 6000),
        st.sampled_from(["close", "reset"]),
        commands,
        once,
    ),
    st.builds(lambda after, when: CutConnection(after, **when), st.integers(0, 4000), once),
    st.builds(lambda command, when: Bye("Autologout; idle for too long", command=command, **when), commands, once),
    st.builds(
        lambda status, code, after, when: Reply(status, "hm", code, after, command="UID FETCH", **when),
        st.sampled_from(["NO", "BAD"]),
        st.sampled_from(["", "UNAVAILABLE", "SERVERBUG", "INUSE"]),
        st.booleans(),
        which,
    ),
    st.builds(lambda given, when: OmitUids(given, **when), uids, which),
    st.builds(lambda given, when: NilBodies(given, **when), uids, which),
    st.builds(
        lambda given, action, before: PoisonUids(given, action, deliver_before=before),
        st.frozensets(uid, min_size=1, max_size=1),
        st.sampled_from(["NO", "cut", "reset"]),
        st.booleans(),
    ),
    st.builds(
        lambda given: ReplaceResponses({n: b'* %d FETCH (UID %d FLAGS (\\Seen "\r\n' % (n, n) for n in given}), uids
    ),
    st.builds(
        lambda where, when: Inject(
            b"* 3 FETCH (UID 3 FLAGS ())\r\n* OK so far\r\n* 5 FETCH (FLAGS ())\r\n", where, **when
        ),
        st.sampled_from(["before", "reply", "after", "messages"]),
        which,
    ),
    st.builds(lambda when: RefuseConnection(**when), once),
    st.builds(lambda when: RefuseLogin(**when), once),
    st.builds(lambda when: Delay(0.001, **when), which),
)


@dataclass(frozen=True)
class Use:
    """How a run is used."""

    how: Literal["run", "stream", "batches"]
    connections: int
    concurrency: int
    batch: int
    depth: int | None
    fetch: str
    retry: bool
    bad: frozenset[int]
    expunge: frozenset[int]
    at: int
    profile: str


uses = st.builds(
    Use,
    how=st.sampled_from(["run", "run", "stream", "batches"]),
    connections=st.integers(1, 3),
    concurrency=st.integers(1, 4),
    batch=st.integers(1, 15),
    depth=st.one_of(st.none(), st.integers(1, 6)),
    fetch=st.sampled_from(["flags", "full", "text"]),
    retry=st.booleans(),
    bad=st.frozensets(uid, max_size=3),
    expunge=st.frozensets(uid, max_size=3),
    at=uid,
    profile=st.sampled_from(["modern", "plain", "everything"]),
)


def _texts(size: int | None) -> dict[int, str]:
    raws = {message.uid: message.content.raw for message in SyntheticMailbox(MESSAGES, size=size)}
    return {uid: read_text(raw, parse_parts(raw), PLAIN) for uid, raw in raws.items()}


TEXTS = {size: _texts(size) for size in (None, 700)}


async def _no_wait(_: float) -> None:
    await asyncio.sleep(0)


class _Job:
    """One run on a server with faults, and everything that must hold of it."""

    def __init__(self, given: list[Fault], use: Use) -> None:
        self.faults = given
        self.use = use
        self.handled: list[int] = []
        self.size = None if use.at % 2 else 700
        self.server = Server(SyntheticMailbox(MESSAGES, size=self.size), extensions=use.profile, faults=given)

    async def handle(self, message: imapipe.Message) -> None:
        self.handled.append(message.uid)
        if self.use.fetch == "text":
            # However it came: whole, in sections, after a second look.
            assert message.text == TEXTS[self.size][message.uid]
        if message.uid == self.use.at:
            self.server.mailboxes["INBOX"].expunge(self.use.expunge)
        if message.uid % 3 == 0:
            await asyncio.sleep(0)
        if message.uid in self.use.bad:
            raise ValueError(message.uid)

    async def report(self, pool: imapipe.Pool) -> imapipe.RunReport:
        use = self.use
        job = pool.mailbox("INBOX").search(q.ALL).fetch(use.fetch).batch(use.batch)
        if use.depth is not None:
            job = job.depth(use.depth)
        if use.retry:
            job = job.use(imapipe.Retry(attempts=3, sleep=_no_wait))
        if use.how == "run":
            return await job.run(self.handle, concurrency=use.concurrency, connections=use.connections)
        if use.how == "batches":
            async with job.batches(on_error="record", connections=use.connections) as batches:
                async for batch in batches:
                    self.handled += [message.uid for message in batch]
                return batches.report
        async with job.stream(connections=use.connections) as stream:
            async for message in stream:
                self.handled.append(message.uid)
            return stream.report

    async def go(self, cancel_after: int | None = None) -> None:
        before = asyncio.all_tasks()
        async with self.server as server:
            pool = imapipe.create_pool(
                server.url,
                password=server.password,
                spool_above=1024,
                max_spool_bytes=32768,
                max_held_bytes=8192,
                command_timeout_seconds=5,
            )
            report: imapipe.RunReport | None = None
            try:
                async with pool:
                    task = asyncio.create_task(self.report(pool))
                    if cancel_after is not None:
                        for _ in range(cancel_after):
                            await asyncio.sleep(0)
                        task.cancel()
                    try:
                        report = await task
                    finally:
                        # Given back by the run itself, not taken away by the pool when that closes.
                        assert pool.stats.leased == 0
            except (imapipe.ImapipeError, asyncio.CancelledError) as error:
                assert cancel_after is not None or not isinstance(error, asyncio.CancelledError)  # noqa: PT017
            stats = pool.stats
            assert (stats.leased, stats.idle, stats.opening, stats.waiting) == (0, 0, 0, 0)
            for _ in range(2000):
                if not server.counters.open_connections:
                    break
                await asyncio.sleep(0.001)
            assert server.counters.open_connections == 0
        assert asyncio.all_tasks() == before
        assert len(self.handled) == len(set(self.handled))
        if report is not None:
            assert report.planned == report.done + report.skipped + report.vanished + report.failed
            assert report.planned + report.unaccounted >= MESSAGES - len(self.use.expunge)
            assert len(report.failed_uids) == report.failed == len(report.failures)
            assert not report.failed_uids & imapipe.UidSet.from_numbers(
                set(self.handled) - (self.use.bad if self.use.how == "run" else set())
            )
            assert report.vanished <= len(self.use.expunge)
            assert report.complete == (not report.failed and not report.unaccounted)


@pytest.fixture(autouse=True, scope="module")
def _impatient() -> Iterator[None]:
    """The pool waits before it asks again; here it need not wait for long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection_limit, "REFUSED_PAUSE_SECONDS", 0.004)
        patch.setattr(connection_limit, "LONGEST_PAUSE_SECONDS", 0.01)
        patch.setattr(connection_limit, "FAILED_PAUSE_SECONDS", 0.002)
        patch.setattr(access, "LOOK_PAUSE_SECONDS", 0.001)
        patch.setattr(lane, "FIRST_PAUSE_SECONDS", 0.004)
        yield


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH208, PTH112


@pytest.mark.no_cover
@settings(max_examples=70, suppress_health_check=[HealthCheck.too_slow])
@given(given=st.lists(faults, max_size=4), use=uses)
def test_the_sums_are_right_and_nothing_is_left(given: list[Fault], use: Use) -> None:
    files = _open_files()
    asyncio.run(_Job(given, use).go())
    gc.collect()
    assert _open_files() <= files


@pytest.mark.no_cover
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(given=st.lists(faults, max_size=2), use=uses, cancel_after=st.integers(0, 400))
def test_cancelled_at_any_moment(given: list[Fault], use: Use, cancel_after: int) -> None:
    files = _open_files()
    asyncio.run(_Job(given, use).go(cancel_after))
    gc.collect()
    assert _open_files() <= files
