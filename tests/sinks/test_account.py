"""Copying to another account: the same bytes, flags and times, whatever is cut off, and nothing twice."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import orjson
import pytest
import pytest_asyncio
from tests.sinks.conftest import ODD

import imapipe
from dovecot_server import DovecotServer
from imapipe import search as q
from imapipe import sinks
from imapipe.events import ServerAwaited
from imapipe.pipeline import outage
from imapipe.testing import Act, CutAfterBytes, CutInput, Mailbox, Reply, Rewrite, Server
from imapipe.testing.faults.base import Fault
from imapipe.testing.messages import make_messages

COUNT = 60
Seen = Counter[tuple[bytes, frozenset[str], object]]


async def holds(pool: imapipe.Pool, mailbox: str = "INBOX") -> Seen:
    """All that is in a mailbox, each as often."""
    job = pool.mailbox(mailbox).search(q.ALL).fetch("full")
    return Counter([(m.body, m.flags - {"\\Recent"}, m.internal_date) async for m in job])


class Two:
    """A source with messages, and an empty target."""

    def __init__(self, source: Server, target: Server, here: imapipe.Pool, there: imapipe.Pool) -> None:
        self.source = source
        self.target = target
        self.here = here
        self.there = there

    async def copy(self, state: Path | None = None, mailbox: str = "INBOX", **options: object) -> imapipe.RunReport:
        """Copy a mailbox."""
        sink = sinks.Account(self.there, state=state, **options)  # type: ignore[arg-type]
        return (
            await self.here.mailbox(mailbox).search(q.ALL).fetch("full").batch(10).run(sink, commit_every_messages=10)
        )

    def appended(self) -> int:
        """How many messages the target's server took."""
        return sum(record.messages or 0 for record in self.target.commands.named("APPEND") if record.outcome == "OK")


@pytest_asyncio.fixture(params=["modern", "plain"])
async def two(request: pytest.FixtureRequest) -> AsyncIterator[Two]:
    """With every extension, with none, or with UIDs told and one message a command."""
    async with AsyncExitStack() as stack:
        messages = [*ODD, *ODD[:1], *make_messages(COUNT - len(ODD) - 1, seed=4)]
        source = await stack.enter_async_context(Server(messages, user="ann"))
        target = await stack.enter_async_context(Server(0, user="bob", extensions=request.param))
        pools = [
            await stack.enter_async_context(imapipe.create_pool(server.url, password=server.password))
            for server in (source, target)
        ]
        yield Two(source, target, *pools)


@pytest.mark.asyncio
async def test_the_same_bytes_flags_and_times(two: Two, tmp_path: Path) -> None:
    async with two.here.acquire("INBOX", write=True) as connection:
        await connection.imap.uid("store", "3:5", "+FLAGS", "(\\Seen $Work)")
    report = await two.copy(tmp_path / "state")
    assert report.complete
    assert await holds(two.there) == await holds(two.here)
    assert two.appended() == COUNT


@pytest.mark.asyncio
@pytest.mark.parametrize("two", ["plain"], indirect=True)
@pytest.mark.parametrize("refused", [1, 99])
async def test_keywords_are_left_out_only_where_they_are_what_is_refused(two: Two, refused: int) -> None:
    box = two.source.mailboxes["INBOX"]
    for uid in (5, 9, 14):
        box.set_flags(uid, {"\\Seen", "$Work"})
    with_keywords = Reply(
        "NO", "Not now", command="APPEND", when=lambda record: "$Work" in record.arguments, times=refused
    )
    two.target.faults.add(with_keywords)
    assert (await two.copy()).complete
    flags = Counter(flags for _, flags, _ in (await holds(two.there)).elements())
    kept = {"\\Seen", "$Work"} if refused == 1 else {"\\Seen"}
    assert flags == {frozenset(): COUNT - 3, frozenset(kept): 3}
    # Once it is known that none are taken, no message is tried twice with them.
    assert with_keywords.fired == (1 if refused == 1 else 4)


@pytest.mark.asyncio
@pytest.mark.parametrize("keeps_state", [True, False])
async def test_running_again_appends_nothing(two: Two, tmp_path: Path, keeps_state: bool) -> None:
    state = tmp_path / "state"
    for _ in range(3):
        report = await two.copy(state)
        assert report.done + report.skipped == COUNT
        if not keeps_state:
            state.unlink()
    assert two.appended() == COUNT
    assert await holds(two.there) == await holds(two.here)


