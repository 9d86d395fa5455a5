"""The bridge to aioimaplib: the only module that imports it, and the only one that uses its private names.

A leased connection's `.imap` is a real `aioimaplib.IMAP4`. Its protocol object is `BridgeProtocol`: the class
of aioimaplib with its receive path and its scheduling taken out, because every byte is read by
our data plane. What users know stays: methods, `Response` objects with result and lines, IDLE with its
queue, exceptions.

Names relied on, private or not written down anywhere (`tests/net/test_bridge_contract.py` checks them):

- `IMAP4`: `create_client(host, port, loop, conn_lost_cb, ssl_context)`, called by its constructor; `_client_task`,
  awaited by `wait_hello_from_server`; `_idle_waiter`, the timer of `idle_start`; `protocol`.
- `IMAP4ClientProtocol`: `execute`, `send`, `idle_done`, `search`, `capability`, `state_condition`, `literal_data`,
  `pending_sync_command`, `pending_async_commands`, `incomplete_line`, `idle_queue`, `_idle_event`, `conn_lost_cb`,
  `tagpre`, `tagnum`; `append` sets `literal_data` and calls `execute` with no wait between.
- `Command`: `name`, `tag`, `args`, `prefix`, `untagged_resp_name`, `_timer`, `_timeout`, `append_to_resp`, `close`,
  `flush`, `response`; the table `Commands` with `valid_states` and `exec`.

Invariants:

- One command at a time besides FETCHes of ours: the data plane queues, so the tables of aioimaplib stay empty but
  for IDLE, which `has_pending_idle` looks for.
- The state (`state`, `capabilities`) is read from the session that the data plane feeds; assignments of
  aioimaplib's own methods to them agree with it and are not kept.
- A command that times out or is cancelled ends the connection, unless it was not sent yet.
- A lease has a client and a protocol object of its own (`lend_client`), which lead nowhere once it is over.
"""

from __future__ import annotations

import asyncio
import copy
import ssl
from collections.abc import Awaitable, Callable
from typing import TypeAlias, cast

import aioimaplib
from aioimaplib import aioimaplib as private

from imapipe.errors import CommandTimeout, ConnectionFailed
from imapipe.net.bridged_command import Bridged, BridgedIdle, BridgedSasl, write_command
from imapipe.net.dataplane import Dataplane
from imapipe.net.ended import ENDED
from imapipe.net.session import SelectedMailbox, Session
from imapipe.wire.command.encoder import one_line

IMAP4: TypeAlias = aioimaplib.IMAP4
Open = Callable[[], Awaitable[None]]

# They get every untagged response; the others those under their own name.
_TAKE_ALL = frozenset(name for name, command in private.Commands.items() if command.exec is private.Exec.is_sync)
# What follows them is no IMAP: only the data plane can send them.
_NOT_THEIRS = ("COMPRESS", "STARTTLS")


