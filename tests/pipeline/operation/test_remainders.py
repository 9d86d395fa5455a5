"""A body that was cut is gone on with, over any number of connections."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Final, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.pipeline.cutting_proxy import cutting_proxy
from tests.pipeline.world import OpenWorld, Watched, World, check_sums

import imapipe
from dovecot_server import DovecotServer
from imapipe import search as q
from imapipe.net.connection import Connection
from imapipe.net.spool import SpoolFile
from imapipe.net.unfinished import Part, Unfinished
from imapipe.pipeline.operation.remainders import Remainders
from imapipe.testing import (
    Act,
    CutAfterBytes,
    CutConnection,
    Fault,
    NilBodies,
    OmitItems,
    Reply,
    Rewrite,
    Server,
    WrongPartial,
    exponential_bytes,
)
from imapipe.testing.content import ParsedContent
from imapipe.testing.mailbox import Mailbox
from imapipe.testing.records import CommandRecord
from imapipe.testing.stored import FIRST_DATE, StoredMessage


async def no_wait(_: float) -> None:
    await asyncio.sleep(0)


PATIENT = imapipe.Retry(attempts=10, sleep=no_wait)


# Two thousand in `nox -s proof`.
MANY: Final = min(2000, int(os.environ.get("IMAPIPE_PROOF_MESSAGES", "400")))


def noise(size: int, seed: object = 0) -> bytes:
    """Bytes of which no two parts are alike, without line ends of their own."""
    return random.Random(str(seed)).randbytes(size).replace(b"\n", b"l").replace(b"\r", b"r").replace(b"\0", b"0")


def body_of(size: int, seed: object = 0) -> bytes:
    """A message of this size."""
    return b"Subject: x\r\n\r\n" + noise(size - 14, seed)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def is_partial(record: CommandRecord) -> bool:
    """Whether a command asks for a range."""
    return "]<" in record.arguments


def partials(world: World) -> list[CommandRecord]:
    """The commands that asked for a range."""
    return [record for record in world.server.commands.named("UID FETCH") if is_partial(record)]


async def fetch_all(job: imapipe.Pipeline) -> tuple[imapipe.RunReport, dict[int, bytes]]:
    """Run a job and keep what each message holds."""
    bodies: dict[int, bytes] = {}

    async def handle(message: imapipe.Message) -> None:
        assert message.uid not in bodies
        with message.open() as file:
            bodies[message.uid] = file.read()
        message.discard()

    report = await job.use(PATIENT).run(handle, connections=1)
    check_sums(report)
    return report, bodies


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["close", "reset"])
@pytest.mark.parametrize("spool_above", [1024, 100_000_000])
async def test_a_large_body_comes_through_short_connections(
    open_world: OpenWorld, watched: Watched, spool_above: int, kind: str
) -> None:
    body = body_of(2_000_000)
    world = await open_world(
        [body],
        options={"spool_above": spool_above},
        faults=[CutConnection(300_000, kind)],  # type: ignore[arg-type]
    )
    report, bodies = await fetch_all(world.job("full"))
    assert (report.done, bodies) == (1, {1: body})
    # No byte comes twice, but for those by which the rest is known.
    assert world.server.counters.connections == 7
    assert watched.open_files == 0
    assert not any(any(held) for held in watched.held)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fetch", "expected"),
    [
        (imapipe.Fetch("full", mark_seen=True), slice(None)),
        (imapipe.Fetch(section=""), slice(None)),
        (imapipe.Fetch(section="TEXT"), slice(14, None)),
        (imapipe.Fetch("size", section="1"), slice(14, None)),
        (imapipe.Fetch("flags", section="1", binary=True), slice(14, None)),
        (imapipe.Fetch(section="", partial=(1000, 350_000)), slice(1000, 351_000)),
        (imapipe.Fetch(section="TEXT", partial=(100_000, 900_000)), slice(100_014, None)),
    ],
)
async def test_whatever_is_asked_for_is_gone_on_with(
    open_world: OpenWorld, fetch: imapipe.Fetch, expected: slice
) -> None:
    body = body_of(400_000)
    world = await open_world([body], extensions="everything", faults=[CutConnection(120_000)])
    report, bodies = await fetch_all(world.job().fetch(fetch))
    assert (report.done, bodies) == (1, {1: body[expected]})
    assert partials(world)


@pytest.mark.asyncio
async def test_a_header_is_gone_on_with(open_world: OpenWorld) -> None:
    header = b"Subject: x\r\n" + b"".join(b"X-%d: %d\r\n" % (n, n * n) for n in range(20_000)) + b"\r\n"
    world = await open_world([header + b"text"], faults=[CutConnection(100_000)])
    seen: list[bytes] = []

    async def handle(message: imapipe.Message) -> None:
        seen.append(message.headers.raw)
        assert message.flags == frozenset()
        assert message.size == len(header) + 4

    await world.job("headers").use(PATIENT).run(handle)
    assert seen == [header]
    assert partials(world)


@pytest.mark.asyncio
@pytest.mark.parametrize("spool_above", [1024, 100_000_000])
async def test_the_sections_of_a_text_are_gone_on_with(
    open_world: OpenWorld, watched: Watched, spool_above: int
) -> None:
    """Three sections in one answer: those that came whole are not asked for again, the cut one is gone on with."""
    words = [" ".join(str(n * k) for n in range(20_000)) for k in (1, 2, 3)]
    body = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    for text in words:
        body += b"--b\r\nContent-Type: text/plain\r\n\r\n" + text.encode() + b"\r\n"
    body += b"--b\r\nContent-Type: application/pdf\r\n\r\n" + noise(500_000) + b"\r\n--b--\r\n"
    world = await open_world([body], options={"spool_above": spool_above}, faults=[CutConnection(80_000)])
    seen: list[str] = []

    async def handle(message: imapipe.Message) -> None:
        seen.append(message.text)
        message.discard()

    report = await world.job("text").use(PATIENT).run(handle)
    assert (report.done, len(seen)) == (1, 1)
    assert seen[0].split() == " ".join(words).split()
    assert world.server.counters.connections == sum(map(len, words)) // 80_000 + 1
    assert watched.open_files == 0
    assert not any(any(held) for held in watched.held)


@pytest.mark.asyncio
@pytest.mark.parametrize("order", ["asked", "uid_last", "shuffled"])
async def test_whatever_the_order_of_items(open_world: OpenWorld, order: str) -> None:
    """Where the UID comes last, it is known when only one message is waited for."""
    body = body_of(400_000)
    world = await open_world([body], fetch_order=order, faults=[CutConnection(100_000)])
    report, bodies = await fetch_all(world.job("full").batch(1))
    assert (report.done, bodies) == (1, {1: body})


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    sizes=st.lists(st.integers(15, 400_000), min_size=1, max_size=4),
    cuts=st.lists(st.integers(5000, 450_000), min_size=1, max_size=8),
    from_end=st.lists(st.integers(-3, 80), max_size=3),
    spool_above=st.sampled_from([1024, 100_000, 100_000_000]),
    batch=st.integers(1, 4),
)
def test_wherever_it_is_cut(
    sizes: list[int], cuts: list[int], from_end: list[int], spool_above: int, batch: int
) -> None:
    """In the middle, behind the last byte of a body, before the end of its answer, in the part that is compared."""
    bodies = {uid: body_of(size, uid) for uid, size in enumerate(sizes, 1)}
    # 650 bytes or so are said before the first body.
    left = [*cuts, *[max(5000, sizes[0] + 650 - near) for near in from_end]]

    async def check() -> None:
        async with Server([*bodies.values()]) as server:
            server.faults.add(CutConnection(lambda: left.pop() if left else 10**9))
            async with imapipe.create_pool(server.url, password=server.password, spool_above=spool_above) as pool:
                job = pool.mailbox("INBOX").search(q.ALL).fetch("full").batch(batch)
                report, seen = await fetch_all(job.use())
                assert report.done == len(bodies)
                assert seen == bodies

    asyncio.run(check())


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["shifted", "relabelled", "longer", "whole", "unlabelled"])
@pytest.mark.parametrize("spool_above", [1024, 100_000_000])
async def test_a_wrong_rest_is_noticed(open_world: OpenWorld, watched: Watched, kind: str, spool_above: int) -> None:
    """`longer` is right where there is nothing behind the end."""
    bodies = {uid: body_of(400_000, uid) for uid in range(1, 7)}
    cuts = CutConnection(250_000, times=4)
    world = await open_world(
        [*bodies.values()],
        options={"spool_above": spool_above},
        faults=[cuts, WrongPartial(kind)],  # type: ignore[arg-type]
    )
    report, seen = await fetch_all(world.job("full"))
    assert (report.done, seen) == (6, bodies)
    notes = {note.kind: count for note, count in report.notes.items()}
    assert notes.get("partial-fetch", 0) == (0 if kind == "longer" else 1)
    assert watched.open_files == 0
    assert not any(any(held) for held in watched.held)


def relabelled(response: bytes) -> bytes:
    """With the length of the range in its label."""
    return re.sub(rb"<(\d+)> \{(\d+)\}", rb"<\1.\2> {\2}", response, count=1)


def without_origin(response: bytes) -> bytes:
    """With the range not in its label."""
    return re.sub(rb"(\])<\d+>( \{)", rb"\1\2", response, count=1)


def of_another_size(response: bytes) -> bytes:
    """With a size that is 29 bytes too small."""
    return re.sub(rb"RFC822.SIZE (\d+)", lambda size: b"RFC822.SIZE %d" % (int(size[1]) - 29), response, count=1)


def none_to_spare(response: bytes) -> bytes:
    """With an empty string for a range."""
    return re.sub(rb"(\]<\d+>) \{\d+\}\r\n.*\)\r\n\Z", rb'\1 "")\r\n', response, count=1, flags=re.DOTALL)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("change", "fetch", "fits"),
    [
        # Twisted 5613.
        (relabelled, imapipe.Fetch("full"), True),
        # go-imap 663, RFC 3516 before its erratum 8217.
        (without_origin, imapipe.Fetch("size", section="1", binary=True), False),
        (without_origin, imapipe.Fetch("full"), False),
        # hMailServer 476, GreenMail 967: always wrong, and always the same.
        (of_another_size, imapipe.Fetch("full"), True),
        # What is behind the end by the count of the server (hMailServer 334).
        (none_to_spare, imapipe.Fetch("full"), False),
    ],
)
async def test_ranges_as_servers_tell_them(
    open_world: OpenWorld, change: Callable[[bytes], bytes], fetch: imapipe.Fetch, fits: bool
) -> None:
    body = body_of(400_000)
    rewrite = Rewrite(change, command="UID FETCH", when=is_partial if change is none_to_spare else None)
    world = await open_world([body], extensions="everything", faults=[CutConnection(200_000, times=1), rewrite])
    report, bodies = await fetch_all(world.job().fetch(fetch))
    assert report.done == 1
    assert bodies[1] in (body, body[14:])
    assert bool(report.notes) is not fits


@pytest.mark.asyncio
async def test_a_size_that_changes_from_one_answer_to_the_next(open_world: OpenWorld) -> None:
    """WildDuck 536: what it counts once and what it counts later differ by some bytes. The whole is asked for then."""
    body = body_of(400_000)
    rewrite = Rewrite(of_another_size, command="UID FETCH", nth=1)
    world = await open_world([body], faults=[CutConnection(200_000, times=1), rewrite])
    report, bodies = await fetch_all(world.job("full"))
    assert (report.done, bodies) == (1, {1: body})
    assert len(partials(world)) == 1


@pytest.mark.asyncio
async def test_ranges_that_end_early_are_noticed(open_world: OpenWorld) -> None:
    """A server that gives no more than so much of a range (hMailServer 334, 459)."""
    body = body_of(400_000)
    world = await open_world([body], faults=[CutConnection(200_000, times=1), WrongPartial("longer", by=-50_000)])
    report, bodies = await fetch_all(world.job("full"))
    assert (report.done, bodies) == (1, {1: body})


@pytest.mark.asyncio
async def test_a_server_that_always_gets_ranges_wrong_is_not_asked_for_ever(open_world: OpenWorld) -> None:
    """Three times is enough: then nothing is kept any more, and the run ends, whatever of it has come."""
    bodies = [body_of(400_000, uid) for uid in range(12)]
    world = await open_world(bodies, faults=[CutConnection(exponential_bytes(600_000)), WrongPartial("shifted")])
    report, _ = await fetch_all(world.job("full"))
    assert len({record.message_set for record in partials(world)}) == 3
    assert report.done + report.failed == 12


@pytest.mark.asyncio
@pytest.mark.usefixtures("made_up_time")
async def test_a_silent_server_is_gone_on_with_too(open_world: OpenWorld) -> None:
    """It stops in the middle of a body, and keeps the connection."""
    body = body_of(1_000_000)
    world = await open_world([body], faults=[CutConnection(400_000, "stall")])
    report, bodies = await fetch_all(world.job("full"))
    assert (report.done, bodies) == (1, {1: body})
    assert world.server.counters.connections == 3


@pytest.mark.asyncio
async def test_through_compression(open_world: OpenWorld) -> None:
    body = body_of(1_000_000)
    world = await open_world([body], options={"compress": True}, faults=[CutConnection(400_000)])
    report, bodies = await fetch_all(world.job("full"))
    assert (report.done, bodies) == (1, {1: body})
    assert world.server.counters.connections == 3


@pytest.mark.asyncio
@pytest.mark.parametrize("status", ["NO", "BAD"])
async def test_a_server_that_refuses_ranges_is_asked_for_the_whole(open_world: OpenWorld, status: str) -> None:
    body = body_of(400_000)
    refusal = Reply(status, "no ranges here", command="UID FETCH", when=is_partial)  # type: ignore[arg-type]
    world = await open_world([body], faults=[CutConnection(200_000, times=1), refusal])
    report, bodies = await fetch_all(world.job("full"))
    assert (report.done, bodies) == (1, {1: body})
    assert len(partials(world)) == 1


@pytest.mark.asyncio
async def test_another_message_under_the_same_uid_is_not_joined(open_world: OpenWorld) -> None:
    """Of the same size: what came is not the beginning of what is there now. Of another one: its size says so."""
    old, new, longer = body_of(400_000), body_of(400_000, "new"), body_of(400_010)
    for replacement in (new, longer):
        world = await open_world([old], faults=[CutConnection(200_000, times=1)])
        inbox = world.server.mailboxes["INBOX"]

        def replace(_: CommandRecord, inbox: Mailbox = inbox, replacement: bytes = replacement) -> None:
            inbox._messages[1] = StoredMessage(1, ParsedContent(replacement), internal_date=FIRST_DATE)

        world.server.faults.add(Act(replace, command="EXAMINE", nth=2))
        report, bodies = await fetch_all(world.job("full"))
        assert (report.done, bodies) == (1, {1: replacement})


@pytest.mark.asyncio
async def test_last_words_in_the_middle_of_a_body_are_no_part_of_it(open_world: OpenWorld) -> None:
    """Servers and proxies that say BYE without regard to where they are."""
    bodies = [body_of(600_000, uid) for uid in range(2)]
    world = await open_world(bodies)
    left = [10**9, 200_000, 250_000]
    async with (
        cutting_proxy(world.server.port, left.pop, b"\r\n* BYE Server shutting down\r\n") as port,
        imapipe.create_pool(f"imap://ann@127.0.0.1:{port}", password=world.server.password) as pool,
    ):
        report, seen = await fetch_all(pool.mailbox("INBOX").search(q.ALL).fetch("full"))
    assert (report.done, [*seen.values()]) == (2, bodies)


@pytest.mark.asyncio
async def test_what_vanishes_before_its_rest_has_vanished(open_world: OpenWorld, watched: Watched) -> None:
    world = await open_world(
        [body_of(400_000)] * 2, options={"spool_above": 1024}, faults=[CutConnection(200_000, times=1)]
    )
    inbox = world.server.mailboxes["INBOX"]
    world.server.faults.add(Act(lambda _: inbox.expunge([1]), command="EXAMINE", nth=2))
    report, bodies = await fetch_all(world.job("full"))
    assert (report.done, report.vanished, [*bodies]) == (1, 1, [2])
    assert watched.open_files == 0


@pytest.mark.asyncio
async def test_a_server_without_sizes(open_world: OpenWorld) -> None:
    """What it does not tell is not compared; the bytes are."""
    body = body_of(400_000)
    world = await open_world([body], faults=[CutConnection(100_000), OmitItems({"RFC822.SIZE"})])
    report, bodies = await fetch_all(world.job("full"))
    assert (report.done, bodies) == (1, {1: body})
    assert len(partials(world)) >= 3


@pytest.mark.asyncio
async def test_nil_for_a_rest_is_no_failure(open_world: OpenWorld) -> None:
    body = body_of(400_000)
    nil = NilBodies({1}, when=is_partial)
    world = await open_world([body], faults=[CutConnection(200_000, times=1), nil])
    report, bodies = await fetch_all(world.job("full"))
    assert (report.done, bodies) == (1, {1: body})


@pytest.mark.asyncio
@pytest.mark.parametrize("after", [1, 2])
async def test_a_run_that_is_cancelled_leaves_no_part(open_world: OpenWorld, watched: Watched, after: int) -> None:
    """While it waits to go on, and in the middle of going on."""
    world = await open_world([body_of(2_000_000)], options={"spool_above": 1024}, faults=[CutConnection(300_000)])
    tries = 0
    cancelled = asyncio.Event()

    async def wait(_: float) -> None:
        nonlocal tries
        tries += 1
        if tries == after:
            cancelled.set()
            await asyncio.sleep(3600 if after == 1 else 0)

    job = world.job("full").use(imapipe.Retry(sleep=wait))
    task = asyncio.create_task(job.run(world.handle))
    await cancelled.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert watched.stores
    assert watched.open_files == 0
    assert not any(any(held) for held in watched.held)


@pytest.mark.asyncio
async def test_without_retry_nothing_is_kept(open_world: OpenWorld, watched: Watched) -> None:
    world = await open_world([body_of(400_000)], options={"spool_above": 1024}, faults=[CutConnection(200_000)])
    report = await world.job("full").run(world.handle)
    assert report.failed == 1
    assert watched.open_files == 0


def unfinished(uid: int, size: int, *, folder: str | None = None, received: int = 0) -> Unfinished:
    """What came of a message, in memory or in a file."""
    place = bytearray(size) if folder is None else SpoolFile(size, folder)
    return Unfinished(uid, size, {}, "BODY[]", Part(place, received, size))


def test_what_is_kept_takes_no_more_than_one_connection_may_hold(watched: Watched, tmp_path: Path) -> None:
    bounds = cast(Connection, SimpleNamespace(max_held_bytes=1000, max_spool_bytes=5000))
    remainders = Remainders()
    fetch = imapipe.Fetch("full")
    # One may be larger, as everywhere.
    assert remainders.keep(unfinished(1, 3000, received=7), fetch, bounds) == 7
    remainders.drop(1)
    assert remainders.keep(unfinished(1, 400, received=8), fetch, bounds) == 8
    assert remainders.keep(unfinished(2, 600, received=9), fetch, bounds) == 9
    # What it will take counts, not what has come.
    assert remainders.keep(unfinished(3, 1, received=1), fetch, bounds) == 0
    assert remainders.keep(unfinished(4, 3000, folder=str(tmp_path), received=5), fetch, bounds) == 5
    assert remainders.keep(unfinished(5, 3000, folder=str(tmp_path), received=5), fetch, bounds) == 0
    assert remainders.keep(unfinished(6, 2000, folder=str(tmp_path), received=5), fetch, bounds) == 5
    assert watched.open_files == 2
    assert [one.uid for one in remainders.among(imapipe.UidSet.parse("1:9"), fetch)] == [1, 2, 4, 6]
    # For somebody who asks for something else they are of no use; what comes anew takes the place of what was there.
    assert not [*remainders.among(imapipe.UidSet.parse("1:9"), imapipe.Fetch("headers"))]
    assert remainders.keep(unfinished(4, 3000, folder=str(tmp_path), received=6), fetch, bounds) == 6
    assert watched.open_files == 2
    remainders.close()
    assert watched.open_files == 0
    assert not [*remainders.among(imapipe.UidSet.parse("1:9"), fetch)]


async def through_a_bad_line(job: imapipe.Pipeline, bodies: Sequence[bytes], connections: int) -> None:
    """All of them come, each once, and right."""
    sums: dict[int, str] = {}

    async def handle(message: imapipe.Message) -> None:
        assert message.uid not in sums
        with message.open() as file:
            sums[message.uid] = digest(file.read())

    report = await job.use(imapipe.Retry(attempts=5, sleep=no_wait)).run(handle, connections=connections)
    check_sums(report)
    assert (report.done, report.failed) == (len(bodies), 0)
    assert [sums[uid] for uid in range(1, len(bodies) + 1)] == [digest(body) for body in bodies]


def mixed(count: int, seed: int) -> list[bytes]:
    """Mostly small messages, some large, some larger than a connection of 300 kB mostly survives."""
    dice = random.Random(seed)
    return [
        body_of(int(dice.choice([2e3, 5e3, 5e3, 2e4, 2e4, 6e4, 1e5, 4e5])), (seed, n)) for n in range(count - 2)
    ] + [
        body_of(1_500_000, seed),
        body_of(900_000, (seed, "x")),
    ]


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", [1, 2])
async def test_all_come_through_a_bad_line(open_world: OpenWorld, seed: int) -> None:
    bodies = mixed(60, seed)
    world = await open_world(bodies, faults=[CutConnection(exponential_bytes(300_000, seed))])
    await through_a_bad_line(world.job("full"), bodies, connections=2)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_many_come_through_a_bad_line_on_four_connections(open_world: OpenWorld) -> None:
    bodies = mixed(MANY, 3)
    world = await open_world(bodies, faults=[CutConnection(exponential_bytes(300_000, 3))])
    await through_a_bad_line(world.job("full"), bodies, connections=4)


@pytest.mark.asyncio
@pytest.mark.parametrize("spool_above", [1024, 100_000_000])
async def test_dovecot_through_a_bad_line(dovecot: DovecotServer, spool_above: int) -> None:
    user = dovecot.new_user()
    bodies = [
        b"Subject: %d\r\n\r\n" % number
        + b"".join(b"%d %d\r\n" % (number, line) for line in range(60_000 if number == 3 else 3000))
        for number in range(8)
    ]
    dovecot.fill(user, "INBOX", bodies)
    choose = exponential_bytes(150_000)
    async with (
        cutting_proxy(dovecot.port, choose) as port,
        imapipe.create_pool(
            f"imap://{user}@127.0.0.1:{port}", password=dovecot.password, spool_above=spool_above
        ) as pool,
    ):
        await through_a_bad_line(pool.mailbox("INBOX").search(q.ALL).fetch("full"), bodies, connections=2)


PDF = noise(700_000, "pdf")
WITH_ATTACHMENT = (
    b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n"
    b'--b\r\nContent-Type: application/pdf; name="a.pdf"\r\nContent-Transfer-Encoding: binary\r\n\r\n'
    + PDF
    + b"\r\n--b--\r\n"
)


async def download(world: World) -> bytes:
    """Bring the attachment of the one message."""
    inbox = world.pool.mailbox("INBOX")
    messages = [message async for message in inbox.search(q.ALL).fetch("structure")]
    return (await inbox.download(messages[0], messages[0].attachments[0])).content


@pytest.mark.asyncio
@pytest.mark.parametrize("spool_above", [1024, 100_000_000])
@pytest.mark.parametrize(
    "faults", [[], [WrongPartial("shifted")], [Reply("NO", "no", command="UID FETCH", when=is_partial)]]
)
async def test_a_download_is_gone_on_with(open_world: OpenWorld, spool_above: int, faults: list[Fault]) -> None:
    times = 5 if not faults else 1
    world = await open_world(
        [WITH_ATTACHMENT], options={"spool_above": spool_above}, faults=[CutConnection(300_000, times=times), *faults]
    )
    assert await download(world) == PDF
    assert partials(world)


@pytest.mark.asyncio
async def test_a_download_that_brings_nothing_ends(open_world: OpenWorld, watched: Watched) -> None:
    """Two connections in a row that end before a byte of it came."""
    world = await open_world([WITH_ATTACHMENT], options={"spool_above": 1024})
    inbox = world.pool.mailbox("INBOX")
    messages = [message async for message in inbox.search(q.ALL).fetch("structure")]
    world.server.faults.add(CutAfterBytes(200_000, command="UID FETCH", nth=1, times=1))
    world.server.faults.add(CutAfterBytes(0, command="UID FETCH", nth=2, times=4))
    with pytest.raises(imapipe.ConnectionLost):
        await inbox.download(messages[0], messages[0].attachments[0])
    assert watched.open_files == 0