@pytest.mark.asyncio
@pytest.mark.parametrize("two", ["modern", "plain", "exchange"], indirect=True)
@pytest.mark.parametrize("at", [1, 5])
@pytest.mark.parametrize("kind", ["reply", "input", "middle"])
async def test_an_answer_that_is_missing_doubles_nothing_and_loses_nothing(
    two: Two, tmp_path: Path, at: int, kind: str
) -> None:
    faults: dict[str, Fault] = {
        "reply": CutAfterBytes(0, command="APPEND", nth=at),
        "input": CutInput(command="APPEND", nth=at),
        "middle": CutInput(700, command="APPEND", nth=at),
    }
    two.target.faults.add(faults[kind])
    assert (await two.copy(tmp_path / "state")).complete
    assert await holds(two.there) == await holds(two.here)


@pytest.mark.asyncio
@pytest.mark.parametrize("two", ["modern", "plain", "exchange"], indirect=True)
@pytest.mark.parametrize("is_rewritten", [False, True])
async def test_what_the_state_does_not_tell_any_more_is_found(
    two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_rewritten: bool
) -> None:
    """Its last lines were never written, or are gone: as many as may be, of one that grew or that was read before."""
    monkeypatch.setattr("imapipe.sinks.copied.MAX_PAIRS", 7)
    monkeypatch.setattr("imapipe.sinks.copying.MAX_PAIRS", 7)
    state = tmp_path / "state"
    for _ in range(1 + is_rewritten):
        assert (await two.copy(state)).complete
    lines = state.read_bytes().splitlines(keepends=True)
    assert len(lines) > COUNT // 10
    for kept in range(1, len(lines)):
        state.write_bytes(b"".join(lines[:kept]) + lines[kept][:20])
        assert (await two.copy(state)).complete
        assert two.appended() == COUNT, f"{kept} of {len(lines)} lines"
    assert await holds(two.there) == await holds(two.here)


@pytest.mark.asyncio
async def test_a_group_of_which_some_came_before_the_refusal_is_not_doubled(tmp_path: Path) -> None:
    """RFC 3502 wants all or none; of a server that keeps to something else what came is looked at."""
    messages = list(make_messages(COUNT, seed=4))
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(Server(given, user=name)) for given, name in ((messages, "ann"), (0, "bob"))
        ]
        pools = [
            await stack.enter_async_context(imapipe.create_pool(server.url, password=server.password))
            for server in servers
        ]
        here, there = pools
        source, box = (server.mailboxes["INBOX"] for server in servers)

        def take_some(_: object) -> None:
            for message in list(source)[2:5]:
                box.append(bytes(message.content.raw), message.flags, message.internal_date)

        servers[1].faults.add(
            Act(take_some, command="APPEND", nth=1),
            Reply("NO", "some of it does not please me", command="APPEND", nth=1),
        )
        report = await Two(servers[0], servers[1], here, there).copy(tmp_path / "state")
        assert report.complete
        assert await holds(there) == await holds(here)