class BridgeProtocol(private.IMAP4ClientProtocol):  # type: ignore[misc]  # it ships no types
    """Stands in for aioimaplib's protocol object, without its receive path.

    Args:
        plane: The data plane.
        session: What it feeds.
        lost_callback: Called when the connection has ended, with the exception.
    """

    literal_data: bytes | None

    def __init__(
        self,
        plane: Dataplane,
        session: Session,
        lost_callback: Callable[[Exception | None], None] | None = None,
    ) -> None:
        self._plane = plane
        self._session = session
        self._idle: BridgedIdle | None = None
        super().__init__(asyncio.get_running_loop(), lost_callback)
        session.lost_listeners.append(self._lost)

    @property
    def state(self) -> str:
        """Where the connection is, in aioimaplib's words."""
        session = self._session
        if session.error is not None or session.logged_out:
            return str(private.LOGOUT)
        if session.selected is not None:
            return str(private.SELECTED)
        if session.logged_in:
            return str(private.AUTH)
        return str(private.NONAUTH) if session.greeted else str(private.CONNECTED)

    @state.setter
    def state(self, value: str) -> None:
        """Their methods assign what the session knows already."""

    @property
    def capabilities(self) -> set[str]:
        """Upper-case names."""
        return set(self._session.capabilities)

    @capabilities.setter
    def capabilities(self, value: set[str]) -> None:
        """As for `state`; the brackets that aioimaplib leaves in must not get in."""

    @property
    def imap_version(self) -> str | None:
        """`IMAP4REV1`, or None before the capabilities are known."""
        return next((name for name in private.AllowedVersions if name in self._session.capabilities), None)

    @imap_version.setter
    def imap_version(self, value: str | None) -> None:
        """As for `state`."""

    @property
    def transport(self) -> asyncio.Transport | None:
        """The transport of the connection.

        Whoever has it can write to it whenever he likes, so the connection goes back to no pool.
        """
        self._session.unknown_commands += 1
        return self._plane.transport

    @transport.setter
    def transport(self, value: object) -> None:
        """The data plane holds it."""

    async def execute(self, command: private.Command, scrub: str | None = None) -> private.Response:
        """Send a command of theirs and wait for its reply.

        Raises:
            aioimaplib.Abort: The command is not legal in this state.
            aioimaplib.CommandTimeout: The server was silent for its timeout; the connection is ended.
            ConnectionLost, ServerBye, ProtocolError: The connection ended.
        """
        literal, self.literal_data = self.literal_data, None
        # One timer for each connection is enough; theirs is armed again for every line.
        command._timer.cancel()
        timeout, command._timeout = command._timeout, None
        self._check_legal(command)
        if scrub:
            # What they would hide in their log, a server may echo.
            self._plane.secrets.add(scrub)
        bridged = self._bridge(command, literal, timeout)
        if isinstance(bridged, BridgedIdle):
            self.pending_sync_command, self._idle = command, bridged
        try:
            await self._plane.run(bridged)
        except CommandTimeout as error:
            if scrub:
                command.args = ("(hidden)",)
            raise private.CommandTimeout(command) from error
        finally:
            if bridged is self._idle:
                self.pending_sync_command = self._idle = None
                self._idle_event.clear()
        if self._session.logged_out and self._plane.transport is not None:
            self._plane.transport.close()
        return command.response

    def _check_legal(self, command: private.Command) -> None:
        if command.name in _NOT_THEIRS:
            raise private.Abort(f"{command.name} cannot be sent by hand: create_pool() has compress= and starttls=")
        known = private.Commands.get(command.name)
        # A connection that has ended has more to say than that the command is illegal now.
        if known is not None and self._session.error is None and self.state not in known.valid_states:
            raise private.Abort(f"command {command.name} illegal in state {self.state}")

    def _bridge(self, command: private.Command, literal: bytes | None, timeout: float | None) -> Bridged:
        if command.name != "APPEND":
            literal = None
        request = write_command(command, literal, utf8="UTF8=ACCEPT" in self._session.enabled)
        if command.name == "IDLE":
            return BridgedIdle(
                command, request, begun=self._idle_event, wake=self._wake_listeners, quiet_seconds=timeout
            )
        if command.name == "AUTHENTICATE":
            return BridgedSasl(command, request, quiet_seconds=timeout, keeps_asking=True)
        return Bridged(command, request, takes_all=command.name in _TAKE_ALL, quiet_seconds=timeout)

    async def search(self, *criteria: str, charset: str | None = "utf-8", by_uid: bool = False) -> private.Response:
        """SEARCH; CHARSET is sent only where something in it is not ASCII (Exchange rejects it otherwise)."""
        needed = charset is not None and not all(str(criterion).isascii() for criterion in criteria)
        return await super().search(*criteria, charset=charset if needed else None, by_uid=by_uid)

    async def capability(self) -> None:
        """Ask for the capabilities; the session hears the answer."""
        await self.execute(private.Command("CAPABILITY", self.new_tag()))

    async def greeted(self) -> None:
        """The greeting was read: wake whoever waits for a state."""
        async with self.state_condition:
            self.state_condition.notify_all()

    def idle_done(self) -> None:
        """End IDLE; does nothing where none is open."""
        if self._idle is not None:
            self._idle.end(self._plane.write)

    def send(self, line: str, scrub: str | None = None) -> None:
        """Write a line by hand; nobody knows what it does, so the connection goes back to no pool.

        Raises:
            ValueError: It is more than one line.
        """
        data = one_line(line)
        self._session.unknown_commands += 1
        self._plane.write(data)

    def lend(self) -> BridgeProtocol:
        """Another one on the same connection, which can be taken away from its user with `end`."""
        lent = BridgeProtocol(self._plane, self._session)
        lent.tagpre, lent.tagnum = self.tagpre, self.tagnum
        return lent

    def end(self, owner: BridgeProtocol) -> None:
        """Take the connection away from whoever has this protocol; `owner` goes on with its tags."""
        owner.tagnum = self.tagnum
        self._session.lost_listeners.remove(self._lost)
        self._plane, self._session = cast(Dataplane, ENDED), cast(Session, ENDED)
        self._wake_listeners()

    def _wake_listeners(self) -> None:
        """Nothing will be pushed any more: whoever waits for it must look at `has_pending_idle` again."""
        self.idle_queue.put_nowait(private.STOP_WAIT_SERVER_PUSH)

    def _lost(self, error: BaseException) -> None:
        if self.conn_lost_cb is not None:
            # Not from here: what a user's callback raises must not keep others from hearing of it.
            self.loop.call_soon(self.conn_lost_cb, error if isinstance(error, Exception) else None)


