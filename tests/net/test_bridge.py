"""A leased connection as aioimaplib's users know it: methods, IDLE, APPEND, timeouts, adoption."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aioimaplib
import pytest
from aioimaplib import aioimaplib as private

import imapipe
from imapipe.errors import ConnectionFailed, ConnectionLost, ServerBye
from imapipe.net.connection import Connection
from imapipe.testing import Bye, CutAfterBytes, Delay, Reply, Server, Stall

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def leased(server: Server, **more: float) -> AsyncIterator[Connection]:
    async with (
        imapipe.create_pool(server.url, password="secret", **more) as pool,  # type: ignore[arg-type]
        pool.acquire() as connection,
    ):
        yield connection


# -- methods -----------------------------------------------------------------------------------------------------------


async def test_it_is_a_client_of_aioimaplib() -> None:
    async with Server(3) as server, leased(server) as connection:
        imap = connection.imap
        assert isinstance(imap, aioimaplib.IMAP4)
        assert (imap.host, imap.port) == (server.host, server.port)
        assert imap.get_state() == "AUTH"
        assert imap.protocol.imap_version == "IMAP4REV1"
        assert imap.has_capability("IDLE")
        await imap.wait_hello_from_server()
        assert (await imap.enable("X-NONE")).lines[0] == b"ENABLED"
        assert (await imap.noop()).result == "OK"
        assert (await imap.select()).result == "OK"
        assert imap.get_state() == "SELECTED"
        assert aioimaplib.extract_exists(await imap.examine()) == 3
        assert (await imap.uid_search("ALL")).lines[0] == b"1 2 3"
        assert (await imap.search("1:2")).lines[0] == b"1 2"
        response = await imap.fetch("1", "(UID FLAGS BODY.PEEK[])")
        raw = server.mailboxes["INBOX"][1].content.raw
        assert response.lines == [
            b"1 FETCH (UID 1 FLAGS () BODY[] {%d}" % len(raw),
            bytearray(raw),
            b")",
            b"FETCH completed",
        ]
        assert (await imap.list('""', "*")).lines[0].endswith(b'"INBOX"')
        assert (await imap.status("INBOX", "(MESSAGES)")).lines[0] == b'"INBOX" (MESSAGES 3)'
        assert (await imap.id(name="x")).lines[0] == b'("name" "imapipe.testing")'
        assert (await imap.namespace()).result == "OK"
        assert (await imap.create("Über uns")).result == "OK"
        assert (await imap.rename("Über uns", "plain")).result == "OK"
        assert (await imap.subscribe("plain")).result == "OK"
        assert (await imap.delete("plain")).result == "OK"
        assert (await imap.close()).result == "OK"
        assert imap.get_state() == "AUTH"
        with pytest.raises(private.Abort, match="command FETCH illegal in state AUTH"):
            await imap.fetch("1", "FLAGS")


async def test_changing_messages() -> None:
    async with Server({"INBOX": 5, "Other": 0}) as server, leased(server) as connection:
        imap = connection.imap
        await imap.select()
        response = await imap.uid("store", "1:2", "+FLAGS", "(\\Deleted)")
        assert [line.split()[1] for line in response.lines[:-1]] == [b"FETCH", b"FETCH"]
        assert (await imap.uid("copy", "3", "Other")).lines[-1].startswith(b"[COPYUID ")
        assert (await imap.uid("move", "4", "Other")).result == "OK"
        assert (await imap.uid("expunge", "1")).lines[0] == b"1 EXPUNGE"
        assert (await imap.expunge()).lines[0] == b"1 EXPUNGE"
        assert connection.selected is not None
        assert connection.selected.exists == 2
        assert list(server.mailboxes["INBOX"].uids) == [3, 5]


async def test_what_must_not_be_sent_by_hand() -> None:
    async with Server(1) as server, leased(server) as connection:
        protocol = connection.imap.protocol
        for name in ("COMPRESS", "STARTTLS"):
            with pytest.raises(private.Abort, match="cannot be sent by hand"):
                await protocol.execute(private.Command(name, protocol.new_tag()))
        assert connection.is_clean
        assert (await protocol.execute(private.Command("XUNKNOWN", protocol.new_tag()))).result == "BAD"
        assert connection.is_open
        assert not connection.is_clean


async def test_our_own_commands_and_theirs_take_turns() -> None:
    async with Server(20) as server, leased(server) as connection:
        await connection.examine("INBOX")
        work = [
            connection.imap.uid("fetch", "1:20", "(FLAGS)"),
            connection.noop(),
            connection.imap.uid_search("ALL"),
            connection.list(),
            connection.imap.uid("fetch", "5", "(UID RFC822.SIZE)"),
        ]
        results = await asyncio.gather(*work)
        assert len(results[0].lines) == 21
        assert results[2].lines[0].split() == [b"%d" % uid for uid in range(1, 21)]
        assert results[4].lines[0].startswith(b"5 FETCH (UID 5 ")


# -- APPEND ------------------------------------------------------------------------------------------------------------


async def test_many_appends_at_a_time() -> None:
    messages = [b"Subject: %d\r\n\r\n%b" % (number, b"x" * (number * 7919 % 200_000)) for number in range(12)]
    async with Server(0) as server, leased(server) as connection:
        responses = await asyncio.gather(
            *(connection.imap.append(message, flags="\\Seen") for message in messages), connection.imap.noop()
        )
        assert {response.result for response in responses} == {"OK"}
        stored = [server.mailboxes["INBOX"][uid].content.raw for uid in server.mailboxes["INBOX"].uids]
        assert stored == messages
        assert connection.is_clean


async def test_an_append_that_is_refused_before_its_literal() -> None:
    async with Server(0, max_literal_bytes=1000) as server, leased(server) as connection:
        assert (await connection.imap.append(b"x" * 2000)).result == "BAD"
        assert (await connection.imap.append(b"x" * 20)).result == "OK"
        assert (await connection.imap.append(b"x" * 20, "missing")).result == "NO"
        assert connection.is_clean


async def test_a_large_append_does_not_run_into_a_timeout_while_the_server_takes_it() -> None:
    message = b"x" * 8_000_000
    async with (
        Server(0, max_literal_bytes=10_000_000) as server,
        leased(server, command_timeout_seconds=60) as connection,
    ):
        assert (await connection.imap.append(message)).result == "OK"
        assert len(server.mailboxes["INBOX"][1].content.raw) == len(message)


# -- IDLE --------------------------------------------------------------------------------------------------------------


async def test_idle() -> None:
    async with Server(1) as server, leased(server) as connection:
        imap = connection.imap
        await imap.select()
        idle = await imap.idle_start(timeout=60)
        assert imap.has_pending_idle()
        assert not connection.is_clean
        server.mailboxes["INBOX"].extend([b"one", b"two"])
        assert await imap.wait_server_push(60) == [b"3 EXISTS"]
        server.mailboxes["INBOX"].expunge([1, 2])
        pushed = await imap.wait_server_push(60)
        assert pushed == [b"1 EXPUNGE", b"1 EXPUNGE"]
        waiting = asyncio.ensure_future(imap.noop())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        imap.idle_done()
        imap.idle_done()
        assert (await idle).result == "OK"
        assert (await waiting).result == "OK"
        assert imap.has_pending_idle() is not connection.is_clean
        # And once more.
        idle = await imap.idle_start(timeout=0.01)
        assert await imap.wait_server_push(60) == private.STOP_WAIT_SERVER_PUSH
        imap.idle_done()
        await idle
    assert server.commands.names.count("IDLE") == 2


async def test_idle_that_is_ended_before_it_has_begun() -> None:
    async with Server(1, faults=[Delay(0.05, command="IDLE")]) as server, leased(server) as connection:
        await connection.imap.select()
        idle = asyncio.ensure_future(connection.imap.idle())
        await asyncio.sleep(0)
        connection.imap.idle_done()
        assert (await asyncio.wait_for(idle, 60)).result == "OK"
        connection.imap.idle_done()
        assert connection.is_clean


async def test_idle_refused() -> None:
    async with Server(1, faults=[Reply("NO", "not now", command="IDLE")]) as server, leased(server) as connection:
        await connection.imap.select()
        with pytest.raises(private.Abort, match="server returned error to IDLE command"):
            await connection.imap.idle_start(timeout=1)
        assert connection.is_clean


async def test_who_waits_for_a_push_hears_of_the_end_of_the_connection() -> None:
    async with Server(1) as server, leased(server) as connection:
        imap = connection.imap
        await imap.select()
        idle = await imap.idle_start(timeout=60)
        waiting = asyncio.ensure_future(imap.wait_server_push())
        await asyncio.sleep(0)
        server.disconnect_all()
        assert await asyncio.wait_for(waiting, 60) == private.STOP_WAIT_SERVER_PUSH
        assert not imap.has_pending_idle()
        imap.idle_done()
        with pytest.raises(ConnectionLost):
            await idle
        imap._idle_waiter.cancel()


async def test_a_connection_that_comes_back_with_idle_open_is_thrown_away() -> None:
    async with Server(1) as server, imapipe.create_pool(server.url, password="secret", max_size=1) as pool:
        async with pool.acquire() as first:
            imap = first.imap
            await imap.select()
            idle = await imap.idle_start(timeout=60)
        with pytest.raises(ConnectionLost):
            await idle
        async with pool.acquire() as second:
            assert pool.stats.opened == 2
            await second.noop()
        assert imap._idle_waiter.cancelled()


async def test_nothing_of_one_holders_idle_is_left_to_the_next() -> None:
    async with Server(1) as server, imapipe.create_pool(server.url, password="secret", max_size=1) as pool:
        async with pool.acquire() as first:
            await first.imap.select()
            idle = await first.imap.idle_start(timeout=60)
            server.mailboxes["INBOX"].extend([b"new"])
            await asyncio.sleep(0.02)
            first.imap.protocol.idle_done()
            await idle
            assert not first.imap.protocol.idle_queue.empty()
            imap = first.imap
        assert imap._idle_waiter.cancelled()
        async with pool.acquire() as second:
            assert pool.stats.opened == 1
            assert second.imap.protocol.idle_queue.empty()
            assert second.imap._idle_waiter is None


# -- timeouts and ends -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("made_up_time")
async def test_their_timeout_is_about_silence_and_ends_the_connection() -> None:
    clock = asyncio.get_running_loop().time
    async with Server(40, bandwidth_bytes_per_second=100_000, clock=clock) as server, leased(server) as connection:
        imap = connection.imap
        await imap.select()
        imap.timeout = 0.3
        began = clock()
        response = await imap.uid("fetch", "1:40", "(BODY.PEEK[])")
        # It took longer than that, but there was never silence for so long.
        assert clock() - began > 0.3
        assert len(response.lines) == 3 * 40 + 1
        server.faults.add(Stall(10, command="UID FETCH"))
        with pytest.raises(private.CommandTimeout):
            await imap.uid("fetch", "1", "(FLAGS)")
        assert not connection.is_open
        assert imap.get_state() == "LOGOUT"
        with pytest.raises(imapipe.CommandTimeout):
            await connection.noop()


async def test_their_other_timeout_cancels_and_ends_the_connection() -> None:
    async with Server(1, faults=[Stall(0, command="NOOP")]) as server, leased(server) as connection:
        connection.imap.timeout = 0.05
        with pytest.raises(TimeoutError):
            await connection.imap.noop()
        assert not connection.is_open


async def test_a_wait_behind_idle_that_is_cancelled_harms_nobody() -> None:
    async with Server(1) as server, leased(server) as connection:
        imap = connection.imap
        await imap.select()
        idle = await imap.idle_start(timeout=60)
        imap.timeout = 0.02
        with pytest.raises(TimeoutError):
            await imap.noop()
        imap.timeout = 60
        imap.idle_done()
        assert (await idle).result == "OK"
        assert (await imap.noop()).result == "OK"


async def test_logout() -> None:
    async with Server(1) as server, leased(server) as connection:
        assert (await connection.imap.logout()).lines[0] == b"BYE Logging out"
        assert connection.imap.get_state() == "LOGOUT"
        assert not connection.is_open
        for _ in range(100):
            await asyncio.sleep(0)
        assert server.counters.open_connections == 0


@pytest.mark.parametrize("fault", [CutAfterBytes(20, command="UID FETCH"), Bye("slow down", command="UID FETCH")])
async def test_the_end_of_the_connection_is_told_at_once(fault: CutAfterBytes | Bye) -> None:
    async with Server(3, faults=[fault]) as server, leased(server) as connection:
        await connection.imap.select()
        with pytest.raises((ConnectionLost, ServerBye)):
            await connection.imap.uid("fetch", "1:3", "(FLAGS)")
        assert not connection.is_open


# -- adoption ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def client_of(server: Server) -> AsyncIterator[aioimaplib.IMAP4]:
    client = aioimaplib.IMAP4(server.host, server.port)
    await client.wait_hello_from_server()
    try:
        yield client
    finally:
        if client.protocol.transport is not None:
            client.protocol.transport.abort()
        await asyncio.sleep(0)


async def test_a_live_client_is_adopted_and_stays_usable() -> None:
    async with Server(5) as server, client_of(server) as client:
        await client.login("ann", "secret")
        await client.select("INBOX")
        tag = client.protocol.tagnum
        async with imapipe.create_pool(server.url, password="secret", max_size=1) as pool:
            connection = pool.adopt(client)
            assert connection.imap is client
            assert client.get_state() == "SELECTED"
            assert client.protocol.tagnum == tag
            assert (await client.uid("fetch", "1", "(FLAGS)")).result == "OK"
            assert connection.offers("MOVE")
            uids = [message.uid async for message in pool.mailbox("INBOX").search().fetch("full")]
            assert uids == [1, 2, 3, 4, 5]
            assert pool.stats.opened == 0
            async with pool.acquire() as lease:
                assert lease.session is connection.session
                assert (await client.noop()).result == "OK"
    assert server.counters.connections == 1


async def test_an_adopted_client_keeps_its_callback_for_the_end() -> None:
    heard: list[Exception | None] = []
    async with Server(1) as server:
        client = aioimaplib.IMAP4(server.host, server.port, conn_lost_cb=heard.append)
        await client.wait_hello_from_server()
        await client.login("ann", "secret")
        connection = Connection.adopt(client)
        await connection.logout()
        await asyncio.sleep(0)
        assert len(heard) == 1
        assert isinstance(heard[0], ServerBye | ConnectionLost)


async def test_what_cannot_be_adopted() -> None:
    async with Server(1) as server, client_of(server) as client:
        await client.login("ann", "secret")
        await client.select("INBOX")
        client.protocol.capabilities.add("IDLE")
        idle = await client.idle_start(timeout=60)
        with pytest.raises(ValueError, match="has a command in flight"):
            Connection.adopt(client)
        client.idle_done()
        await idle
        client.protocol.incomplete_line = b"* 1 FET"
        with pytest.raises(ValueError, match="has a command in flight"):
            Connection.adopt(client)
        client.protocol.incomplete_line = b""
        connection = Connection.adopt(client)
        with pytest.raises(ValueError, match="runs on imapipe already"):
            Connection.adopt(client)
        await connection.logout()
        other = aioimaplib.IMAP4(server.host, server.port)
        with pytest.raises(ConnectionFailed, match="call wait_hello_from_server"):
            Connection.adopt(other)
        await other.wait_hello_from_server()
        other.protocol.transport.abort()
        with pytest.raises(ConnectionFailed, match="is not connected"):
            Connection.adopt(other)


async def test_a_client_that_is_not_logged_in_can_log_in_after_it_was_adopted() -> None:
    user, password = 'änn "x"', "pässwörd"
    async with Server(1, user=user, password=password) as server, client_of(server) as client:
        connection = Connection.adopt(client)
        assert client.get_state() == "NONAUTH"
        assert (await client.login(user, password)).result == "OK"
        assert client.get_state() == "AUTH"
        assert connection.offers("MOVE")
        await connection.logout()
