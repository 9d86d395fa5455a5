"""Leases: what a holder may do, that he can do nothing afterwards, and which mailbox he finds open."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import date

import pytest
from aioimaplib import aioimaplib

import imapipe
from imapipe import search as q
from imapipe.errors import CommandNo, ConnectionFailed, ConnectionLost, LeaseEnded, ServerBye
from imapipe.models.message import Message, MessageContext
from imapipe.net.command import Command
from imapipe.net.connection import Connection
from imapipe.net.pool.leased_connection import Lease
from imapipe.testing import Bye, CutAfterBytes, Reply, Server
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.uid_set import UidSet

pytestmark = pytest.mark.asyncio

ALL = q.ALL.program(today=date(2024, 6, 1))
SELECTING = ("SELECT", "EXAMINE", "UNSELECT", "NOOP", "CLOSE")


@asynccontextmanager
async def pool_on(server: Server, **more: object) -> AsyncIterator[imapipe.Pool]:
    async with imapipe.create_pool(server.url, password="secret", **more) as pool:  # type: ignore[arg-type]
        yield pool


def moves(server: Server) -> list[tuple[str, str]]:
    """The commands that open, close or refresh a mailbox, with their arguments, since it was last asked."""
    found = [(record.name, record.arguments.strip('"')) for record in server.commands if record.name in SELECTING]
    server.commands.clear()
    return found


# -- the end of a lease ------------------------------------------------------------------------------------------------


async def test_a_lease_is_a_connection_of_which_everything_works() -> None:
    async with Server({"INBOX": 3, "Archive": 2}) as server, pool_on(server) as pool, pool.acquire() as lease:
        assert isinstance(lease, imapipe.Lease)
        assert isinstance(lease, imapipe.Connection)
        assert isinstance(lease.imap, aioimaplib.IMAP4)
        assert (await lease.examine("Archive")).exists == 2
        assert (await lease.imap.select("INBOX")).result == "OK"
        assert lease.selected is not None
        assert (lease.selected.name, lease.imap.get_state()) == ("INBOX", "SELECTED")
        found: list[imapipe.Message] = []
        command = lease.uid_fetch(UidSet.parse("1:3"), Fetch("full"), found.extend)
        await command.finished
        lease.fetched(command)
        for message in found:
            lease.release(message)
        assert len(found) == 3
        assert lease.plane.holdings.held_bytes == 0
        assert lease.is_clean
        assert lease.round_trip_seconds < float("inf")
        assert (await lease.imap.search("ALL")).result == "OK"


async def test_the_former_holder_cannot_touch_the_next_holders_mailbox() -> None:
    """Defect: `+FLAGS (\\Deleted)` of one who had given his lease back went to the mailbox of the next."""
    async with Server({"INBOX": 3, "Archive": 3}) as server, pool_on(server, max_size=1) as pool:
        async with pool.acquire() as first:
            client, protocol, store = first.imap, first.imap.protocol, first.imap.store
        async with pool.acquire("Archive", write=True) as second:
            server.commands.clear()
            for attempt in (
                lambda: first.select("INBOX"),
                lambda: first.imap.select("INBOX"),
                lambda: client.store("1", "+FLAGS", r"(\Deleted)"),
                lambda: client.uid("store", "1", "+FLAGS", r"(\Deleted)"),
                lambda: store("1", "+FLAGS", r"(\Deleted)"),
                lambda: protocol.store("1", "+FLAGS", r"(\Deleted)"),
                lambda: protocol.simple_command("NOOP"),
            ):
                with pytest.raises(LeaseEnded, match="this lease has ended"):
                    await attempt()
            await second.noop()
        assert server.commands.names == ["NOOP"]
        archive = server.mailboxes["Archive"]
        assert all("\\Deleted" not in archive.flags_of(uid) for uid in archive.uids)


async def _finished(answer: object) -> None:
    if inspect.isawaitable(answer):
        await answer


CALLS: Mapping[str, Callable[[Connection], object]] = {
    "abort": lambda lease: lease.abort(),
    "ask_capabilities": lambda lease: lease.ask_capabilities(),
    "enable": lambda lease: lease.enable("CONDSTORE"),
    "examine": lambda lease: lease.examine("INBOX"),
    "execute": lambda lease: lease.execute(Command("NOOP", [b"NOOP\r\n"])),
    "identify": lambda lease: lease.identify(),
    "list": lambda lease: lease.list(),
    "logout": lambda lease: lease.logout(),
    "namespace": lambda lease: lease.namespace(),
    "noop": lambda lease: lease.noop(),
    "offers": lambda lease: lease.offers("MOVE"),
    "release": lambda lease: lease.release(Message(MessageContext("INBOX", 1, Fetch("flags")), 1, 10, None, None, ())),
    "require": lambda lease: lease.require(["MOVE"]),
    "select": lambda lease: lease.select("INBOX"),
    "status": lambda lease: lease.status("INBOX"),
    "try_optional": lambda lease: lease.try_optional("ID", lease.identify),
    "uid_batches": lambda lease: lease.uid_batches(100),
    "uid_fetch": lambda lease: lease.uid_fetch(UidSet.parse("1"), Fetch("flags"), lambda _: None),
    "uid_search": lambda lease: lease.uid_search(ALL),
    "uid_search_page": lambda lease: lease.uid_search_page(ALL, 10, above=0),
    "unselect": lambda lease: lease.unselect(),
}


async def test_every_method_of_a_lease_that_has_ended_raises_the_same() -> None:
    async with Server(3) as server, pool_on(server) as pool:
        async with pool.acquire() as lease:
            kept = {name: getattr(lease, name) for name in CALLS}
            await lease.examine("INBOX")
            found: list[imapipe.Message] = []
            fetch = lease.uid_fetch(UidSet.parse("1"), Fetch("flags"), found.extend)
            await fetch.finished
            for message in found:
                lease.release(message)
        server.commands.clear()
        for name, call in CALLS.items():
            with pytest.raises(LeaseEnded):
                await _finished(call(lease))  # some raise when they are called, some when they are awaited
            assert callable(kept[name])
        for bound in (kept["noop"], kept["logout"], kept["unselect"]):
            with pytest.raises(LeaseEnded):
                await bound()
        assert not server.commands.names
        with pytest.raises(LeaseEnded):
            lease.fetched(fetch)
        # All that a connection knows is out of reach, so whatever a method does with it is, too.
        slots = {name for each in Connection.__mro__ for name in getattr(each, "__slots__", ())}
        for name in {"capabilities", "is_clean", "is_open", "selected"} | slots:
            with pytest.raises(LeaseEnded):
                getattr(lease, name)
        with pytest.raises(LeaseEnded):
            lease.expires_at = 0.0
        assert repr(lease) == "<Lease that has ended>"


async def test_what_was_kept_of_the_client_and_the_data_plane_leads_nowhere() -> None:
    async with Server(3) as server, pool_on(server, max_size=1) as pool:
        async with pool.acquire() as lease:
            client, protocol, plane, run = lease.imap, lease.imap.protocol, lease.plane, lease.plane.run
            waiting = asyncio.ensure_future(client.wait_server_push())
            await asyncio.sleep(0)
        # Nothing will be pushed to it any more.
        assert await asyncio.wait_for(waiting, 60) == aioimaplib.STOP_WAIT_SERVER_PUSH
        async with pool.acquire() as second:
            server.commands.clear()
            command = Command("NOOP", [b"NOOP\r\n"])
            calls: list[Callable[[], object]] = [
                client.get_state,
                client.has_pending_idle,
                lambda: client.protocol,
                client.idle_done,
                lambda: protocol.send("A1 DELETE INBOX"),
                lambda: protocol.state,
                lambda: protocol.transport,
                lambda: plane.submit(command),
                lambda: plane.write(b"A1 DELETE INBOX\r\n"),
                lambda: plane.abort(ConnectionLost()),
                lambda: plane.transport,
                lambda: plane.is_busy,
            ]
            for call in calls[:2] + calls[3:]:
                with pytest.raises(LeaseEnded):
                    call()
            with pytest.raises(LeaseEnded):
                plane.error = ConnectionLost()
            awaited: list[Callable[[], Awaitable[object]]] = [
                lambda: run(command),
                lambda: plane.run(command),
                lambda: client.wait_server_push(0.1),
                client.idle_start,
                lambda: client.append(b"x"),
                client.logout,
            ]
            for each in awaited:
                with pytest.raises(LeaseEnded):
                    await each()
            assert not server.commands.names
            await second.noop()
        assert pool.stats.opened == 1


async def test_a_task_that_goes_on_after_the_block_is_stopped_between_two_commands() -> None:
    async with Server({"INBOX": 1, "Archive": 1}) as server, pool_on(server, max_size=1) as pool:
        began = asyncio.Event()

        async def forgotten(lease: Lease) -> None:
            while True:
                await lease.noop()
                began.set()
                await asyncio.sleep(0)

        async with pool.acquire() as lease:
            task = asyncio.ensure_future(forgotten(lease))
            await began.wait()
        async with pool.acquire("Archive") as second:
            with pytest.raises((LeaseEnded, ConnectionLost)):
                await task
            assert second.selected is not None
            assert second.selected.name == "Archive"


async def test_a_connection_whose_transport_somebody_has_goes_back_to_no_pool() -> None:
    async with Server(1) as server, pool_on(server, max_size=1) as pool:
        async with pool.acquire() as lease:
            assert lease.imap.protocol.transport is not None
        assert pool.stats.idle == 0
        async with pool.acquire() as lease:
            await lease.imap.noop()
        assert pool.stats.idle == 1


async def test_what_a_holder_sets_on_his_client_is_not_the_next_ones() -> None:
    async with Server(1) as server, pool_on(server, max_size=1) as pool:
        async with pool.acquire() as lease:
            lease.imap.timeout = 0.001
            lease.imap.protocol.new_tag()
            tag = (lease.imap.protocol.tagpre, lease.imap.protocol.tagnum)
        async with pool.acquire() as lease:
            assert lease.imap.timeout > 1
            # Tags go on where they were, so that none comes twice on a connection.
            assert (lease.imap.protocol.tagpre, lease.imap.protocol.tagnum) == tag
        assert pool.stats.opened == 1


async def test_bytes_that_a_holder_never_released_end_the_connection() -> None:
    """Nobody can release them any more, and a connection that holds too much reads no more."""
    async with Server(3) as server, pool_on(server, max_size=1) as pool:
        async with pool.acquire("INBOX") as lease:
            await lease.uid_fetch(UidSet.parse("1:3"), Fetch("full"), lambda _: None).finished
        assert pool.stats.idle == 0
        async with pool.acquire("INBOX") as lease:
            found: list[imapipe.Message] = []
            await lease.uid_fetch(UidSet.parse("1:3"), Fetch("full"), found.extend).finished
            for message in found:
                lease.release(message)
        assert pool.stats.idle == 1


async def test_leases_leave_nothing_behind_on_a_connection() -> None:
    async with Server(1) as server, pool_on(server, max_size=1) as pool:
        async with pool.acquire() as lease:
            listeners = len(lease.session.lost_listeners)
        for _ in range(10):
            async with pool.acquire() as lease:
                await lease.noop()
                assert len(lease.session.lost_listeners) == listeners


async def test_a_lease_ends_with_an_exception_too() -> None:
    async with Server(1) as server, pool_on(server) as pool:
        with pytest.raises(LookupError):
            async with pool.acquire() as lease:
                raise LookupError
        with pytest.raises(LeaseEnded):
            await lease.noop()
        assert (pool.stats.leased, pool.stats.idle) == (0, 1)


async def test_an_adopted_client_stays_its_owners() -> None:
    async with Server({"INBOX": 1, "Archive": 1}) as server:
        client = aioimaplib.IMAP4(server.host, server.port)
        await client.wait_hello_from_server()
        await client.login("ann", "secret")
        async with pool_on(server, max_size=1) as pool:
            pool.adopt(client)
            async with pool.acquire("Archive") as lease:
                kept = lease.imap
                assert kept is not client
            with pytest.raises(LeaseEnded):
                await kept.noop()
            assert (await client.noop()).result == "OK"
            assert pool.stats.opened == 0


# -- the mailbox of a lease --------------------------------------------------------------------------------------------


async def test_a_named_lease_has_its_mailbox_open_for_reading() -> None:
    """Defect: `acquire("INBOX")` handed out what the last holder had left open, for writing."""
    async with Server({"INBOX": 3, "Archive": 2}) as server, pool_on(server, max_size=1) as pool:
        async with pool.acquire() as lease:
            await lease.select("Archive")
        async with pool.acquire("INBOX") as lease:
            assert lease.selected is not None
            assert (lease.selected.name, lease.selected.read_only, lease.selected.exists) == ("INBOX", True, 3)
            assert (await lease.imap.store("1", "+FLAGS", r"(\Deleted)")).result == "NO"
        async with pool.acquire("Archive", write=True) as lease:
            assert lease.selected is not None
            assert (lease.selected.name, lease.selected.read_only) == ("Archive", False)
        async with pool.acquire("Archive") as lease:
            assert lease.selected is not None
            assert (lease.selected.name, lease.selected.read_only) == ("Archive", True)
        assert moves(server) == [
            ("SELECT", "Archive"),
            ("EXAMINE", "INBOX"),
            ("SELECT", "Archive"),
            ("EXAMINE", "Archive"),
        ]
        assert pool.stats.opened == 1


@pytest.mark.parametrize("has_unselect", [True, False])
async def test_an_unnamed_lease_has_no_mailbox_open(has_unselect: bool) -> None:
    removed = () if has_unselect else ("UNSELECT",)
    async with (
        Server({"INBOX": 3}, extensions="plain", add_extensions=("UNSELECT",), remove_extensions=removed) as server,
        pool_on(server, max_size=1) as pool,
    ):
        async with pool.acquire("INBOX", write=True) as lease:
            await lease.imap.store("1", "+FLAGS", r"(\Deleted)")
        async with pool.acquire() as lease:
            assert lease.selected is None
            assert lease.imap.get_state() == "AUTH"
        # CLOSE would expunge.
        assert len(server.mailboxes["INBOX"].uids) == 3
        moves(server)
        async with pool.acquire() as lease:
            assert lease.selected is None
        assert moves(server) == []


async def test_a_mailbox_that_is_open_is_not_opened_again_but_its_numbers_are_new() -> None:
    async with Server({"INBOX": 3}) as server, pool_on(server, max_size=1) as pool:
        async with pool.acquire("INBOX") as lease:
            pass
        moves(server)
        async with pool.acquire("inbox") as lease:
            assert moves(server) == [("NOOP", "")]
        server.mailboxes["INBOX"].extend([b"new"])
        async with pool.acquire("INBOX") as lease:
            assert lease.selected is not None
            assert (lease.selected.exists, lease.selected.uidnext) == (4, 5)
            # NOOP tells of the message and not of the UIDNEXT behind it.
            assert moves(server) == [("NOOP", ""), ("EXAMINE", "INBOX")]


async def test_the_connection_that_has_the_mailbox_open_is_preferred() -> None:
    async with Server({"INBOX": 1, "a": 1, "b": 1}) as server, pool_on(server, max_size=3) as pool:
        async with pool.acquire("a") as a, pool.acquire("b", write=True) as b, pool.acquire() as none:
            sessions = {"a": a.session, "b": b.session, "": none.session}
        moves(server)
        async with pool.acquire("b", write=True) as lease:
            assert lease.session is sessions["b"]
        async with pool.acquire("a") as lease:
            assert lease.session is sessions["a"]
        async with pool.acquire() as lease:
            assert lease.session is sessions[""]
        assert moves(server) == [("NOOP", ""), ("NOOP", "")]
        async with pool.acquire("b") as lease:
            assert lease.session is sessions["b"]
        assert moves(server) == [("EXAMINE", "b")]


async def test_a_mailbox_that_is_refused_gives_the_connection_back_clean() -> None:
    async with Server({"INBOX": 1}) as server, pool_on(server, max_size=1) as pool:
        for _ in range(3):
            with pytest.raises(CommandNo):
                async with pool.acquire("Nowhere"):
                    raise AssertionError("it must not be entered")
            assert (pool.stats.leased, pool.stats.idle) == (0, 1)
        async with pool.acquire() as lease:
            assert lease.selected is None
        assert pool.stats.opened == 1


async def test_a_mailbox_that_cannot_be_written_is_refused() -> None:
    fault = Reply("OK", "done", "READ-ONLY", command="SELECT", after_response=True)
    async with Server({"INBOX": 1}, faults=[fault]) as server, pool_on(server, max_size=1) as pool:
        with pytest.raises(CommandNo, match="'INBOX' cannot be opened for writing"):
            async with pool.acquire("INBOX", write=True):
                raise AssertionError("it must not be entered")
        assert (pool.stats.leased, pool.stats.idle) == (0, 1)


async def test_arguments_of_acquire() -> None:
    async with Server(1) as server, pool_on(server) as pool:
        with pytest.raises(ValueError, match="needs the name of the mailbox"):
            pool.acquire(write=True)
        for name in ("", "a\r\nb DELETE INBOX", "a\0"):
            with pytest.raises(ValueError, match="cannot be the name of a mailbox"):
                pool.acquire(name)
        with pytest.raises(TypeError, match=r"acquire\(\) takes the name of a mailbox"):
            pool.acquire(1)  # type: ignore[arg-type]


async def test_who_is_cancelled_while_his_mailbox_is_opened_leaves_nothing() -> None:
    async with Server({"INBOX": 1}, latency_seconds=0.02) as server, pool_on(server, max_size=1) as pool:
        async with pool.acquire():
            pass

        async def use() -> None:
            async with pool.acquire("INBOX"):
                raise AssertionError("it must not be entered")

        task = asyncio.ensure_future(use())
        await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (pool.stats.leased, pool.stats.waiting) == (0, 0)
        async with pool.acquire("INBOX") as lease:
            await lease.noop()


# -- a connection that has just died -----------------------------------------------------------------------------------

JOBS: Mapping[str, Callable[[imapipe.Pool], Awaitable[object]]] = {
    "LIST": lambda pool: pool.mailboxes(),
    "STATUS": lambda pool: pool.mailbox("INBOX").status(),
}


async def _open_named(pool: imapipe.Pool) -> None:
    async with pool.acquire("INBOX") as lease:
        await lease.noop()


@pytest.mark.parametrize("kind", ["cut", "bye"])
@pytest.mark.parametrize("command", ["LIST", "STATUS", "EXAMINE"])
async def test_what_is_asked_of_a_connection_that_has_just_died_is_asked_of_another(command: str, kind: str) -> None:
    job = JOBS.get(command, _open_named)
    fault = CutAfterBytes(0, command=command, nth=1) if kind == "cut" else Bye("gone", command=command, nth=1)
    async with Server(3, faults=[fault]) as server, pool_on(server) as pool:
        async with pool.acquire():
            pass
        await job(pool)
        assert fault.fired == 1
        assert pool.stats.opened == 2
        assert (pool.stats.leased, pool.stats.idle) == (0, 1)


@pytest.mark.parametrize("command", ["LIST", "STATUS", "EXAMINE"])
async def test_it_is_asked_once_more_and_not_for_ever(command: str) -> None:
    job = JOBS.get(command, _open_named)
    fault = Bye("gone", command=command)
    async with Server(3, faults=[fault]) as server, pool_on(server) as pool:
        with pytest.raises(ServerBye):
            await job(pool)
        assert fault.fired == 2


async def test_what_is_refused_is_asked_once() -> None:
    faults = [
        Reply("NO", "no", command="LIST"),
        Bye("[LIMIT] Rate limit hit.", command="STATUS", tagged="NO [LIMIT] Rate limit hit."),
    ]
    async with Server(3, faults=faults, extensions="plain") as server, pool_on(server) as pool:
        with pytest.raises(CommandNo):
            await pool.mailboxes()
        # A server that asks for less is not asked again at once.
        with pytest.raises(imapipe.Throttled):
            await pool.mailbox("INBOX").status()
        assert [fault.fired for fault in faults] == [1, 1]


async def test_status_is_not_asked_of_the_mailbox_that_is_selected() -> None:
    async with Server({"INBOX": 1, "Other": 1}) as server, pool_on(server, max_size=1) as pool:
        async with pool.acquire("INBOX"):
            pass
        moves(server)
        assert (await pool.mailbox("Other").status()).messages == 1
        assert moves(server) == []
        assert (await pool.mailbox("INBOX").status()).messages == 1
        assert moves(server) == [("UNSELECT", "")]


@pytest.mark.usefixtures("made_up_time")
async def test_a_server_that_is_gone_is_told_as_such() -> None:
    async with Server(3) as server, pool_on(server) as pool:
        await server.stop()
        for job in JOBS.values():
            with pytest.raises(ConnectionFailed, match="the port refused it"):
                await job(pool)
        with suppress(ConnectionFailed):
            await _open_named(pool)
        assert (pool.stats.leased, pool.stats.idle, pool.stats.waiting) == (0, 0, 0)
