"""Messages that others expunge meanwhile have vanished, whatever a server answers for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.pipeline.world import OpenWorld, World, check_sums

import imapipe
from dovecot_server import DovecotServer
from imapipe import search as q
from imapipe.pipeline.delivery.handlers import Handler
from imapipe.testing import Act, NilBodies, ReplaceResponses, Reply
from imapipe.testing.records import CommandRecord

COURIER = (
    b"From: System Administrator <root@localhost>\r\nSubject: message unavailable\r\n\r\n"
    b"This message is no longer available on the server.\r\n"
)
PRESETS = [("full",), ("envelope",), ("structure",), ("headers",), ("size",), ("flags", "full")]
# What has no size with it that would give a ghost away.
BARE = [
    imapipe.Fetch(section="1"),
    imapipe.Fetch("flags", section="1.MIME"),
    imapipe.Fetch(section="1") | imapipe.Fetch(section="2"),
    imapipe.Fetch(section="", partial=(0, 10)),
    imapipe.Fetch(section="1", partial=(0, 10)),
    imapipe.Fetch(section="1", binary=True),
    imapipe.Fetch(header_fields=["Subject"]),
    imapipe.Fetch("saved_date"),
    imapipe.Fetch("preview"),
]


def expunging(world: World, *uids: int) -> Handler:
    """A handler that expunges messages behind the run's back when it sees the first one."""

    async def handle(message: imapipe.Message) -> None:
        world.handled.append(message.uid)
        if message.uid == 1:
            world.server.mailboxes["INBOX"].expunge(uids)

    return handle


@pytest.mark.asyncio
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("way", ["nil", "invent", "leave_out"])
async def test_expunged_meanwhile_has_vanished(open_world: OpenWorld, way: str, preset: tuple[str, ...]) -> None:
    world = await open_world(40, expunged_fetch=way)
    job = world.job(*preset).batch(10).depth(1)
    report = await job.run(expunging(world, 12, 25, 26, 39), connections=1)
    check_sums(report)
    assert (report.planned, report.done, report.vanished, report.failed) == (40, 36, 4, 0)
    assert sorted(world.handled) == sorted({*range(1, 41)} - {12, 25, 26, 39})
    assert report.complete


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("way", "fetch"),
    [
        *[("nil", fetch) for fetch in BARE],
        # A part that is not there is NIL also in what Courier makes up, and ten bytes of it are anybody's.
        *[("invent", imapipe.Fetch(section=section)) for section in ("", "1", "2", "HEADER", "TEXT")],
        ("invent", imapipe.Fetch(section="", partial=(0, 1000))),
        ("invent", imapipe.Fetch(section="1", binary=True)),
    ],
)
async def test_expunged_meanwhile_has_vanished_without_a_size(
    open_world: OpenWorld, way: str, fetch: imapipe.Fetch
) -> None:
    world = await open_world(40, expunged_fetch=way, extensions="everything")
    job = world.job().fetch(fetch).batch(10).depth(1)
    report = await job.run(expunging(world, 12, 25, 26, 39), connections=1)
    check_sums(report)
    assert (report.planned, report.done, report.vanished, report.failed) == (40, 36, 4, 0)


@pytest.mark.asyncio
@pytest.mark.parametrize("way", ["nil", "invent", "leave_out"])
async def test_expunged_between_its_structure_and_its_text_has_vanished(open_world: OpenWorld, way: str) -> None:
    """Both FETCHes of a text may meet a ghost."""
    world = await open_world(10, expunged_fetch=way)
    inbox = world.server.mailboxes["INBOX"]
    world.server.faults.add(Act(lambda _: inbox.expunge([3, 4]), command="UID FETCH", nth=2, times=1))
    report = await world.job().fetch("text").batch(10).depth(1).run(world.handle, connections=1)
    check_sums(report)
    assert (report.done, report.vanished, report.failed) == (8, 2, 0)
    assert sorted(world.handled) == [1, 2, *range(5, 11)]


