"""UIDs that mean other messages now: what is remembered is believed while it is true, and there is no false alarm.

A mailbox is rewound as GMX was seen to do it: UIDNEXT falls under the same UIDVALIDITY. Servers that tell nothing, late
or made-up numbers are made of the testing server by `told`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.pipeline.world import OpenWorld, World, check_sums

import imapipe
from imapipe import search as q
from imapipe.errors import MessageVanished, UidValidityChanged
from imapipe.middleware.base import Call, Layer, Run
from imapipe.testing import Act, CommandRecord, CutAfterBytes, Fault, Inject, Rewrite, SearchCap

NEW = b"Subject: new\r\n\r\nnew\r\n"
_UIDNEXT = re.compile(rb"UIDNEXT \d+")


def told(number: int | None, *commands: str) -> Fault:
    """The server says another UIDNEXT, or none, in its answers to these commands."""

    def change(line: bytes) -> bytes:
        if number is not None:
            return _UIDNEXT.sub(b"UIDNEXT %d" % number, line)
        # An untagged OK of its own in SELECT, an item among others in STATUS.
        return b"" if line.startswith(b"* OK [UIDNEXT") else _UIDNEXT.sub(b"", line)

    return Rewrite(change, command=commands or ("EXAMINE", "STATUS"))


def asked(world: World) -> list[str]:
    """The commands since the last look, without logging in."""
    names = [record.name for record in world.server.commands]
    world.server.commands.clear()
    return [name for name in names if name in ("EXAMINE", "STATUS", "UID SEARCH", "UID FETCH")]


async def some_runs_later(world: World, path: Path) -> imapipe.RunReport:
    """Everything is handled; then the mailbox is rewound to 11 and five new messages come; what a second run does."""
    job = world.job().use(imapipe.Checkpoint(path))
    await job.run(world.handle)
    rewind(world)
    return await job.run(world.handle)


def rewind(world: World, to: int = 11, new: int = 5) -> None:
    box = world.server.mailboxes["INBOX"]
    box.rewind_uidnext(to)
    for _ in range(new):
        box.append(NEW)
    world.handled.clear()
    world.server.commands.clear()


def comes_before_the_search(world: World, times: int = 1) -> tuple[Fault, Fault]:
    """A message comes with a search, which tells of it before it lists it, as Cyrus does."""
    box = world.server.mailboxes["INBOX"]

    def change(line: bytes) -> bytes:
        if not line.startswith(b"* ESEARCH"):
            return line
        found = re.search(rb"ALL ([\d:,]+)", line)
        uids = imapipe.UidSet.parse(found[1].decode() if found else "") | imapipe.UidSet.from_numbers([box.uids[-1]])
        answer = line[: line.index(b" UID")] + b" UID ALL %s COUNT %d\r\n" % (uids.text().encode(), len(uids))
        return b"* %d EXISTS\r\n" % len(box) + answer

    return (
        Act(lambda _: box.append(NEW), command="UID SEARCH", nth=1, times=times),
        Rewrite(change, command="UID SEARCH", nth=1, times=times),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


# ---------------------------------------------------------------- a rewound mailbox is noticed


@pytest.mark.asyncio
async def test_new_messages_under_old_uids_are_not_skipped(open_world: OpenWorld, path: Path) -> None:
    world = await open_world(20)
    with pytest.raises(UidValidityChanged, match=r"UIDNEXT of 'INBOX' fell from 21 to 16"):
        await some_runs_later(world, path)
    assert world.handled == []
    report = await world.job().use(imapipe.Checkpoint(path, on_uidvalidity="restart")).run(world.handle)
    check_sums(report)
    assert (report.planned, report.done, report.skipped) == (15, 15, 0)


@pytest.mark.asyncio
async def test_it_is_noticed_by_status_where_uidnext_does_not_come_with_the_mailbox(
    open_world: OpenWorld, path: Path
) -> None:
    world = await open_world(20, faults=[told(None, "EXAMINE")])
    with pytest.raises(UidValidityChanged, match=r"UIDNEXT of 'INBOX' fell from 21 to 16"):
        await some_runs_later(world, path)
    assert world.handled == []


@pytest.mark.asyncio
async def test_it_is_noticed_where_mail_comes_in_the_middle_of_looking(open_world: OpenWorld, path: Path) -> None:
    """The server says UIDNEXT 16, and then lists a message 16: that number was right, and is not taken for made up."""
    world = await open_world(20)
    job = world.job().use(imapipe.Checkpoint(path))
    await job.run(world.handle)
    rewind(world)
    world.server.faults.add(*comes_before_the_search(world, 2))
    with pytest.raises(UidValidityChanged, match="UIDNEXT of 'INBOX' fell from 21 to 17"):
        await job.run(world.handle)
    assert world.handled == []


@pytest.mark.asyncio
async def test_a_narrow_search_notices_it_too(open_world: OpenWorld, path: Path) -> None:
    world = await open_world(20)
    job = world.pool.mailbox("INBOX").search(q.subject("new")).fetch("flags").use(imapipe.Checkpoint(path, name="all"))
    await world.job().use(imapipe.Checkpoint(path, name="all")).run(world.handle)
    rewind(world)
    with pytest.raises(UidValidityChanged, match="UIDNEXT"):
        await job.run(world.handle)
    assert world.handled == []


@pytest.mark.asyncio
async def test_a_mailbox_that_was_made_anew_is_noticed(open_world: OpenWorld, path: Path) -> None:
    """It begins with UID 1 under the same UIDVALIDITY (paperless-ngx 8939), and is empty or not."""
    world = await open_world(20)
    job = world.job().use(imapipe.Checkpoint(path))
    await job.run(world.handle)
    for new in (0, 3):
        rewind(world, 1, new)
        with pytest.raises(UidValidityChanged, match=f"UIDNEXT of 'INBOX' fell from 21 to {new + 1}"):
            await job.run(world.handle)
    assert world.handled == []


@pytest.mark.asyncio
async def test_another_mailbox_with_the_same_uidvalidity_is_noticed(open_world: OpenWorld, path: Path) -> None:
    """Some servers have one UIDVALIDITY for all mailboxes; MAILBOXID tells one from another that is as full."""
    world = await open_world(20)
    job = world.job().use(imapipe.Checkpoint(path))
    await job.run(world.handle)
    world.server.mailboxes["INBOX"].mailbox_id = "F-another"
    world.handled.clear()
    with pytest.raises(UidValidityChanged, match="MAILBOXID changed from") as caught:
        await job.run(world.handle)
    assert caught.value.found_mailboxid == "F-another"
    assert world.handled == []


@pytest.mark.asyncio
@pytest.mark.parametrize("uidnext", ["told", "by status"])
async def test_what_failed_before_is_not_done_to_other_messages(
    open_world: OpenWorld, path: Path, uidnext: str
) -> None:
    world = await open_world(20, faults=[] if uidnext == "told" else [told(None, "EXAMINE")])
    job = world.job().use(imapipe.Checkpoint(path))

    async def fail_some(message: imapipe.Message) -> None:
        if message.uid in (12, 13):
            raise ValueError

    first = await job.run(fail_some)
    rewind(world)
    for again in (job.only_failed(), world.job().only_failed(first)):
        with pytest.raises(UidValidityChanged, match=r"UIDNEXT of 'INBOX' fell from 21 to 16"):
            await again.run(world.handle)
        with pytest.raises(UidValidityChanged):
            await again.uids()
    assert world.handled == []


@pytest.mark.asyncio
async def test_an_attachment_of_a_message_that_is_another_one_now_is_not_brought(open_world: OpenWorld) -> None:
    world = await open_world([WITH_PICTURE] * 3)
    messages = [message async for message in world.job("structure")]
    inbox = world.pool.mailbox("INBOX")
    last = messages[-1]
    assert (await inbox.download(last, last.attachments[0])).content == b"one picture"
    world.server.mailboxes["INBOX"].rewind_uidnext(3)
    world.server.mailboxes["INBOX"].append(b"Subject: another\r\n" + WITH_PICTURE)
    with pytest.raises(MessageVanished):
        await inbox.download(last, last.attachments[0])


WITH_PICTURE = (
    b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\ntext\r\n--x\r\nContent-Type: image/png\r\n"
    b"Content-Disposition: attachment\r\n\r\none picture\r\n--x--\r\n"
)


# ---------------------------------------------------------------- no false alarm


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [None, 0, 1, 20, 2**31 - 1, 2**32 - 1])
@pytest.mark.parametrize("criteria", [q.ALL, q.FLAGGED], ids=["all", "nothing"])
async def test_a_uidnext_that_is_none_is_neither_believed_nor_an_alarm(
    open_world: OpenWorld, path: Path, number: int | None, criteria: imapipe.SearchKey
) -> None:
    """It is told as it should be at first, then as the server makes it up, then rightly again."""
    world = await open_world(20)
    box = world.server.mailboxes["INBOX"]
    checkpoint = imapipe.Checkpoint(path, name="job")
    assert (await world.job().use(checkpoint).run(world.handle)).done == 20
    odd = told(number)
    world.server.faults.add(odd)
    job = world.pool.mailbox("INBOX").search(criteria).fetch("flags").use(checkpoint)
    for _ in range(2):
        report = await job.run(world.handle)
        assert (report.done, report.failed) == (0, 0)
        assert report.cursor.uidnext is None
    box.append(NEW)
    assert (await world.job().use(checkpoint).run(world.handle)).done == 1
    world.server.faults.remove(odd)
    report = await job.run(world.handle)
    assert (report.done, report.cursor.uidnext) == (0, 22)
    rewind(world)
    with pytest.raises(UidValidityChanged):
        await job.run(world.handle)


@pytest.mark.asyncio
async def test_a_uidnext_that_lags_behind_is_no_alarm(open_world: OpenWorld, path: Path) -> None:
    """It could be one by the count of messages; that a message is above it is asked for."""
    world = await open_world(20)
    checkpoint = imapipe.Checkpoint(path, name="job")
    await world.job().use(checkpoint).run(world.handle)
    world.server.mailboxes["INBOX"].expunge(range(1, 11))
    world.server.faults.add(told(15))
    none = world.pool.mailbox("INBOX").search(q.FLAGGED).fetch("flags").use(checkpoint)
    assert (await none.run(world.handle)).planned == 0
    report = await world.job().use(checkpoint).run(world.handle)
    assert (report.skipped, report.done) == (10, 0)
    result = await none.uids()
    assert not (await result.believable_cursor(imapipe.Cursor(uidnext=21))).is_behind(imapipe.Cursor(uidnext=21))


def _refused(line: bytes) -> bytes:
    return b"" if line.startswith(b"* STATUS") else line.replace(b" OK ", b" NO ")


def _empty(line: bytes) -> bytes:
    """As at mail.163.com (chatmail/core 5049)."""
    return b'* STATUS "INBOX" ()\r\n' if line.startswith(b"* STATUS") else line


@pytest.mark.asyncio
@pytest.mark.parametrize("change", [_refused, _empty])
async def test_a_server_that_does_not_tell_it_at_all_is_believed(
    open_world: OpenWorld, path: Path, change: Callable[[bytes], bytes]
) -> None:
    world = await open_world(20, faults=[told(None, "EXAMINE"), Rewrite(change, command="STATUS")])
    job = world.job().use(imapipe.Checkpoint(path))
    await job.run(world.handle)
    world.server.mailboxes["INBOX"].expunge([20])
    report = await job.run(world.handle)
    assert (report.skipped, report.done) == (19, 0)


@pytest.mark.asyncio
async def test_mail_that_comes_and_goes_is_no_alarm(open_world: OpenWorld, path: Path) -> None:
    """The last messages are expunged, so that none is near UIDNEXT; nothing more is asked than without a checkpoint."""
    world = await open_world(20)
    job = world.job().use(imapipe.Checkpoint(path))
    await job.run(world.handle)
    box = world.server.mailboxes["INBOX"]
    for _ in range(3):
        box.expunge([box.append(NEW), *list(box.uids)[-3:]])
        asked(world)
        assert (await job.run(world.handle)).done == 0
        assert asked(world) == ["EXAMINE", "UID SEARCH"]


@pytest.mark.asyncio
async def test_mod_sequences_that_fall_are_no_alarm(open_world: OpenWorld, path: Path) -> None:
    """Seen at closeio/sync-engine 943, and where Dovecot has lost its index: the UIDs mean what they meant."""
    world = await open_world(20)
    job = world.job().use(imapipe.Checkpoint(path))
    await job.run(world.handle)
    world.server.mailboxes["INBOX"].highest_modseq = 1
    report = await job.run(world.handle)
    assert (report.skipped, report.done, report.cursor.highestmodseq) == (20, 0, 1)


@pytest.mark.asyncio
async def test_a_uidnext_far_above_all_messages_is_no_alarm(open_world: OpenWorld, path: Path) -> None:
    """Yahoo counts up where nothing comes: by 420,000 (rustmailer/bichon 342)."""
    world = await open_world(20)
    job = world.job().use(imapipe.Checkpoint(path))
    for above in (0, 100_000, 420_000):
        world.server.mailboxes["INBOX"].uidnext += above
        report = await job.run(world.handle)
        assert report.complete
        assert asked(world)[:2] == ["EXAMINE", "UID SEARCH"]
    assert len(world.handled) == 20


@pytest.mark.asyncio
async def test_mail_that_comes_while_the_mailbox_is_opened_is_no_alarm(open_world: OpenWorld, path: Path) -> None:
    """EXISTS comes twice, the second time behind UIDNEXT (chatmail/core 4926)."""
    world = await open_world(20)
    job = world.job().use(imapipe.Checkpoint(path))
    await job.run(world.handle)
    box = world.server.mailboxes["INBOX"]

    def more(line: bytes) -> bytes:
        return line + b"* 21 EXISTS\r\n" if line.startswith(b"* OK [UIDNEXT 21]") else line

    world.server.faults.add(
        Rewrite(more, command="EXAMINE", times=1),
        Act(lambda _: box.append(NEW), command="EXAMINE", where="reply", times=1),
    )
    report = await job.run(world.handle)
    assert (report.skipped, report.failed) == (20, 0)
    report = await job.run(world.handle)
    assert (report.planned, report.failed, report.cursor.uidnext) == (21, 0, 22)
    assert len(world.handled) == 21


# ---------------------------------------------------------------- in the middle of a run


def restore_backup(world: World) -> None:
    """The mailbox is renumbered under another UIDVALIDITY."""
    world.server.mailboxes["INBOX"].renumber(first_uid=3)


@pytest.mark.asyncio
@pytest.mark.parametrize("uidnext", ["told", "by status"])
@pytest.mark.parametrize("change", [rewind, restore_backup])
async def test_a_reconnection_never_mixes(open_world: OpenWorld, change: Callable[[World], None], uidnext: str) -> None:
    """After two batches the connection ends; on the next one the UIDs mean other messages."""
    world = await open_world(20)
    if uidnext == "by status":
        world.server.faults.add(told(None, "EXAMINE"))
    world.server.faults.add(
        Act(lambda _: change(world), command="UID FETCH", nth=3), CutAfterBytes(0, "close", command="UID FETCH", nth=3)
    )
    handled: list[str] = []

    async def handle(message: imapipe.Message) -> None:
        handled.append(message.subject)

    job = world.job("envelope").batch(imapipe.FixedBatch(5)).use(imapipe.Retry())
    with pytest.raises(UidValidityChanged, match="run it again"):
        await job.run(handle, connections=1)
    assert len(handled) == 10
    assert "new" not in handled


@pytest.mark.asyncio
@pytest.mark.parametrize("change", [rewind, restore_backup])
async def test_a_second_connection_never_mixes(open_world: OpenWorld, change: Callable[[World], None]) -> None:
    """The lanes of a run open the mailbox one after the other."""
    world = await open_world(20)
    is_changed = asyncio.Event()

    def change_it(_: CommandRecord) -> None:
        change(world)
        is_changed.set()

    world.server.faults.add(Act(change_it, command="EXAMINE", nth=2, where="before"))
    subjects: list[str] = []

    async def handle(message: imapipe.Message) -> None:
        # However late the second connection is, the first one has not done all of the work.
        await is_changed.wait()
        subjects.append(message.subject)

    job = world.job("envelope").batch(imapipe.FixedBatch(2))
    with pytest.raises(UidValidityChanged, match="run it again"):
        await job.run(handle, connections=3)
    assert "new" not in subjects


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [1, 15])
async def test_a_made_up_number_ends_no_run_that_reconnects(open_world: OpenWorld, number: int) -> None:
    world = await open_world(20, faults=[told(number), CutAfterBytes(0, "close", command="UID FETCH", nth=3)])
    job = world.job().batch(imapipe.FixedBatch(5)).use(imapipe.Retry())
    report = await job.run(world.handle, connections=2)
    assert (report.done, report.complete) == (20, True)


@pytest.mark.asyncio
async def test_mail_that_comes_while_looking_ends_no_run(open_world: OpenWorld) -> None:
    """One message comes between EXAMINE and the search; the pool has a connection that was told the older UIDNEXT."""
    world = await open_world(20)
    async with world.pool.acquire("INBOX"), world.pool.acquire("INBOX"):
        pass
    world.server.faults.add(*comes_before_the_search(world))
    report = await world.job().batch(imapipe.FixedBatch(2)).run(world.handle, connections=3)
    assert (report.done, report.complete) == (21, True)


class _Asks(imapipe.Middleware):
    """Asks at the start and in the middle of a run how a cursor of old is to be read."""

    def __init__(self) -> None:
        self.answers: list[tuple[bool, int]] = []

    async def start(self, run: Run) -> Layer:
        asks = self

        class Asking(Layer):
            async def __call__(self, batch: imapipe.Batch, call_next: Call) -> imapipe.BatchResult:
                await asks.ask(run)
                return await call_next(batch)

        await self.ask(run)
        return Asking()

    async def ask(self, run: Run) -> None:
        remembered = imapipe.Cursor(uidnext=100)
        cursor = await run.believable_cursor(remembered)
        self.answers.append((cursor.is_behind(remembered), run.connections))


@pytest.mark.asyncio
async def test_layers_ask_at_any_time_and_hold_nothing_for_it(open_world: OpenWorld) -> None:
    world = await open_world(20)
    asks = _Asks()
    report = await world.job().batch(imapipe.FixedBatch(10)).depth(1).use(asks).run(world.handle, connections=1)
    assert report.complete
    assert asks.answers == [(True, 1)] * 3
    assert not (await world.job().use(asks).run(world.handle)).failed


# ---------------------------------------------------------------- what is not whole is told


@pytest.mark.asyncio
async def test_uids_and_plans_that_may_be_short_say_so(open_world: OpenWorld) -> None:
    world = await open_world(5, faults=[Inject(b"* SEARCH 0 2\r\n", command="UID SEARCH", nth=1, times=2)])
    search = world.pool.mailbox("INBOX").search(q.larger(1))
    short = await search.uids()
    assert (short.may_be_short, short.unaccounted) == (True, 0)
    assert (await search.plan()).may_be_short
    assert (await short.refine(q.SEEN)).may_be_short
    whole = await search.uids()
    assert not whole.may_be_short
    assert not (await whole.refine(q.SEEN)).may_be_short
    world.server.faults.add(SearchCap(4))
    capped = await world.job().uids()
    assert (capped.unaccounted, (await capped.refine(q.SEEN)).unaccounted) == (1, 1)
    assert not (await search.plan()).may_be_short