@pytest.mark.asyncio
async def test_what_is_too_large_is_named_and_a_full_account_ends_the_run(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        large = b"Subject: large\r\n\r\n" + b"x" * 5000 + b"\r\n"
        source = await stack.enter_async_context(
            Server([b"Subject: 1\r\n\r\n1\r\n", large, b"Subject: 3\r\n\r\n3\r\n"])
        )
        target = await stack.enter_async_context(Server(0, append_limit=4000))
        here, there = [
            await stack.enter_async_context(imapipe.create_pool(server.url, password=server.password))
            for server in (source, target)
        ]
        with pytest.raises(ValueError, match=r'put \.fetch\("full"\)'):
            await here.mailbox("INBOX").search(q.ALL).fetch("envelope").run(sinks.Account(there))
        report = await here.mailbox("INBOX").search(q.ALL).fetch("full").run(sinks.Account(there, {"INBOX": "Copy/In"}))
        assert (report.done, report.failed) == (2, 1)
        assert "4000" in str(report.failures[2])
        assert sum((await holds(there, "Copy/In")).values()) == 2
        assert (tmp_path / "state").exists() is False


@pytest.mark.asyncio
@pytest.mark.parametrize("told", [b"4294967295", b"1", b"3", b"1:4294967295", b"3:*"])
async def test_what_an_appenduid_says_that_cannot_be_costs_nothing(tmp_path: Path, told: bytes) -> None:
    """The same UID for each of them, or one that was there; and the last one that there is."""

    def lie(line: bytes) -> bytes:
        return re.sub(rb"(APPENDUID \d+) \S+\]", rb"\1 " + told + b"]", line)

    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(Server(list(make_messages(15, seed=4)), user="ann"))
        # One in each command: of several the number would be wrong.
        server = Server(list(make_messages(2, seed=5)), user="bob", remove_extensions=["MULTIAPPEND"])
        target = await stack.enter_async_context(server)
        target.faults.add(Rewrite(lie, command="APPEND", times=99))
        pools = [
            await stack.enter_async_context(imapipe.create_pool(server.url, password=server.password))
            for server in (source, target)
        ]
        two = Two(source, target, *pools)
        theirs = await holds(two.there)
        # One of the answers is lost: what came of it is looked for.
        target.faults.add(CutAfterBytes(0, command="APPEND", nth=14))
        for _ in range(2):
            assert (await two.copy(tmp_path / "state")).complete
            assert await holds(two.there) == await holds(two.here) + theirs
        taken = [
            there
            for line in (tmp_path / "state").read_bytes().splitlines()[1:]
            for _, there in orjson.loads(line)["uids"]
        ]
        assert sorted(filter(None, taken)) == sorted({*filter(None, taken)})
        assert not {1, 2} & {*taken}


@pytest.mark.asyncio
async def test_whole_accounts(two: Two, tmp_path: Path) -> None:
    two.source.mailboxes.add("Archive", Mailbox(list(make_messages(7, seed=8))))
    for _ in range(2):
        job = two.here.each("*").search(q.ALL).fetch("full")
        report = await job.run(sinks.Account(two.there, lambda name: f"Old/{name}", state=tmp_path / "state"))
        assert report.complete
    assert two.appended() == COUNT + 7
    for name in ("INBOX", "Archive"):
        assert await holds(two.there, f"Old/{name}") == await holds(two.here, name)


@pytest.mark.asyncio
async def test_to_dovecot_and_back(dovecot: DovecotServer, tmp_path: Path) -> None:
    users = [dovecot.new_user("copy") for _ in range(3)]
    dovecot.fill(users[0], "INBOX", make_messages(40, seed=6))
    async with AsyncExitStack() as stack:
        pools = [
            await stack.enter_async_context(
                imapipe.create_pool(dovecot.url(user), user=user, password=dovecot.password)
            )
            for user in users
        ]
        for here, there in pairwise(pools):
            for state in (tmp_path / "state", tmp_path / "state", None):
                job = here.mailbox("INBOX").search(q.ALL).fetch("full")
                report = await job.run(sinks.Account(there, state=state))
                assert report.done + report.skipped == 40
        first, *others = await asyncio.gather(*map(holds, pools))
        assert others == [first, first]


@pytest.mark.asyncio
@pytest.mark.parametrize("cut", [0, 900, 60_000])
async def test_the_source_may_be_cut_off(two: Two, tmp_path: Path, cut: int) -> None:
    two.source.faults.add(CutAfterBytes(cut, command="UID FETCH", nth=2, times=3))
    sink = sinks.Account(two.there, state=tmp_path / "state")
    job = two.here.mailbox("INBOX").search(q.ALL).fetch("full").batch(10).use(imapipe.Retry())
    assert (await job.run(sink, commit_every_messages=10)).complete
    # Behind a short answer the cut is still to come, on that connection: the look at the end has others.
    two.source.faults.clear()
    async with imapipe.create_pool(two.source.url, password=two.source.password) as again:
        assert await holds(two.there) == await holds(again)
    assert two.appended() == COUNT


@pytest.mark.asyncio
async def test_others_change_both_sides_meanwhile(two: Two, tmp_path: Path) -> None:
    """Mail arrives, is removed and flagged here; mail of others and a twin arrive there, and a copy is removed."""
    here, there = two.source.mailboxes["INBOX"], two.target.mailboxes["INBOX"]
    foreign = b"Message-ID: <foreign@example.org>\r\nSubject: of somebody else\r\n\r\n"
    late = [message + b"late\r\n" for message in make_messages(3, seed=9)]
    twin = here[COUNT]
    # It may have been read before.
    removed = Counter([here[COUNT - 1].content.raw])

    def change(_: object) -> None:
        here.expunge([COUNT - 1])
        here.extend(late)
        here.set_flags(COUNT - 2, {"\\Flagged"})
        there.append(foreign)
        there.append(twin.content.raw, twin.flags, twin.internal_date)
        there.expunge([there.uids[0]])

    two.target.faults.add(Act(change, "reply", command="APPEND", nth=3))
    state = tmp_path / "state"
    await two.copy(state)
    await two.copy(state)
    copied = Counter(message.content.raw for message in there)
    left = Counter(message.content.raw for message in here)
    first = Counter([ODD[0]])
    # Of a server that does not tell where messages went, what somebody else put in may be met first, and is the copy.
    others = Counter([foreign, twin.content.raw] if "UIDPLUS" in two.target.extensions else [foreign])
    # All that is here is there once; besides there is what others put in, and not what they took away.
    assert copied - left - removed == others
    assert left - copied == first
    state.unlink()
    await two.copy(state)
    # What was removed there was copied again, since nothing is known of it any more.
    copied = Counter(message.content.raw for message in there)
    assert copied - removed == left + others


@pytest.mark.asyncio
async def test_where_each_message_is_a_command_several_connections_send_them(two: Two, tmp_path: Path) -> None:
    two.target.latency_seconds = 0.02
    assert (await two.copy(tmp_path / "state")).complete
    used = Counter(record.connection for record in two.target.commands.named("APPEND"))
    together = "MULTIAPPEND" in two.target.extensions
    assert (len(used), max(used.values()) < 20 or together) == (1 if together else 4, True)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("code", "text"),
    [("", "Request is throttled. Suggested Backoff Time: 20 milliseconds"), ("UNAVAILABLE", "not now")],
)
async def test_a_server_that_asks_for_less_refuses_nothing(two: Two, tmp_path: Path, code: str, text: str) -> None:
    two.target.faults.add(Reply("NO", text, code=code, command="APPEND", nth=2))
    waits: list[object] = []
    two.there.events.subscribe(waits.append)
    report = await two.copy(tmp_path / "state")
    assert (report.complete, report.failed) == (True, 0)
    assert await holds(two.there) == await holds(two.here)
    assert sum(isinstance(event, ServerAwaited) for event in waits) > 0


