"""`Mailbox.changes`: what changed is told once, by whatever the server can, and acknowledged one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import imapipe
from imapipe import Arrived, FlagsChanged, Vanished
from imapipe.models.flag_table import FlagGatherer
from imapipe.store import JSON, ThreadedCheckpointHolding, ThreadedCheckpointStore
from imapipe.store.base import Lost
from imapipe.store.json_file import JsonFile
from imapipe.testing import Mailbox, Server, Stall, SyntheticMailbox
from imapipe.testing.messages import make_messages

pytestmark = pytest.mark.asyncio

# Of 30 messages, UIDs 1 to 30.
COUNT = 30


class Account:
    """A server with one mailbox of a kind, and where its changes are remembered."""

    def __init__(self, server: Server, pool: imapipe.Pool, path: Path) -> None:
        self.server = server
        self.pool = pool
        self.path = path
        self.box = server.mailboxes["INBOX"]

    @property
    def changes(self) -> imapipe.Changes:
        return self.pool.mailbox("INBOX").changes(self.path)

    async def all(self) -> list[imapipe.Change]:
        return [change async for change in self.changes]

    def sent_since(self, before: int) -> list[str]:
        return [record.name for record in list(self.server.commands)[before:]]


@pytest_asyncio.fixture(params=["modern", "gmail", "plain"])
async def account(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Account]:
    boxes = {"INBOX": Mailbox(make_messages(COUNT))}
    async with (
        Server(boxes, extensions=request.param) as server,
        imapipe.create_pool(server.url, password=server.password, max_size=1) as pool,
    ):
        yield Account(server, pool, tmp_path / "sync.json")


def _change_something(box: Mailbox) -> list[imapipe.Change]:
    box.set_flags(7, {"\\Seen", "$Work"})
    box.set_flags(9, {"\\Flagged"})
    box.expunge([3, 9, 20])
    uid = box.append(b"Subject: new\r\n\r\nnew\r\n")
    return [
        Arrived(uid, frozenset()),
        FlagsChanged(7, frozenset({"\\Seen", "$Work"})),
        Vanished(3),
        Vanished(9),
        Vanished(20),
    ]


async def test_first_everything_then_only_what_changed(account: Account) -> None:
    first = await account.all()
    assert first == [Arrived(uid, account.box.flags_of(uid)) for uid in range(1, COUNT + 1)]
    assert await account.all() == []
    expected = _change_something(account.box)
    assert await account.all() == expected
    assert await account.all() == []


async def test_what_was_not_asked_beyond_is_told_again(account: Account) -> None:
    async for change in account.changes:
        if change.uid == 10:
            break
    # The one in hand was not acknowledged. The one before it was.
    assert [change.uid for change in await account.all()] == list(range(10, COUNT + 1))
    expected = _change_something(account.box)
    async with account.changes.stream() as stream:
        assert [await anext(stream) for _ in range(3)] == expected[:3]
    assert await account.all() == expected[2:]


async def test_what_happens_between_is_told_as_it_is_then(account: Account) -> None:
    async with account.changes.stream() as stream:
        for _ in range(6):
            await anext(stream)
        # Told and acknowledged is UID 2; neither told nor acknowledged is UID 8.
        account.box.set_flags(2, {"\\Deleted"})
        account.box.expunge([4, 8])
    told = await account.all()
    # UID 6 was in hand.
    assert [change.uid for change in told if isinstance(change, Arrived)] == [6, 7, *range(9, COUNT + 1)]
    assert told[-2:] == [FlagsChanged(2, frozenset({"\\Deleted"})), Vanished(4)]


async def test_no_connection_is_held_while_changes_are_told(account: Account) -> None:
    async for change in account.changes:
        async with account.pool.acquire("INBOX", timeout_seconds=60) as connection:
            assert connection.selected is not None
        if change.uid == 2:
            break


async def test_names_do_not_know_of_each_other(account: Account) -> None:
    await account.all()
    others = account.pool.mailbox("INBOX").changes(account.path, name="other")
    assert len([change async for change in others]) == COUNT


async def test_uidvalidity(account: Account) -> None:
    await account.all()
    account.box.renumber(first_uid=101)
    with pytest.raises(imapipe.UidValidityChanged):
        await account.all()
    restarted = account.pool.mailbox("INBOX").changes(account.path, on_uidvalidity="restart")
    async with restarted.stream() as stream:
        told = [change async for change in stream]
        assert stream.has_restarted
        assert stream.uidvalidity == account.box.uidvalidity
    assert [change.uid for change in told] == list(range(101, 101 + COUNT))
    assert await account.all() == []


async def test_a_checkpoint_of_another_kind_is_refused(account: Account) -> None:
    async def handle(_: imapipe.Message) -> None:
        return

    job = account.pool.mailbox("INBOX").search().fetch("flags").use(imapipe.Checkpoint(account.path, name="changes"))
    await job.run(handle)
    with pytest.raises(imapipe.CheckpointMismatch):
        await account.all()


async def test_one_state_has_one_reader(account: Account) -> None:
    async with account.changes.stream() as stream:
        await anext(stream)
        with pytest.raises(imapipe.CheckpointLocked):
            await account.all()


async def test_a_pool_that_closes_saves(account: Account) -> None:
    stream = account.changes.stream()
    for _ in range(5):
        await anext(stream)
    await account.pool.close()
    with pytest.raises(imapipe.PoolClosed):
        await anext(stream)
    async with imapipe.create_pool(account.server.url, password=account.server.password) as pool:
        again = [change.uid async for change in pool.mailbox("INBOX").changes(account.path)]
    assert again == list(range(5, COUNT + 1))


async def test_cancelling_keeps_what_was_acknowledged(account: Account) -> None:
    is_there = asyncio.Event()

    async def read() -> None:
        async for change in account.changes:
            if change.uid == 5:
                is_there.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(read())
    await is_there.wait()
    task.cancel()
    await asyncio.wait([task])
    del task
    assert (await account.all())[0].uid == 5


@pytest.mark.parametrize(
    ("extensions", "commands"),
    [
        ("modern", ["EXAMINE", "UID FETCH"]),
        ("gmail", ["EXAMINE", "UID FETCH", "UID SEARCH"]),
        ("plain", ["EXAMINE", "UID SEARCH", "UID FETCH"]),
    ],
)
async def test_each_way_on_the_wire(tmp_path: Path, extensions: str, commands: list[str]) -> None:
    boxes = {"INBOX": Mailbox(make_messages(COUNT))}
    async with (
        Server(boxes, extensions=extensions) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        account = Account(server, pool, tmp_path / "sync.json")
        await account.all()
        account.box.set_flags(7, {"\\Deleted"})
        account.box.expunge([8])
        before = len(server.commands)
        assert await account.all() == [FlagsChanged(7, frozenset({"\\Deleted"})), Vanished(8)]
        assert account.sent_since(before) == commands
        fetch = server.commands.named("UID FETCH")[-1]
        assert ("CHANGEDSINCE" in fetch.arguments) is (extensions != "plain")
        assert ("VANISHED" in fetch.arguments) is (extensions == "modern")
        assert fetch.messages == (COUNT - 1 if extensions == "plain" else 1)


@pytest.mark.parametrize("extensions", ["modern", "gmail"])
async def test_nothing_is_asked_where_the_numbers_say_that_nothing_changed(tmp_path: Path, extensions: str) -> None:
    boxes = {"INBOX": Mailbox(make_messages(COUNT))}
    async with (
        Server(boxes, extensions=extensions) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        account = Account(server, pool, tmp_path / "sync.json")
        await account.all()
        before = len(server.commands)
        assert await account.all() == []
        assert account.sent_since(before) == ["EXAMINE"]


@pytest.mark.slow
@pytest.mark.no_cover
async def test_two_changes_among_200_000_messages_cost_few_bytes(tmp_path: Path) -> None:
    box = SyntheticMailbox(200_000)
    known = FlagGatherer()
    for uid in box.uids:
        known.add(uid, box.flags_of(uid))
    async with Server({"INBOX": box}) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        cursor = imapipe.Cursor(uidnext=200_001, highestmodseq=box.highest_modseq)
        # As it is after everything was told.
        state = imapipe.CheckpointState(
            account=pool.account,
            mailbox="INBOX",
            name="changes",
            fingerprint="changes",
            uidvalidity=box.uidvalidity,
            cursor=cursor,
            finished=cursor,
            extra={"flags": {**known.table().to_json()}},
        )
        holding = imapipe.JsonCheckpointStore(tmp_path / "sync.json").open(state.key)
        holding.save(state)
        holding.release()
        box.set_flags(77_777, {"\\Deleted"})
        box.expunge([123_456])
        changes = pool.mailbox("INBOX").changes(tmp_path / "sync.json")
        told = [change async for change in changes]
        assert told == [FlagsChanged(77_777, frozenset({"\\Deleted"})), Vanished(123_456)]
        # With the login.
        assert 0 < pool.connections.wire_bytes < 20_000
        assert [change async for change in changes] == []


async def test_misuse_is_refused(tmp_path: Path) -> None:
    async with imapipe.create_pool("imap://ann@127.0.0.1:1", password="secret") as pool:
        mailbox = pool.mailbox("INBOX")
        with pytest.raises(ValueError, match="on_uidvalidity is one of"):
            mailbox.changes(tmp_path / "sync.json", on_uidvalidity="ignore")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="outage_seconds must be 0 or more"):
            mailbox.changes(tmp_path / "sync.json", outage_seconds=-1)
        assert "INBOX" in repr(mailbox.changes(tmp_path / "sync.json"))


async def test_two_tasks_cannot_share_a_stream(account: Account) -> None:
    async with account.changes.stream() as stream:
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="two tasks"):
            await anext(stream)
        assert (await first).uid == 1


async def test_an_error_of_the_body_is_raised_as_it_is(account: Account) -> None:
    async def read() -> None:
        async with account.changes.stream() as stream:
            await anext(stream)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await read()
    assert (await account.all())[0].uid == 1


@pytest.mark.parametrize(
    "extra", [{"flags": 5}, {"acknowledged": "x"}, {"pending": {}}, {"pending": {"arrived": {}, "changed": {}}}]
)
async def test_a_state_that_is_not_whole_is_refused(tmp_path: Path, extra: dict[str, JSON]) -> None:
    async with Server({"INBOX": 3}) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        store = imapipe.MemoryCheckpointStore()
        state = imapipe.CheckpointState(
            account=pool.account, mailbox="INBOX", name="changes", fingerprint="changes", uidvalidity=1, extra=extra
        )
        holding = store.open(state.key)
        holding.save(state)
        holding.release()
        changes = pool.mailbox("INBOX").changes(store)
        with pytest.raises(imapipe.CheckpointCorrupt):
            [change async for change in changes]
        # It was given back.
        store.open(state.key).release()


async def test_the_journal_is_kept_short(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[object] = []
    save = JsonFile.save

    def count(self: JsonFile, key: imapipe.JobKey, state: imapipe.CheckpointState) -> None:
        saved.append(state.extra.get("acknowledged"))
        save(self, key, state)

    monkeypatch.setattr("imapipe.changes.book._MAX_UNSAVED", 10)
    monkeypatch.setattr(JsonFile, "save", count)
    async for change in account.changes:
        if change.uid == 25:
            break
    assert [change.uid for change in await account.all()] == list(range(25, COUNT + 1))
    assert saved[:4] == [0, 10, 20, None]


class _Leased(ThreadedCheckpointStore):
    """A store that can take a key away."""

    async def open(self, key: imapipe.JobKey, lost: Lost) -> ThreadedCheckpointHolding:
        self.lost = lost
        return await super().open(key, lost)


async def test_a_key_that_is_lost_ends_it_and_is_not_written_to(account: Account) -> None:
    memory = imapipe.MemoryCheckpointStore()
    store = _Leased(memory)
    stream = account.pool.mailbox("INBOX").changes(store).stream()
    assert [(await anext(stream)).uid for _ in range(3)] == [1, 2, 3]
    store.lost(imapipe.CheckpointLost("another has it"))
    with pytest.raises(imapipe.CheckpointLost):
        await anext(stream)
    again = [change.uid async for change in account.pool.mailbox("INBOX").changes(memory)]
    assert again == list(range(3, COUNT + 1))


async def test_a_look_that_is_cancelled_leaves_nothing(account: Account) -> None:
    account.server.faults.add(Stall(command="UID FETCH"))
    stream = account.changes.stream()
    asked = asyncio.ensure_future(anext(stream))
    while not account.server.commands.named("UID FETCH"):  # noqa: ASYNC110 - the server has no event for it
        await asyncio.sleep(0.001)
    asked.cancel()
    await asyncio.wait([asked])
    await stream.aclose()
    assert account.pool.stats.leased == 0
    account.server.faults.clear()
    assert len(await account.all()) == COUNT