@pytest.mark.asyncio
@pytest.mark.parametrize("fetch", BARE, ids=imapipe.Fetch.describe)
async def test_what_is_there_and_has_no_such_part_is_done(open_world: OpenWorld, fetch: imapipe.Fetch) -> None:
    """NIL is how a server says that there is no such part, too."""
    world = await open_world([b"Subject: %d\r\n\r\nx" % number for number in range(9)], extensions="everything")
    empty = b"* %%d FETCH (UID %%d %s)\r\n" % b" ".join([name.encode() + b" NIL" for name in fetch.names])
    world.server.faults.add(ReplaceResponses({uid: empty % (uid, uid) for uid in (2, 7)}))
    report = await world.job().fetch(fetch).batch(5).depth(1).run(world.handle, connections=1)
    check_sums(report)
    assert report.vanished == 0
    # Each message has a header and a body, so that NIL for these is no answer.
    assert report.failed == (2 if fetch.body_names else 0)
    assert world.server.commands.names.count("NOOP") == 2


EMPTY_ENVELOPE = b'(NIL "" NIL NIL NIL NIL NIL NIL NIL NIL)'
EMPTY_STRUCTURE = b'("text" "plain" NIL NIL NIL "7bit" 0 0 NIL NIL NIL NIL)'
SOME_ENVELOPE = b'("Mon, 7 Feb 1994 21:52:25 -0800" "x" NIL NIL NIL NIL NIL NIL NIL NIL)'
SOME_STRUCTURE = b'("text" "plain" NIL NIL NIL "7bit" 6 1 NIL NIL NIL NIL)'


@pytest.mark.asyncio
@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize(
    ("preset", "values"),
    [
        ("envelope", b"ENVELOPE " + EMPTY_ENVELOPE),
        ("structure", b"ENVELOPE " + EMPTY_ENVELOPE + b" BODYSTRUCTURE " + SOME_STRUCTURE),
        ("structure", b"ENVELOPE " + SOME_ENVELOPE + b" BODYSTRUCTURE " + EMPTY_STRUCTURE),
    ],
)
async def test_a_size_from_an_index_hides_no_ghost(
    open_world: OpenWorld, preset: str, values: bytes, is_there: bool
) -> None:
    """A server may know the size of what it cannot read any more; and a real message may have an empty envelope."""
    world = await open_world(20)
    ghost = b'* 7 FETCH (UID 7 FLAGS () INTERNALDATE "01-Jan-1970 00:00:00 +0000" RFC822.SIZE 4711 %s)\r\n' % values
    world.server.faults.add(ReplaceResponses({7: ghost}))
    if not is_there:
        inbox = world.server.mailboxes["INBOX"]
        world.server.faults.add(Act(lambda _: inbox.expunge([7]), command="NOOP"))
    report = await world.job(preset).run(world.handle, connections=1)
    check_sums(report)
    assert (report.done, report.vanished) == ((20, 0) if is_there else (19, 1))
    assert world.server.commands.names.count("NOOP") == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("way", ["nil", "invent"])
async def test_a_whole_batch_that_was_expunged_has_vanished(open_world: OpenWorld, way: str) -> None:
    world = await open_world(30, expunged_fetch=way)
    report = await world.job("full").batch(10).depth(1).run(expunging(world, *range(11, 31)), connections=1)
    check_sums(report)
    assert (report.done, report.vanished, report.failed) == (10, 20, 0)


@pytest.mark.asyncio
async def test_a_nil_body_of_a_message_that_is_there_is_a_failure_after_a_second_look(open_world: OpenWorld) -> None:
    world = await open_world(5, faults=[NilBodies({2})])
    report = await world.job("full").run(world.handle)
    check_sums(report)
    assert report.failures[2].reason == "no-body"
    assert sorted(world.handled) == [1, 3, 4, 5]
    names = world.server.commands.names
    begin = names.index("UID FETCH")
    assert names[begin : begin + 3] == ["UID FETCH", "NOOP", "UID SEARCH"]


