"""Messages are put into a mailbox: each once, each with a result, whatever happens on the way."""

from __future__ import annotations

import asyncio
import io
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from tests.pipeline.world import OpenWorld, World

import imapipe
from imapipe.connection import AppendUid, Body, Connection, NewMessage
from imapipe.pipeline.append import append, appending
from imapipe.pipeline.operation import recovery
from imapipe.testing import Act, CutAfterBytes, CutInput, Fault, Mailbox, Quota, Reply, Rewrite, Stall
from imapipe.testing.messages import make_messages

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("impatient")]

COUNT = 25


@pytest.fixture(params=[10, 100], ids=["a command a group", "a group of commands"])
def impatient(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    """The server of these tests does nothing any more when a connection has ended; gives the size of a group."""
    monkeypatch.setattr(recovery, "LOOK_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(append, "MAX_IN_GROUP", request.param)
    monkeypatch.setattr(appending, "MAX_TOGETHER", 10)
    return int(request.param)


async def _open(open_world: OpenWorld, **server: object) -> World:
    boxes = {"INBOX": Mailbox(make_messages(3, seed=9)), "Work": Mailbox(make_messages(2, seed=8))}
    return await open_world(boxes, **server)


RAW = list(make_messages(COUNT))


def _new() -> Iterator[NewMessage]:
    for number, raw in enumerate(RAW):
        yield NewMessage(raw, ["$Work"] if number % 2 else [])


def _retry() -> imapipe.Retry:
    return imapipe.Retry(wait_initial_seconds=0)


def _held(world: World) -> Counter[bytes]:
    return Counter(bytes(message.content.raw) for message in world.server.mailboxes["Work"] if message.uid > 2)


@pytest.mark.parametrize("remove", [(), ("MULTIAPPEND",), ("UIDPLUS", "LITERAL+")])
async def test_each_message_is_there_once_with_its_result(open_world: OpenWorld, remove: tuple[str, ...]) -> None:
    world = await _open(open_world, remove_extensions=remove)
    report = await world.pool.mailbox("Work").append(_new())
    assert (report.done, report.failed, report.complete) == (COUNT, 0, True)
    assert report.sent_bytes == sum(map(len, RAW))
    assert _held(world) == Counter(RAW)
    uids = [result.uid for result in report.results]
    assert uids == ([None] * COUNT if "UIDPLUS" in remove else list(range(3, COUNT + 3)))
    assert len(world.server.commands.named("APPEND")) == (COUNT if "MULTIAPPEND" in remove else 3)
    box = world.server.mailboxes["Work"]
    assert [box.flags_of(uid) for uid in (3, 4)] == [frozenset(), frozenset({"$Work"})]
    assert report.to_dict()["done"] == COUNT


async def test_a_group_costs_one_round_trip(open_world: OpenWorld) -> None:
    """The mailbox is asked about once, and never opened: the server would keep a view of it up to date."""
    world = await _open(open_world)
    await world.pool.mailbox("Work").append(_new())
    assert [record.name for record in world.server.commands if record.name in ("STATUS", "EXAMINE", "APPEND")] == [
        "STATUS",
        *["APPEND"] * 3,
    ]


@pytest.mark.parametrize("remove", [(), ("UIDPLUS",)])
@pytest.mark.parametrize("told", [None, b"UIDNEXT 3", b""])
async def test_a_mailbox_of_which_status_does_not_tell_is_opened(
    open_world: OpenWorld, told: bytes | None, remove: tuple[str, ...]
) -> None:
    world = await _open(open_world, remove_extensions=remove)

    def rewrite(line: bytes) -> bytes:
        return b"* STATUS Work (%b)\r\n" % told if told is not None and line[:1] == b"*" else line

    fault = (
        Reply("BAD", "what is that", command="STATUS", times=99) if told is None else Rewrite(rewrite, command="STATUS")
    )
    world.server.faults.add(fault, CutAfterBytes(0, command="APPEND", nth=2))
    report = await world.pool.mailbox("Work").append(_new(), use=[_retry()])
    assert (report.complete, report.uidvalidity) == (True, world.server.mailboxes["Work"].uidvalidity)
    assert _held(world) == Counter(RAW)


async def test_two_commands_are_on_their_way_and_no_more(
    open_world: OpenWorld, impatient: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server need not wait for the next one; cancelled, nothing goes on."""
    world = await _open(open_world)
    most = now = 0
    send = Connection.append

    async def counted(self: Connection, mailbox: str, *messages: NewMessage) -> AppendUid | None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        try:
            return await send(self, mailbox, *messages)
        finally:
            now -= 1

    monkeypatch.setattr(Connection, "append", counted)
    monkeypatch.setattr(appending, "MAX_TOGETHER", 5)
    report = await world.pool.mailbox("Work").append(_new())
    assert [result.uid for result in report.results] == list(range(3, COUNT + 3))
    assert (most, now) == (2, 0)
    arrived = asyncio.Event()
    world.server.faults.add(Act(lambda _: arrived.set(), command="APPEND", nth=2), Stall(command="APPEND", nth=2))
    job = asyncio.create_task(world.pool.mailbox("Work").append(_new()))
    await arrived.wait()
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert now == 0
    assert {task for task in asyncio.all_tasks() if "_send" in repr(task)} == set()


@pytest.mark.parametrize("told", [b"1", b"3", b"1:4294967295", b"3:12"])
@pytest.mark.parametrize("remove", [(), ("MULTIAPPEND",)])
async def test_where_a_message_cannot_be_is_not_told(
    open_world: OpenWorld, remove: tuple[str, ...], told: bytes
) -> None:
    """APPENDUID of what was there before, of a message that was appended earlier, and of too many or too few."""
    world = await _open(open_world, remove_extensions=remove)
    number = re.compile(rb"\[APPENDUID (\d+) \S+\]")
    world.server.faults.add(
        Rewrite(lambda line: number.sub(lambda match: b"[APPENDUID %b %b]" % (match[1], told), line), command="APPEND"),
        CutAfterBytes(0, command="APPEND", nth=3),
    )
    report = await world.pool.mailbox("Work").append(_new(), use=[_retry()])
    assert (report.complete, _held(world)) == (True, Counter(RAW))
    box = world.server.mailboxes["Work"]
    for raw, result in zip(RAW, report.results, strict=True):
        assert result.uid is None or bytes(box[result.uid].content.raw) == raw


async def test_a_command_of_which_some_came_before_the_refusal_is_not_doubled(
    open_world: OpenWorld, impatient: int
) -> None:
    """RFC 3502 wants all or none; of a server that keeps to something else what came is looked at."""
    world = await _open(open_world)
    box = world.server.mailboxes["Work"]

    def take_some(_: object) -> None:
        for raw in RAW[10:14]:
            box.append(raw)

    world.server.faults.add(
        Act(take_some, command="APPEND", nth=2), Reply("NO", "some of it does not please me", command="APPEND", nth=2)
    )
    report = await world.pool.mailbox("Work").append(_new())
    assert report.complete
    assert _held(world) == Counter(RAW)
    uids = [result.uid or 0 for result in report.results]
    assert [bytes(box[uid].content.raw) for uid in uids] == RAW
    # What was on its way behind those that were refused comes before they are sent again.
    assert (uids == sorted(uids)) is (impatient == 10)


async def test_a_mailbox_that_is_made_anew_meanwhile_is_no_proof(open_world: OpenWorld) -> None:
    """Under another UIDVALIDITY the UIDs above which one looks mean nothing: messages would be sent twice."""
    world = await _open(open_world)
    mailboxes = world.server.mailboxes

    def renumber(_: object) -> None:
        mailboxes["Work"].renumber()

    world.server.faults.add(CutAfterBytes(0, command="APPEND", nth=2), Act(renumber, command="EXAMINE", nth=1))
    report = await world.pool.mailbox("Work").append(_new(), use=[_retry()])
    assert isinstance(report.error, imapipe.UidValidityChanged)
    assert set(_held(world).values()) == {1}
    reasons = [result.failure.reason if result.failure else "" for result in report.results]
    assert reasons[:20] == [""] * 10 + ["in-doubt"] * 10


@pytest.mark.parametrize("spool_above", [1024, 1_000_000])
async def test_any_source_is_taken(open_world: OpenWorld, spool_above: int) -> None:
    """Files, pipes and asynchronous sources; one that lies fails alone, and so does one that cannot be sent."""
    world = await _open(open_world, options={"spool_above": spool_above})

    async def chunks(raw: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(raw), 100):
            yield raw[start : start + 100]

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    async def messages() -> AsyncIterator[NewMessage]:
        yield NewMessage(RAW[0])
        yield NewMessage(Body.from_file(io.BytesIO(RAW[1])))
        yield NewMessage(Body(chunks(RAW[2]), len(RAW[2])))
        yield NewMessage(Body(Pipe(RAW[3]), len(RAW[3])))
        yield NewMessage(Body(chunks(RAW[4]), len(RAW[4]) + 1))
        yield NewMessage(Body(io.BytesIO(RAW[4]), len(RAW[4]) + 1))
        yield NewMessage(b"")
        yield NewMessage(RAW[5], ["no flag"])

    world.server.faults.add(CutInput(command="APPEND", nth=1))
    report = await world.pool.mailbox("Work").append(messages(), use=[_retry()])
    assert _held(world) == Counter(RAW[:4])
    assert [result.uid for result in report.results] == [3, 4, 5, 6, None, None, None, None]
    assert [result.failure.reason for result in report.results if result.failure] == ["ValueError"] * 4
    with pytest.raises(TypeError, match="NewMessage"):
        await world.pool.mailbox("Work").append([RAW[0]])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="middleware"):
        await world.pool.mailbox("Work").append([], use=["Retry"])  # type: ignore[list-item]
    with pytest.raises(imapipe.CommandNo):
        await world.pool.mailbox("No such").append(_new())


@pytest.mark.parametrize("retried", [True, False])
@pytest.mark.parametrize("remove", [(), ("MULTIAPPEND",)])
@pytest.mark.parametrize(
    "cut",
    [
        lambda **given: CutInput(0, **given),
        lambda **given: CutInput(300, **given),
        lambda **given: CutAfterBytes(0, **given),
        lambda **given: CutAfterBytes(9, **given),
    ],
    ids=["before the literal", "in it", "answer lost", "in the answer"],
)
async def test_a_connection_cut_in_the_middle_doubles_and_loses_nothing(
    open_world: OpenWorld, cut: Callable[..., Fault], remove: tuple[str, ...], retried: bool
) -> None:
    """Before the literal, inside of it, with the answer lost, and in the middle of it."""
    world = await _open(open_world, remove_extensions=remove)
    world.server.faults.add(cut(command="APPEND", nth=2))
    report = await world.pool.mailbox("Work").append(_new(), use=[_retry()] if retried else [])
    held = _held(world)
    assert set(held.values()) == {1}
    told = Counter(raw for raw, result in zip(RAW, report.results, strict=True) if result.failure is None)
    # What is told to be there is there, and nothing else.
    assert told == held
    if retried:
        assert (report.done, report.complete) == (COUNT, True)
        assert report.retries >= 1
    uids = [result.uid for result in report.results if result.failure is None]
    box = world.server.mailboxes["Work"]
    assert [bytes(box[uid or 0].content.raw) for uid in uids] == [
        raw for raw, result in zip(RAW, report.results, strict=True) if result.failure is None
    ]


async def test_somebody_elses_messages_are_not_taken_for_ours(open_world: OpenWorld) -> None:
    """The same Message-ID and size, and other bytes."""
    world = await _open(open_world)
    twin = RAW[0][:-3] + b"?" + RAW[0][-2:]
    world.server.faults.add(CutInput(command="APPEND", nth=1))
    box = world.server.mailboxes["Work"]

    async def messages() -> AsyncIterator[NewMessage]:
        yield NewMessage(RAW[0])

    box.append(twin)
    report = await world.pool.mailbox("Work").append(messages(), use=[_retry()])
    assert [result.uid for result in report.results] == [4]
    assert _held(world) == Counter([twin, RAW[0]])


async def test_a_refused_message_fails_alone_by_its_reason(open_world: OpenWorld) -> None:
    world = await _open(open_world, append_limit=max(map(len, RAW)) - 1)
    report = await world.pool.mailbox("Work").append(_new())
    failed = [result.failure for result in report.results if result.failure is not None]
    assert [failure.reason for failure in failed] == ["APPENDLIMIT"]
    assert f"the server takes {max(map(len, RAW)) - 1}" in failed[0].detail
    assert (report.done, report.complete) == (COUNT - 1, False)
    # A server that does not say so beforehand refuses the group, and then the one.
    other = await _open(open_world, append_limit=max(map(len, RAW)) - 1, remove_extensions=["APPENDLIMIT"])
    report = await other.pool.mailbox("Work").append(_new())
    assert [result.failure.reason for result in report.results if result.failure] == ["TOOBIG"]
    assert _held(world) == _held(other)


async def test_nothing_more_is_sent_to_an_account_that_is_full(open_world: OpenWorld, impatient: int) -> None:
    world = await _open(open_world, quota=Quota(messages=5 + 12))
    report = await world.pool.mailbox("Work").append(_new(), use=[_retry()])
    assert report.done == 12
    assert {result.failure.reason for result in report.results if result.failure} == {"OVERQUOTA"}
    assert all(result.failure is not None for result in report.results[12:])
    # The group together, with what was on its way then, each of it until the one that did not fit, and no more.
    assert len(world.server.commands.named("APPEND")) == 1 + 1 + (impatient > 10) + 3
    assert _held(world) == Counter(RAW[:12])


async def test_limits_stand_around_it(open_world: OpenWorld, impatient: int) -> None:
    world = await _open(open_world)
    world.server.faults.add(Reply("NO", "Rate limit hit.", "LIMIT", command="APPEND", times=2))
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    limits = [imapipe.Retry(sleep=sleep), imapipe.RateLimit(messages_per_second=10_000, bytes_per_second=1e9)]
    report = await world.pool.mailbox("Work").append(_new(), use=limits)
    # Two that are on their way are refused together.
    assert (report.done, report.retries) == (COUNT, 2 if impatient == 10 else 1)
    assert min(waited) >= 5.0
    assert _held(world) == Counter(RAW)


async def test_what_ends_it_in_the_middle_is_in_the_report(
    open_world: OpenWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(append, "MAX_IN_GROUP", 10)
    world = await _open(open_world, remove_extensions=["UIDPLUS"])
    world.server.faults.add(
        Reply("NO", "gone", "NONEXISTENT", command="STATUS", nth=2),
        Reply("NO", "gone", "NONEXISTENT", command="EXAMINE", nth=1),
    )
    report = await world.pool.mailbox("Work").append(_new())
    assert isinstance(report.error, imapipe.CommandNo)
    # The second group, and the message by which it was known to be whole.
    assert (report.done, report.failed, report.complete) == (10, 11, False)
    assert {result.failure.reason for result in report.results if result.failure} == {"not-tried"}


async def test_what_cannot_be_found_out_stays_in_doubt_and_says_so(open_world: OpenWorld) -> None:
    world = await _open(open_world, remove_extensions=["MULTIAPPEND"])
    world.server.faults.add(
        CutAfterBytes(0, command="APPEND", nth=2), Reply("NO", "not now", "CANNOT", command="EXAMINE", times=99)
    )
    report = await world.pool.mailbox("Work").append(list(_new())[:3])
    reasons = [result.failure.reason if result.failure else "" for result in report.results]
    assert reasons[:2] == ["", "in-doubt"]
    assert _held(world) == Counter(RAW[:2])
