"""A tour of everything that is public, with an eye on each command that leaves: only what was named is expunged.

In every mailbox somebody has marked messages with `\\Deleted`. CLOSE, and EXPUNGE without UIDs, would take them along.
"""

from __future__ import annotations

import ast
import asyncio
import functools
import inspect
import re
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path

import pytest

import imapipe
from imapipe import search as q
from imapipe import sinks
from imapipe.connection import NewMessage
from imapipe.doctor import examine
from imapipe.net.command import Command
from imapipe.net.connection import Connection
from imapipe.net.outbox import Outbox
from imapipe.testing import Mailbox, Quota, Server
from imapipe.testing.extensions import PROFILES
from imapipe.testing.messages import make_messages
from imapipe.wire.command.capability import capability
from imapipe.wire.command.store import FlagChange

pytestmark = pytest.mark.asyncio

SOURCES = Path(imapipe.__file__).parent
MARKED = range(21, 27)
NAMES = ("INBOX", "Archive", "Bin", "Old")
TODAY = date(2024, 1, 1)
_COMMAND = re.compile(rb"[A-Z]+\d+ ((?:UID )?[A-Z]+)\b")
_EXPUNGED = re.compile(rb"[A-Z]+\d+ UID EXPUNGE (\S+)$")
# What is sent before a mailbox is open.
_LOGGING_IN = {"AUTHENTICATE", "COMPRESS", "LOGIN", "STARTTLS"}


def _uids(*numbers: int) -> imapipe.UidSet:
    return imapipe.UidSet.from_numbers(numbers)


def _boxes() -> dict[str, Mailbox]:
    boxes = {
        name: Mailbox(
            make_messages(MARKED.stop - 1, seed=seed, size=400), special_use="\\Trash" if name == "Bin" else ""
        )
        for seed, name in enumerate(NAMES)
    }
    for box in boxes.values():
        for uid in MARKED:
            box.set_flags(uid, {"\\Deleted"})
    return boxes


def _marked(server: Server) -> dict[str, list[bytes]]:
    """What somebody has marked, in each mailbox."""
    return {
        name: sorted(bytes(message.content.raw) for message in server.mailboxes[name] if message.uid in MARKED)
        for name in NAMES
    }


@functools.cache
def _names_in_sources() -> set[str]:
    """The names of all commands that are made anywhere."""
    names: set[str] = set()
    for file in SOURCES.rglob("*.py"):
        # A command in `bridged_command` is one that a user gives to `.imap` himself.
        text = file.read_text()
        if "wire.command.encoder import" not in text or file.name == "bridged_command.py":
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Request":
                values = [each for each in ast.walk(node.args[0]) if isinstance(each, ast.Constant)]
                assert values, f"{file}: a command whose name is not written out"
                names |= {str(each.value) for each in values if isinstance(each.value, str)}
    return names