@pytest.mark.asyncio
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("body", [COURIER, b"", b"Subject: x\r\n\r\n".ljust(129, b".")])
async def test_a_message_that_looks_invented_and_is_there_is_delivered(
    open_world: OpenWorld, body: bytes, preset: tuple[str, ...]
) -> None:
    """Somebody may have saved what Courier showed, and a message may be empty."""
    bodies = [b"Subject: first\r\n\r\nx", body, b"Subject: last\r\n\r\nx"]
    world = await open_world(bodies)
    seen: dict[int, imapipe.Message] = {}

    async def handle(message: imapipe.Message) -> None:
        seen[message.uid] = message

    report = await world.job(*preset).run(handle)
    check_sums(report)
    assert report.done == 3
    assert report.complete
    if "full" in preset:
        assert [seen[uid].body for uid in (1, 2, 3)] == bodies
    # Nothing stays counted of what was handed over later than the rest.
    async with world.pool.acquire() as connection:
        assert connection.plane.holdings.held_bytes == 0


@pytest.mark.asyncio
async def test_sizes_are_known_of_messages_that_look_invented(open_world: OpenWorld) -> None:
    world = await open_world([b"Subject: first\r\n\r\nx", COURIER, b""])
    plan = await world.job("full").plan()
    assert (plan.messages, plan.total_bytes) == (3, 19 + 129)


@pytest.mark.asyncio
async def test_nothing_is_looked_at_again_where_nothing_is_doubtful(open_world: OpenWorld) -> None:
    world = await open_world(50, expunged_fetch="invent")
    await world.job("full").batch(10).run(world.handle)
    assert "NOOP" not in world.server.commands.names
    assert len(world.server.commands.named("UID SEARCH")) == 1


@pytest.mark.asyncio
# What it keeps in its index (sizes, flags) Dovecot tells of messages that it does not know to be gone yet.
@pytest.mark.parametrize(
    "preset", [*[preset for preset in PRESETS if preset != ("size",)], ("text",), *[(fetch,) for fetch in BARE]]
)
async def test_dovecot(dovecot: DovecotServer, preset: tuple[str | imapipe.Fetch, ...]) -> None:
    user = dovecot.new_user()
    dovecot.fill(user, "INBOX", [b"Subject: %d\r\n\r\nbody\r\n" % number for number in range(1, 41)])
    handled: list[int] = []

    async def handle(message: imapipe.Message) -> None:
        handled.append(message.uid)
        if message.uid == 1:
            client = dovecot.login(user)
            client.select("INBOX")
            client.uid("STORE", "12,25:26,39", "+FLAGS.SILENT", r"(\Deleted)")
            client.expunge()
            client.logout()

    async with imapipe.create_pool(dovecot.url(user), password=dovecot.password) as pool:
        job = pool.mailbox("INBOX").search(q.ALL).fetch(*preset).batch(10).depth(1)
        report = await job.run(handle, connections=1)
    check_sums(report)
    assert (report.planned, report.done, report.vanished, report.failed) == (40, 36, 4, 0)
    assert sorted(handled) == sorted({*range(1, 41)} - {12, 25, 26, 39})


def asks_for(*uids: int) -> Callable[[CommandRecord], bool]:
    """Whether a command asks for one of these."""
    wanted = imapipe.UidSet.from_numbers(uids)
    return lambda record: bool(imapipe.UidSet.parse(record.message_set) & wanted)


@pytest.mark.asyncio
@pytest.mark.parametrize("code", ["", "NONEXISTENT"])
@pytest.mark.parametrize("uses", [(), (imapipe.Retry(),)])
async def test_a_refusal_because_of_what_is_gone_fails_nothing(
    open_world: OpenWorld, code: str, uses: tuple[imapipe.Middleware, ...]
) -> None:
    """Davmail 60, hMailServer 458, emailjs-imap-client 60: NO, as RFC 2180 §4.1.2 has it, without anything."""
    refusal = Reply("NO", "Some of the messages no longer exist", code, command="UID FETCH", when=asks_for(12, 25))
    world = await open_world(40)

    async def handle(message: imapipe.Message) -> None:
        world.handled.append(message.uid)
        if message.uid == 1:
            world.server.mailboxes["INBOX"].expunge([12, 25])
            world.server.faults.add(refusal)

    report = await world.job("full").batch(10).depth(1).use(*uses).run(handle, connections=1)
    check_sums(report)
    assert (report.done, report.vanished, report.failed) == (38, 2, 0)
    assert refusal.fired == 2