class BridgedIMAP4(aioimaplib.IMAP4):  # type: ignore[misc]  # it ships no types
    """A client of aioimaplib over our data plane.

    Args:
        plane: The data plane, not connected yet.
        session: What it feeds.
        opening: Connects and reads the greeting; raises what went wrong.
        host: Where it connects to.
        port: And at which port.
        timeout_seconds: For each of aioimaplib's own methods.
    """

    def __init__(
        self, plane: Dataplane, session: Session, opening: Open, *, host: str, port: int, timeout_seconds: float
    ) -> None:
        self._plane = plane
        self._session = session
        self._opening = opening
        super().__init__(host, port, timeout=timeout_seconds)

    def create_client(
        self,
        host: str,
        port: int,
        loop: asyncio.AbstractEventLoop | None,
        conn_lost_cb: Callable[[Exception | None], None] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Start to connect, as theirs does."""
        bridge = BridgeProtocol(self._plane, self._session, conn_lost_cb)
        self.protocol = bridge

        async def connect() -> None:
            await self._opening()
            await bridge.greeted()

        self._client_task = asyncio.get_running_loop().create_task(connect())

    async def opened(self) -> None:
        """Wait until the connection stands and the greeting was read. Cancelling it ends the attempt."""
        await self._client_task


def adopt_client(client: IMAP4, make_plane: Callable[[Session], Dataplane]) -> tuple[Dataplane, Session]:
    """Put our data plane under a user's own live client, which stays usable.

    Args:
        client: Connected, logged in or not, with nothing in flight.
        make_plane: Makes the data plane for the session.

    Raises:
        ConnectionFailed: The client is not connected.
        ValueError: It has a command or IDLE in flight, or is adopted already.
    """
    old = client.protocol
    if isinstance(old, BridgeProtocol):
        raise ValueError("this client runs on imapipe already")
    if old is None or old.transport is None or old.transport.is_closing():
        raise ConnectionFailed("the client to adopt is not connected: call wait_hello_from_server() first")
    if old.state not in (private.NONAUTH, private.AUTH, private.SELECTED):
        raise ConnectionFailed(f"the client to adopt is in state {old.state}: call wait_hello_from_server() first")
    if old.pending_sync_command is not None or old.pending_async_commands or old.incomplete_line:
        raise ValueError("the client to adopt has a command in flight: wait for it (or end IDLE) first")
    session = Session(
        # aioimaplib leaves the brackets of a response code in.
        capabilities=frozenset(name.strip("[]").upper() for name in old.capabilities),
        logged_in=old.state in (private.AUTH, private.SELECTED),
        greeted=True,
    )
    if old.state == private.SELECTED:
        # Which one, nobody noted: it is as good as none, but for the user's own commands.
        session.selected = SelectedMailbox("", read_only=False)
    plane = make_plane(session)
    bridge = BridgeProtocol(plane, session, old.conn_lost_cb)
    bridge.tagpre, bridge.tagnum = old.tagpre, old.tagnum
    bridge.idle_queue = old.idle_queue
    old.transport.set_protocol(plane)
    plane.adopt(old.transport)
    client.protocol = bridge
    return plane, session


def lend_client(client: IMAP4) -> IMAP4:
    """A client of the same connection and kind for one lease; `end_client` takes the connection away from it."""
    lent = copy.copy(client)
    lent.protocol = client.protocol.lend()
    lent.tasks = set()
    lent._idle_waiter = None
    return lent


def end_client(lent: IMAP4, client: IMAP4) -> None:
    """A lease is over: whatever is kept of its client, or asked of it now, raises `LeaseEnded`.

    Args:
        lent: What `lend_client` gave.
        client: What it was given for.
    """
    if lent._idle_waiter is not None:
        lent._idle_waiter.cancel()
    lent.protocol.end(client.protocol)
    lent.protocol = ENDED
