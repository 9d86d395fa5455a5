"""`fetch("text")` and `Mailbox.download` where servers, connections and other clients interfere."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Literal

import pytest
from tests.pipeline.operation.test_text import MAILS, values
from tests.pipeline.world import OpenWorld, World, check_sums

import imapipe
from dovecot_server import DovecotServer
from imapipe import search as q
from imapipe.connection import Connection
from imapipe.pipeline.operation.text import TextFetching
from imapipe.testing import (
    Act,
    CommandRecord,
    NilBodies,
    OmitUids,
    PoisonUids,
    Reply,
    Rewrite,
    Server,
    Stall,
    SyntheticMailbox,
)

ALL = list(range(1, len(MAILS) + 1))
TEXTS = {
    1: "Grüße\r\n",
    2: "no charset: ü\r\n",
    3: "Grüße\r\n",
    4: "Grüße\r\n",
    5: "Grüße\r\nGrüße\r\n",
    6: "Grüße\r\n",
    7: "",
    8: "",
    9: "plain old\r\n",
    10: "",
}


async def texts(world: World, job: imapipe.Pipeline | None = None) -> tuple[imapipe.RunReport, dict[int, str]]:
    """Run `fetch("text")`; each message comes once, and nothing stays counted on the connection."""
    found: dict[int, str] = {}

    async def handle(message: imapipe.Message) -> None:
        assert message.uid not in found
        found[message.uid] = message.text

    report = await (job or world.job("text")).run(handle)
    check_sums(report)
    async with world.pool.acquire() as connection:
        assert (connection.plane.holdings.held_bytes, connection.parked_bytes) == (0, 0)
    return report, found


def without(*uids: int) -> dict[int, str]:
    return {uid: text for uid, text in TEXTS.items() if uid not in uids}


@pytest.mark.asyncio
async def test_a_limit_of_messages_a_command(open_world: OpenWorld) -> None:
    world = await open_world(MAILS, message_limit=3)
    report, found = await texts(world)
    assert (report.complete, found) == (True, TEXTS)
    assert max(record.messages for record in world.server.commands.named("UID FETCH")) == 3


@pytest.mark.asyncio
@pytest.mark.parametrize("way", ["nil", "invent", "leave_out"])
async def test_what_vanishes_between_structure_and_sections_has_vanished(open_world: OpenWorld, way: str) -> None:
    worlds: list[World] = []

    def expunge(_: CommandRecord) -> None:
        worlds[0].server.mailboxes["INBOX"].expunge((1, 4, 10))

    faults = [Act(expunge, where="reply", command="UID FETCH", nth=1)]
    worlds.append(await open_world(MAILS, expunged_fetch=way, faults=faults))
    report, found = await texts(worlds[0])
    assert (report.vanished, report.failed) == (3, 0)
    assert found == without(1, 4, 10)


@pytest.mark.asyncio
async def test_what_vanishes_between_on_dovecot(dovecot: DovecotServer, monkeypatch: pytest.MonkeyPatch) -> None:
    user = dovecot.new_user()
    dovecot.fill(user, "INBOX", MAILS)
    original = TextFetching._fetch_sections

    async def expunging(work: TextFetching, connection: Connection) -> None:
        client = dovecot.login(user)
        client.select("INBOX")
        client.uid("STORE", "1,4:5", "+FLAGS.SILENT", r"(\Deleted)")
        client.expunge()
        client.logout()
        await original(work, connection)

    monkeypatch.setattr(TextFetching, "_fetch_sections", expunging)
    async with imapipe.create_pool(dovecot.url(user), password=dovecot.password) as pool:
        found: dict[int, str] = {}

        async def handle(message: imapipe.Message) -> None:
            found[message.uid] = message.text

        report = await pool.mailbox("INBOX").search(q.ALL).fetch("text").run(handle)
    assert (report.done, report.vanished, report.failed) == (7, 3, 0)
    assert found == without(1, 4, 5)


@pytest.mark.asyncio
async def test_a_section_that_comes_as_nil_costs_the_whole_message(open_world: OpenWorld) -> None:
    # The second FETCH asks for the sections of these two.
    world = await open_world(MAILS, faults=[NilBodies({1, 4}, command="UID FETCH", nth=2)])
    report, found = await texts(world)
    assert (report.complete, found) == (True, TEXTS)
    assert world.asked[-1] == "1,4"


@pytest.mark.asyncio
async def test_bodies_that_are_nil_in_every_way_have_failed(open_world: OpenWorld) -> None:
    world = await open_world(MAILS, faults=[NilBodies({1, 4})])
    report, found = await texts(world)
    assert {uid: failure.reason for uid, failure in report.failures.items()} == {1: "no-body", 4: "no-body"}
    assert found == without(1, 4)


def _change(label: bytes, instead: Callable[[bytes], bytes], uid: int) -> Callable[[bytes], bytes]:
    """Change what comes behind a label in the FETCH response of one message."""

    def change(response: bytes) -> bytes:
        at = response.find(label)
        if at < 0 or not response.startswith(b"* %d FETCH" % uid):
            return response
        at += len(label)
        return response[:at] + instead(response[at:])

    return change


@pytest.mark.asyncio
@pytest.mark.parametrize("instead", [b"NIL", b'""', b"{0}\r\n", b"nil", b"odd", b"()", b"5"])
async def test_a_section_that_is_no_text_costs_the_whole_message(open_world: OpenWorld, instead: bytes) -> None:
    # Dovecot 2.0 gave NIL for the first part of some multiparts; others give numbers to parts in their own way.
    world = await open_world(
        MAILS, faults=[Rewrite(_change(b"BODY[1] ", lambda _: instead + b")\r\n", 4), command="UID FETCH")]
    )
    report, found = await texts(world)
    assert (report.complete, found) == (True, TEXTS)


@pytest.mark.asyncio
async def test_sections_that_are_left_out_cost_the_whole_message(open_world: OpenWorld) -> None:
    world = await open_world(MAILS, faults=[OmitUids({1, 4}, when=lambda record: "BODY.PEEK[1]" in record.arguments)])
    report, found = await texts(world)
    assert (report.complete, found) == (True, TEXTS)


def _refused(asked: str) -> Callable[[CommandRecord], bool]:
    """Whether a FETCH asks for this of the fourth message."""
    return lambda record: asked in record.arguments and 4 in imapipe.UidSet.parse(record.message_set)


@pytest.mark.asyncio
@pytest.mark.parametrize("status", ["NO", "BAD"])
@pytest.mark.parametrize("asked", ["BODYSTRUCTURE", "BODY.PEEK[1]"])
async def test_a_refusal_for_one_message_costs_the_whole_of_it(
    open_world: OpenWorld, status: Literal["NO", "BAD"], asked: str
) -> None:
    world = await open_world(MAILS, faults=[Reply(status, "Internal error", command="UID FETCH", when=_refused(asked))])
    report, found = await texts(world, world.job("text").batch(1))
    assert (report.complete, found) == (True, TEXTS)
    assert len(world.server.commands.named("UID FETCH")) <= 21


@pytest.mark.asyncio
@pytest.mark.parametrize("asked", ["BODYSTRUCTURE", "BODY.PEEK[1]"])
async def test_a_refusal_for_one_of_many_is_found_by_retry(open_world: OpenWorld, asked: str) -> None:
    world = await open_world(MAILS, faults=[Reply("NO", "Internal error", command="UID FETCH", when=_refused(asked))])
    report, found = await texts(world, world.job("text").use(imapipe.Retry(wait_initial_seconds=0.001)))
    assert (report.complete, found) == (True, TEXTS)


@pytest.mark.asyncio
async def test_a_poisoned_message_fails_alone(open_world: OpenWorld) -> None:
    world = await open_world(MAILS, faults=[PoisonUids({4})])
    report, found = await texts(world, world.job("text").use(imapipe.Retry(attempts=2, wait_initial_seconds=0.001)))
    assert (set(report.failures), found) == ({4}, without(4))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "structure",
    [
        b"NIL", b"()", b"", b"0", b'"x"', b"\xff\xfe", b"(NIL NIL)", b"(((((((((", b'("TEXT" "PLAIN"', b"{5}\r\nab",
        b"(" * 100_000 + b")" * 100_000, b'(("text" "plain" nil nil nil nil nil) "mixed"', b'("" "" NIL)', b"(NIL)",
    ],
    ids=lambda structure: repr(structure[:12]),
)  # fmt: skip
async def test_a_broken_structure_costs_the_whole_message(open_world: OpenWorld, structure: bytes) -> None:
    change = _change(b"BODYSTRUCTURE ", lambda _: structure + b")\r\n", 4)
    world = await open_world(MAILS, faults=[Rewrite(change, command="UID FETCH")])
    report, found = await texts(world)
    assert (report.complete, found) == (True, TEXTS)


@pytest.mark.asyncio
async def test_more_sections_than_a_command_may_name_cost_the_whole_message(open_world: OpenWorld) -> None:
    parts = b"".join(b"--x\r\n\r\npart %d\r\n" % number for number in range(200))
    many = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + parts + b"--x--\r\n"
    few = many.replace(parts, parts[: parts.index(b"--x\r\n\r\npart 30\r\n")])
    world = await open_world([many, few, MAILS[0]])
    got = {message.uid: message async for message in world.job("text")}
    assert got[1].text.splitlines() == [f"part {number}" for number in range(200)]
    assert got[1].body == many
    assert got[2].text.splitlines() == [f"part {number}" for number in range(30)]
    with pytest.raises(imapipe.NotFetched):
        _ = got[2].body
    assert all(len(record.arguments) < 1500 for record in world.server.commands.named("UID FETCH"))


@pytest.mark.asyncio
async def test_a_long_list_of_uids_is_cut_into_several_commands(open_world: OpenWorld) -> None:
    """Every other message has the same sections, so that no range is longer than one UID."""
    world = await open_world([MAILS[0], MAILS[2]] * 2000)
    report, found = await texts(world, world.job("text").batch(4000))
    assert (report.complete, len(found), set(found.values())) == (True, 4000, {"Grüße\r\n"})
    assert len(world.asked) > 4


@pytest.mark.asyncio
async def test_a_slow_consumer_holds_the_wire_back(open_world: OpenWorld) -> None:
    """Structures wait for texts, and texts for the consumer; the bound on both holds, and nothing waits for ever."""
    body = b"Content-Type: text/plain\r\n\r\n" + b"a line of text\r\n" * 100
    world = await open_world([body] * 300, options={"max_held_bytes": 20_000, "max_size": 1})
    seen = 0
    async for message in world.job("text").batch(100):
        assert message.text.endswith("text\r\n")
        seen += 1
        if seen % 50 == 0:
            await asyncio.sleep(0.005)
    assert seen == 300
    async with world.pool.acquire() as connection:
        holdings = connection.plane.holdings
        assert (holdings.held_bytes, connection.parked_bytes) == (0, 0)
        # What was read before reading stopped is one read of the socket more.
        assert holdings.max_held_seen < 20_000 + 300_000
        assert holdings.max_held_seen < 300 * 1_600


@pytest.mark.asyncio
@pytest.mark.parametrize(("nth", "after_bytes"), [(1, 0), (1, 400), (1, 20_000), (2, 0), (2, 400), (3, 0), (3, 400)])
async def test_cancelled_in_the_middle(open_world: OpenWorld, nth: int, after_bytes: int) -> None:
    """In the structures or in the sections: nothing is left (the fixture looks), and another run has all of it."""
    reached = asyncio.Event()
    tell = Act(lambda _: reached.set(), command="UID FETCH", nth=nth)
    world = await open_world(MAILS * 5, faults=[Stall(after_bytes, command="UID FETCH", nth=nth), tell])
    running = asyncio.create_task(world.job("text").batch(50).run(world.handle))
    await reached.wait()
    await asyncio.sleep(0.005)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    report, found = await texts(world)
    assert report.complete
    assert [found[uid] for uid in range(1, 51)] == list(TEXTS.values()) * 5


@pytest.mark.asyncio
@pytest.mark.parametrize("options", [{"strings": "quoted"}, {"fetch_order": "shuffled"}, {"fetch_order": "uid_last"}])
async def test_however_a_server_writes_it(open_world: OpenWorld, options: dict[str, str]) -> None:
    world = await open_world(MAILS, **options)
    report, found = await texts(world)
    assert (report.complete, found) == (True, TEXTS)


@pytest.mark.asyncio
@pytest.mark.parametrize("profile", ["plain", "yahoo", "dovecot", "gmail", "exchange", "everything"])
async def test_no_extension_is_needed(open_world: OpenWorld, profile: str) -> None:
    world = await open_world(MAILS, extensions=profile)
    report, found = await texts(world)
    assert (report.complete, found) == (True, TEXTS)
    assert not any("BINARY" in record.arguments for record in world.server.commands)


def _encoded(text: str, charset: str, encoding: str) -> bytes:
    data = text.encode(charset)
    if encoding == "base64":
        data = base64.encodebytes(data).replace(b"\n", b"\r\n")
    elif encoding == "quoted-printable":
        data = b"".join(b"=%02X" % byte for byte in data)
    fields = f"Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return fields.encode() + data


@pytest.mark.asyncio
@pytest.mark.parametrize("encoding", ["8bit", "base64", "quoted-printable"])
@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("utf-8", "aü€😀"),
        ("utf-16", "aü€😀"),
        ("utf-7", "日本語"),
        ("gb18030", "中文€字"),
        ("shift_jis", "日本語"),
        ("iso-2022-jp", "日本語"),
        ("big5", "中文字"),
        ("euc-kr", "한글"),
    ],
)
async def test_a_bound_on_the_text_cuts_between_characters(
    open_world: OpenWorld, charset: str, text: str, encoding: str
) -> None:
    text = text * 4
    world = await open_world([_encoded(text, charset, encoding)])
    for most in range(1, 40):
        (message,) = [m async for m in world.job().fetch("text", max_text_bytes=most)]
        assert text.startswith(message.text), (most, message.text)
        assert len(message.text) >= (most // 12) - 4


@pytest.mark.asyncio
async def test_text_is_no_single_fetch(open_world: OpenWorld) -> None:
    with pytest.raises(ValueError, match=r'fetch\("text"'):
        imapipe.Fetch("text")
    world = await open_world(MAILS)
    (message, *_) = [m async for m in world.job().fetch("text", imapipe.Fetch(header_fields=["Subject"]))]
    assert message.headers["Subject"]
    assert values(message)


# download


async def _with_file(world: World) -> tuple[imapipe.Mailbox, imapipe.Message, imapipe.Attachment]:
    mailbox = world.pool.mailbox("INBOX")
    only = world.job("text").only(imapipe.UidSet.parse("4"), uidvalidity=(await mailbox.status()).uidvalidity or 0)
    (message,) = [message async for message in only]
    return mailbox, message, message.attachments[0]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Reply("NO", "Internal error", command="UID FETCH", when=lambda r: "[2]" in r.arguments), imapipe.CommandNo),
        (Reply("BAD", "What?", command="UID FETCH", when=lambda r: "[2]" in r.arguments), imapipe.CommandBad),
        (NilBodies({4}, when=lambda r: "[2]" in r.arguments), imapipe.NotFetched),
        (OmitUids({4}, when=lambda r: "[2]" in r.arguments), imapipe.ProtocolError),
        (Rewrite(_change(b"BODY[2] ", lambda _: b"odd()\r\n", 4), command="UID FETCH"), imapipe.ProtocolError),
    ],
    ids=["NO", "BAD", "NIL", "nothing", "rubbish"],
)
async def test_a_download_that_fails_says_why(
    open_world: OpenWorld, fault: imapipe.testing.Fault, error: type[Exception]
) -> None:
    world = await open_world(MAILS, faults=[fault])
    mailbox, message, attachment = await _with_file(world)
    with pytest.raises(error):
        await mailbox.download(message, attachment)
    async with world.pool.acquire() as connection:
        assert connection.plane.holdings.held_bytes == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("way", ["nil", "invent", "leave_out"])
async def test_what_vanished_before_its_download_has_vanished(open_world: OpenWorld, way: str) -> None:
    world = await open_world(MAILS, expunged_fetch=way)
    mailbox, message, attachment = await _with_file(world)
    world.server.mailboxes["INBOX"].expunge((4,))
    with pytest.raises(imapipe.MessageVanished):
        await mailbox.download(message, attachment)


@pytest.mark.asyncio
async def test_no_download_out_of_another_account_with_equal_numbers(open_world: OpenWorld) -> None:
    ours, theirs = await open_world(MAILS), await open_world([b"Subject: other\r\n" + mail for mail in MAILS])
    _, message, attachment = await _with_file(ours)
    with pytest.raises(imapipe.MessageVanished):
        await theirs.pool.mailbox("INBOX").download(message, attachment)


@pytest.mark.asyncio
async def test_a_cancelled_download_leaves_nothing(open_world: OpenWorld) -> None:
    reached = asyncio.Event()
    tell = Act(lambda _: reached.set(), when=lambda record: "[2]" in record.arguments)
    world = await open_world(MAILS, faults=[Stall(100, when=lambda record: "[2]" in record.arguments), tell])
    mailbox, message, attachment = await _with_file(world)
    running = asyncio.create_task(mailbox.download(message, attachment))
    await reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.asyncio
async def test_a_download_survives_a_connection_that_died_meanwhile() -> None:
    async with Server(MAILS) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        world = World(server, pool)
        mailbox, message, attachment = await _with_file(world)
        server.disconnect_all()
        assert (await mailbox.download(message, attachment)).content.startswith(b"%PDF")


@pytest.mark.asyncio
async def test_many_messages_of_all_kinds(open_world: OpenWorld) -> None:
    world = await open_world(SyntheticMailbox(200))
    report, found = await texts(world, world.job("text").batch(40))
    assert report.complete
    assert found == {message.uid: message.text async for message in world.job("full")}