@pytest.mark.asyncio
async def test_a_refusal_without_anything_gone_is_a_failure(open_world: OpenWorld) -> None:
    world = await open_world(20, faults=[Reply("NO", "no", command="UID FETCH", when=asks_for(12))])
    report = await world.job("full").batch(10).depth(1).run(world.handle, connections=1)
    check_sums(report)
    assert (report.done, report.vanished, report.failed) == (10, 0, 10)


@pytest.mark.asyncio
async def test_where_a_second_look_is_refused_the_first_refusal_counts(open_world: OpenWorld) -> None:
    refusals = [
        Reply("NO", "first", command="UID FETCH", when=asks_for(12)),
        Reply("NO", "second", command="UID SEARCH", nth=2),
    ]
    world = await open_world(20, faults=refusals)
    report = await world.job("full").batch(10).depth(1).run(world.handle, connections=1)
    assert (report.done, report.failed) == (10, 10)
    assert "first" in report.failures[12].detail


@pytest.mark.asyncio
@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize(
    ("fetch", "answer"),
    [
        (imapipe.Fetch("full"), b'FLAGS () INTERNALDATE "01-Jan-2024 00:00:00 +0000" RFC822.SIZE 700 BODY[] {0}\r\n'),
        (imapipe.Fetch("full"), b'FLAGS () INTERNALDATE "01-Jan-2024 00:00:00 +0000" RFC822.SIZE 700 BODY[] ""'),
        (imapipe.Fetch(section=""), b"BODY[] {0}\r\n"),
        (imapipe.Fetch(section="HEADER"), b"BODY[HEADER] {0}\r\n"),
    ],
)
async def test_no_message_is_without_a_byte(
    open_world: OpenWorld, fetch: imapipe.Fetch, answer: bytes, is_there: bool
) -> None:
    """The in-memory server of go-imap (msgvault 712), Exchange: the UID, and a body of nothing, for what is gone."""
    world = await open_world(20)
    world.server.faults.add(ReplaceResponses({7: b"* 7 FETCH (UID 7 " + answer + b")\r\n"}))
    if not is_there:
        inbox = world.server.mailboxes["INBOX"]
        world.server.faults.add(Act(lambda _: inbox.expunge([7]), command="NOOP"))
    report = await world.job().fetch(fetch).run(world.handle, connections=1)
    check_sums(report)
    assert (report.done, report.vanished) == ((20, 0) if is_there else (19, 1))


@pytest.mark.asyncio
async def test_a_part_without_a_byte_is_no_ghost(open_world: OpenWorld) -> None:
    world = await open_world([b"Subject: x\r\n\r\n"] * 10)
    report = await world.job().fetch(imapipe.Fetch(section="1")).run(world.handle)
    assert report.done == 10
    assert "NOOP" not in world.server.commands.names


@pytest.mark.asyncio
@pytest.mark.parametrize("items", [b"", b" FLAGS ()", b" FLAGS () RFC822.SIZE 700"])
async def test_an_answer_without_its_body_is_no_answer(open_world: OpenWorld, items: bytes) -> None:
    """Pymap 152: of what is gone it tells everything but the body."""
    world = await open_world(20)
    world.server.faults.add(ReplaceResponses({7: b"* 7 FETCH (UID 7" + items + b")\r\n"}, nth=1))
    inbox = world.server.mailboxes["INBOX"]
    world.server.faults.add(Act(lambda _: inbox.expunge([7]), command="UID SEARCH", nth=2))
    report = await world.job("full").run(world.handle, connections=1)
    check_sums(report)
    assert (report.done, report.vanished) == (19, 1)
