"""The names of aioimaplib that the bridge relies on: private, or written down nowhere.

When one of these fails after an update of aioimaplib, `net/bridge.py` has to follow.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from importlib.metadata import version
from typing import Any

import aioimaplib
import pytest
from aioimaplib import aioimaplib as private

from imapipe.net import bridge

pytestmark = pytest.mark.asyncio


def parameters(function: Any) -> list[str]:  # noqa: ANN401 - whatever aioimaplib has there
    return list(inspect.signature(function).parameters)


async def test_the_version_that_was_looked_at() -> None:
    assert re.match(r"2\.", version("aioimaplib"))


async def test_the_client_makes_its_protocol_in_one_place() -> None:
    made: list[tuple[Any, ...]] = []

    class Client(aioimaplib.IMAP4):  # type: ignore[misc]  # it ships no types
        def create_client(self, *words: Any) -> None:  # noqa: ANN401
            made.append(words)
            self.protocol = None

    client = Client("host", 99, timeout=7)
    assert made == [("host", 99, None, None, None)]
    assert (client.timeout, client.host, client.port, client._idle_waiter) == (7, "host", 99, None)
    assert parameters(aioimaplib.IMAP4.create_client)[1:] == ["host", "port", "loop", "conn_lost_cb", "ssl_context"]
    source = inspect.getsource(aioimaplib.IMAP4._wait_connection_and_hello)
    assert "self._client_task" in source
    assert "self.protocol.wait('AUTH|NONAUTH')" in source


async def test_the_protocol() -> None:
    kind = private.IMAP4ClientProtocol
    assert parameters(kind.__init__)[1:] == ["loop", "conn_lost_cb"]
    assert parameters(kind.execute)[1:] == ["command", "scrub"]
    assert parameters(kind.send)[1:] == ["line", "scrub"]
    assert parameters(kind.search)[1:] == ["criteria", "charset", "by_uid"]
    assert parameters(kind.idle_done) == parameters(kind.capability) == parameters(kind.new_tag) == ["self"]
    protocol = kind(asyncio.get_running_loop())
    assert isinstance(protocol.state_condition, asyncio.Condition)
    assert isinstance(protocol.idle_queue, asyncio.Queue)
    assert isinstance(protocol._idle_event, asyncio.Event)
    assert (protocol.literal_data, protocol.pending_sync_command, protocol.pending_async_commands) == (None, None, {})
    assert (protocol.incomplete_line, protocol.conn_lost_cb, protocol.imap_version) == (b"", None, None)
    assert protocol.new_tag() == f"{protocol.tagpre}0"
    assert protocol.tagnum == 1
    # Ours are P1, P2 …: the two can never be the same.
    assert re.fullmatch("[A-P]{4,}", protocol.tagpre)


async def test_the_states_and_where_they_are_read() -> None:
    states = (private.CONNECTED, private.NONAUTH, private.AUTH, private.SELECTED, private.LOGOUT)
    assert states == ("CONNECTED", "NONAUTH", "AUTH", "SELECTED", "LOGOUT")
    protocol = private.IMAP4ClientProtocol(asyncio.get_running_loop())
    protocol.pending_sync_command = private.IdleCommand("A1", protocol.idle_queue)
    assert protocol.has_pending_idle_command()


async def test_append_sets_its_literal_with_no_wait_before_execute() -> None:
    seen: list[tuple[bytes, tuple[str, ...]]] = []

    class Protocol(private.IMAP4ClientProtocol):  # type: ignore[misc]  # it ships no types
        async def execute(self, command: Any, scrub: str | None = None) -> None:  # noqa: ANN401
            seen.append((self.literal_data, command.args))
            await asyncio.sleep(0)

    protocol = Protocol(asyncio.get_running_loop())
    await asyncio.gather(protocol.append(b"one"), protocol.append(b"three", "Sent", "\\Seen"))
    assert seen == [(b"one", ("INBOX", "{3}")), (b"three", ("Sent", "(\\Seen)", "{5}"))]


async def test_commands() -> None:
    command = private.Command("FETCH", "A1", "1", "FLAGS", prefix="UID", untagged_resp_name="X", timeout=60)
    assert (command.name, command.tag, command.args, command.prefix) == ("FETCH", "A1", ("1", "FLAGS"), "UID ")
    assert (command.untagged_resp_name, command._timeout) == ("X", 60)
    assert not command._timer.cancelled()
    timer = command._timer
    command._timer.cancel()
    command._timeout = None
    # Without a timeout, lines arm no timer.
    command.append_to_resp(b"line")
    assert command._timer is timer
    command.append_to_resp(bytearray(b"literal"))
    command.close(b"done", "OK")
    assert command.response == private.Response("OK", [b"line", bytearray(b"literal"), b"done"])
    with pytest.raises(ValueError, match="CR and LF are not allowed"):
        private.Command("FETCH", "A1", "1\r\nA2 LOGOUT")
    assert str(private.CommandTimeout(command).command) == "A1 UID FETCH 1 FLAGS"


async def test_idle_commands_push_what_belongs_together() -> None:
    queue: asyncio.Queue[list[bytes]] = asyncio.Queue()
    command = private.IdleCommand("A1", queue)
    command.append_to_resp(b"1 EXISTS")
    command.append_to_resp(b"1 RECENT")
    command.flush()
    command.flush()
    assert queue.get_nowait() == [b"1 EXISTS", b"1 RECENT"]
    assert queue.empty()
    assert private.STOP_WAIT_SERVER_PUSH == [b"stop_wait_server_push"]


async def test_the_table_of_commands() -> None:
    assert private.Commands["FETCH"].valid_states == (private.SELECTED,)
    alone = {name for name, command in private.Commands.items() if command.exec is private.Exec.is_sync}
    assert {"SELECT", "EXAMINE", "APPEND", "IDLE", "LOGIN", "LOGOUT", "MOVE", "CLOSE"} <= alone
    assert not {"FETCH", "STORE", "SEARCH", "LIST", "STATUS", "NOOP", "EXPUNGE", "COPY"} & alone
    assert alone == bridge._TAKE_ALL


async def test_what_we_override_is_all_that_reads_or_writes() -> None:
    """No method of theirs but these touches the transport."""
    overridden = {"send", "execute"}
    for name, function in inspect.getmembers(private.IMAP4ClientProtocol, inspect.isfunction):
        uses = "transport.write" in inspect.getsource(function)
        # The continuation is part of their receive path, which nothing calls any more.
        assert not uses or name in {*overridden, "_continuation"}, name