@pytest.mark.asyncio
async def test_what_has_no_message_id_is_not_taken_for_another_of_its_size_and_second() -> None:
    """Of two mails of a machine one is there already: it must not stand for the other, which would be lost."""
    first, second = (b"Subject: quota\r\n\r\nYour mailbox is %d%% full.\r\n" % percent for percent in (80, 90))
    async with Server([first, second], user="ann") as source, Server([second], user="bob") as target:
        for server in (source, target):
            for message in server.mailboxes["INBOX"]:
                message.internal_date = datetime(2026, 3, 1, tzinfo=UTC)
        async with (
            imapipe.create_pool(source.url, password=source.password) as here,
            imapipe.create_pool(target.url, password=target.password) as there,
        ):
            report = await here.mailbox("INBOX").search(q.ALL).fetch("full").run(sinks.Account(there))
            assert report.done == 2
            assert await holds(there) == await holds(here)


@pytest.mark.asyncio
@pytest.mark.parametrize("two", ["plain"], indirect=True)
async def test_a_message_at_which_the_other_server_hangs_up_costs_itself(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "_FIRST_WAIT_SECONDS", 0.01)
    poison = [b"Subject: poison %d\r\n\r\n" % number + b"x" * 7777 for number in (1, 2)]
    uids = two.source.mailboxes["INBOX"].extend(poison)
    two.source.mailboxes["INBOX"].extend(make_messages(5, seed=7))
    sent = f"{{{len(poison[0])}"
    two.target.faults.add(CutInput(command="APPEND", when=lambda record: sent in record.arguments))
    report = await two.copy()
    assert (report.done, sorted(report.failures)) == (COUNT + 5, uids)
    assert {failure.reason for failure in report.failures.values()} == {"ConnectionLost"}
    here = await holds(two.here)
    assert await holds(two.there) == Counter({seen: here[seen] for seen in here if seen[0] not in poison})
    # Where nothing else is left, too.
    assert sorted((await two.copy()).failures) == uids


@pytest.mark.asyncio
@pytest.mark.parametrize("extensions", ["modern", "plain"])
async def test_what_was_refused_is_not_done_when_the_connection_is_lost_behind_it(extensions: str) -> None:
    """Of a message too large and one that the server does not want, both stay failed, whoever has to be asked anew."""
    messages = [*make_messages(3, seed=4, size=500), b"Subject: large\r\n\r\n" + b"x" * 5000, b"Subject: no\r\n\r\n"]
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(Server(messages))
        target = await stack.enter_async_context(Server(0, append_limit=4000, extensions=extensions))
        unwanted = f"{{{len(messages[-1])}"
        target.faults.add(
            Reply(
                "NO", "not this one", code="CANNOT", command="APPEND", when=lambda record: unwanted in record.arguments
            ),
            CutAfterBytes(0, command="APPEND", when=lambda record: unwanted not in record.arguments, times=1),
        )
        here, there = [
            await stack.enter_async_context(imapipe.create_pool(server.url, password=server.password, max_size=1))
            for server in (source, target)
        ]
        job = here.mailbox("INBOX").search(q.ALL).fetch("full").newest_first()
        report = await job.run(sinks.Account(there))
        assert report.done == len(target.mailboxes["INBOX"])
        assert 4 in report.failures
        assert report.done + report.failed == 5