async def test_no_command_is_made_that_expunges_what_it_does_not_name() -> None:
    names = _names_in_sources()
    assert {"UID EXPUNGE", "UID MOVE", "SELECT", "EXAMINE", "UNSELECT"} <= names
    assert names.isdisjoint({"CLOSE", "EXPUNGE", "MOVE"})


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the coroutine methods of connections that were called."""
    names: set[str] = set()

    def watch(name: str, method: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        @functools.wraps(method)
        async def call(*given: object, **named: object) -> object:
            names.add(name)
            return await method(*given, **named)

        return call

    for name, method in _coroutines(Connection):
        monkeypatch.setattr(Connection, name, watch(name, method))
    return names


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> dict[int, bytearray]:
    """The bytes that left on each connection, before they were compressed and encrypted."""
    sent: dict[int, bytearray] = {}
    put = Outbox._put

    def watch(self: Outbox, data: bytes | memoryview) -> None:
        sent.setdefault(id(self), bytearray()).extend(data)
        outboxes.append(self)
        put(self, data)

    # Kept, so that no two of them have the same number.
    outboxes: list[Outbox] = []
    monkeypatch.setattr(Outbox, "_put", watch)
    return sent


def _coroutines(of: type) -> Iterator[tuple[str, Callable[..., Awaitable[object]]]]:
    for name, method in inspect.getmembers(of):
        if not name.startswith("_") and inspect.iscoroutinefunction(method):
            yield name, method


async def _ignore(message: imapipe.Message) -> None:
    """A handler."""


async def _all_of_a_connection(pool: imapipe.Pool) -> None:
    """Each method of a connection, as far as its server knows the command."""
    async with pool.acquire("INBOX", write=True) as leased:
        connection: imapipe.Connection = leased
        calls: list[Callable[[], Awaitable[object]]] = [
            connection.ask_capabilities,
            connection.identify,
            connection.namespace,
            connection.list,
            connection.subscribed,
            lambda: connection.quota("INBOX"),
            lambda: connection.enable("CONDSTORE"),
            lambda: connection.create("New"),
            lambda: connection.subscribe("New"),
            lambda: connection.rename("New", "Newer"),
            lambda: connection.unsubscribe("New"),
            lambda: connection.delete("Newer"),
            lambda: connection.status("Archive"),
            lambda: connection.append("Archive", NewMessage(b"Subject: x\r\n\r\nx\r\n", ["\\Deleted"])),
            lambda: connection.examine("Archive"),
            connection.unselect,
            lambda: connection.select("INBOX"),
            connection.noop,
            lambda: connection.execute(Command.of(capability())),
            lambda: connection.try_optional("IDLE", connection.noop),
            lambda: connection.uid_batches(10),
            lambda: connection.uid_search(q.ALL.program(today=TODAY)),
            lambda: connection.uid_search_page(q.ALL.program(today=TODAY), 5, above=0),
            lambda: connection.uid_copy(_uids(1), "Archive"),
            lambda: connection.uid_move(_uids(2), "Archive"),
            lambda: connection.uid_store(_uids(3), FlagChange.ADD, ["\\Deleted"]),
            lambda: connection.uid_expunge(_uids(3)),
        ]
        for call in calls:
            with suppress(imapipe.CapabilityMissing, imapipe.CommandNo, imapipe.CommandBad):
                await call()
        over, notify = asyncio.Event(), () if connection.offers("NOTIFY") else None
        over.set()
        await connection.watch(
            lambda news: None, over, renew_seconds=60, answer_seconds=10, renewed=lambda: None, notify=notify
        )
        await connection.logout()


async def _all_changes(pool: imapipe.Pool, journal: Path) -> None:
    inbox = pool.mailbox("INBOX")

    def only(*numbers: int) -> imapipe.Pipeline:
        return inbox.search(q.uid(_uids(*numbers)))

    changes = [
        only(4).add_flags("\\Seen"),
        only(4).remove_flags("\\Seen"),
        only(4).set_flags("\\Flagged"),
        only(4).change_flags("+$A", "-\\Flagged"),
        only(5).copy_to("Archive"),
        only(6).move_to("Archive"),
        only(7).delete(),
        only(8).delete(permanently=True),
    ]
    for number, change in enumerate(changes):
        await change.plan()
        assert (await change.run(journal=journal / str(number))).complete
        await imapipe.undo(journal / str(number), pool)
    await inbox.append([NewMessage(b"Subject: new\r\n\r\nnew\r\n")])
    box = pool.mailbox("Box")
    await box.create()
    await box.subscribe()
    await box.rename("Boxes")
    await pool.mailbox("Boxes").delete()


async def _all_jobs(pool: imapipe.Pool, other: imapipe.Pool, folder: Path) -> None:
    inbox = pool.mailbox("INBOX")
    job = inbox.search(q.UNDELETED).fetch("full").use(imapipe.Checkpoint(folder / "job.json"), imapipe.Retry())
    await job.plan()
    await job.limit(2).run(_ignore, on_done=imapipe.move_to("Archive"), on_failed=imapipe.add_flags("$Failed"))
    async with inbox.search(q.UNDELETED).limit(1).fetch("text").stream(on_done=imapipe.delete()) as stream:
        async for _ in stream:
            break
    async for _ in inbox.search(q.UNDELETED).fetch("headers"):
        pass
    found = await inbox.search(q.ALL).uids()
    await found.refine(q.UNDELETED)
    await inbox.status()
    await pool.mailboxes()
    mail = sinks.Maildir(folder / "mail")
    each = pool.each("*").search(q.ALL).fetch("full").use(imapipe.Checkpoint(folder / "each.json"))
    assert (await each.run(mail)).complete
    assert (await pool.each("*").mirror(mail, folder / "each.json", max_deletions="100%")).complete
    async with asyncio.timeout(60), job.follow() as messages:
        await inbox.append([NewMessage(b"Subject: comes\r\n\r\nx\r\n")])
        await anext(aiter(messages))
    async with imapipe.MessageIndex(folder / "index") as index:
        await index.update(inbox)
    async for _ in inbox.changes(folder / "changes.json"):
        pass
    await examine(pool, seconds=0.05, sample_bytes=1)
    copied = sinks.Account(other, state=folder / "copied.json")
    await inbox.search(q.ALL).fetch("full").run(copied)


@pytest.mark.parametrize(
    "missing",
    [
        (),
        ("MOVE",),
        ("MOVE", "UNSELECT", "CONDSTORE", "QRESYNC", "NOTIFY"),
        ("MOVE", "UIDPLUS", "ESEARCH", "LIST-STATUS"),
    ],
)
async def test_whatever_is_called_only_what_was_named_is_expunged(
    tmp_path: Path, called: set[str], left: dict[int, bytearray], missing: Collection[str]
) -> None:
    offered = PROFILES["modern"] - set(missing) | {"QUOTA"}
    async with (
        Server(_boxes(), extensions=offered, quota=Quota(storage_bytes=10**9)) as server,
        Server(_boxes(), extensions=offered) as target,
        imapipe.create_pool(target.url, password=target.password) as other,
    ):
        marked = _marked(server), _marked(target)
        # Each part on connections of its own: a pool that closes leaves its mailboxes, too.
        async with imapipe.create_pool(server.url, password=server.password) as pool:
            await _all_of_a_connection(pool)
        async with imapipe.create_pool(server.url, password=server.password) as pool:
            await _all_changes(pool, tmp_path)
        async with imapipe.create_pool(server.url, password=server.password) as pool:
            await _all_jobs(pool, other, tmp_path)
        assert (_marked(server), _marked(target)) == marked
        seen = {record.name for each in (server, target) for record in each.commands}
    assert {name for name, _ in _coroutines(Connection)} <= called
    lines = [line for sent in left.values() for line in bytes(sent).split(b"\r\n")]
    names = {found[1].decode() for line in lines if (found := _COMMAND.match(line))}
    assert seen <= names | {"DONE"}
    assert names.isdisjoint({"CLOSE", "EXPUNGE", "MOVE"})
    if not missing:
        # The tour has been everywhere.
        assert _names_in_sources() - _LOGGING_IN <= names
    expunged = [found[1] for line in lines if (found := _EXPUNGED.match(line))]
    assert bool(expunged) == ("UIDPLUS" not in missing)
    for uids in expunged:
        assert imapipe.UidSet.parse(uids.decode()).isdisjoint(_uids(*MARKED)), uids
