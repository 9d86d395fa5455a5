"""One client's session: reads commands, answers them in order, tells of changes.

Invariants:
- A session is one task; it answers a command completely before it reads the next one.
- What a fault ends is ended by ``Disconnected``; nothing is written to a link after it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .arguments import LITERAL_END, Arguments, BadCommand, Refused
from .faults import (
    Bandwidth,
    Bye,
    CutAfterBytes,
    Delay,
    FiredFaults,
    Inject,
    InProgress,
    RefuseLogin,
    Reply,
    Stall,
)
from .link import CHUNK, Disconnected, LineTooLong, Link, OutputLimit
from .records import CommandRecord
from .view import MailboxView

if TYPE_CHECKING:
    from .server import Server

_SECRET = ("LOGIN", "AUTHENTICATE")


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended well: text and response code of its tagged OK."""

    text: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A command the server knows.

    Attributes:
        handler: What does it.
        state: ``any``, ``login`` (only before login), ``auth`` (after login) or ``selected``.
        extension: The extension it belongs to, "" for RFC 3501.
        expunges: Whether EXPUNGE may be told after it (RFC 3501 7.4.1).
    """

    handler: Callable[[Session, Arguments], Awaitable[Done]]
    state: str
    extension: str = ""
    expunges: bool = True


class Session(MailboxView):
    """A client's session; commands are in the ``commands_*`` modules."""

    def __init__(self, server: Server, link: Link, number: int, commands: dict[str, Entry]) -> None:
        super().__init__(server, link)
        self.number = number
        self.user: str | None = None
        self.record = CommandRecord(number, "", "", "", 0.0)
        self.fired = FiredFaults()
        self.over = False
        self.answered = False
        self.shuffler = random.Random(f"{server.seed} {number}")
        self._busy = False
        self._commands = commands
        link.on_stall = self._on_stall

    # Life.

    async def run(self, greeting: bytes) -> None:
        """Serve the client until it leaves or is cut off."""
        try:
            await self._wait_latency()
            self.link.write(greeting)
            await self.link.flush()
            while not self.over:
                await self._serve_next()
            await self.link.flush()
        except Disconnected:
            if self._busy and self.record.outcome != "BYE":
                self.record.outcome = "CUT" if self.link.cut else "LOST"
        finally:
            self.leave_mailbox()
            self.link.close()

    def _on_stall(self) -> None:
        self.record.outcome = "STALL"

    async def _wait_latency(self) -> None:
        if self.server.latency_seconds > 0:
            due = self.link.arrived_at + self.server.latency_seconds
            delay = due - asyncio.get_running_loop().time()
            if delay > 0:
                await asyncio.sleep(delay)

    async def continuation(self, text: bytes = b"Ready") -> None:
        """Send ``+ text`` and whatever waits before it."""
        await self._wait_latency()
        self.link.write(b"+ " + text + b"\r\n")
        await self.link.flush()

    async def read_line(self) -> bytes:
        """Read one more line of the running command (AUTHENTICATE, IDLE)."""
        return await self.link.read_line(self.server.max_command_bytes)

    async def _serve_next(self) -> None:
        line, problem = await self._next_command()
        tag, _, rest = line.partition(b" ")
        if not tag or not rest or not tag.isascii() or set(tag) & set(b'(){%*"\\+'):
            self.link.write(b"* BAD Invalid tag or missing command\r\n")
            await self.link.flush()
            return
        text, literals = rest, list[bytes]()
        if problem is None:
            text, literals, problem = await self._read_literals(rest)
        await self._wait_latency()
        arguments, name = self._split_name(text, literals)
        shown = "***" if name in _SECRET else text[arguments.at :].decode("latin-1").replace("\r\n", "")
        # Pipelined commands and those that wait out the latency came before their turn.
        waited = asyncio.get_running_loop().time() - self.link.arrived_at
        received_at = self.server.clock() - waited
        self.record = CommandRecord(self.number, tag.decode("ascii"), name, shown, received_at)
        self.server.commands.add(self.record)
        self._busy = True
        started = self.link.position
        try:
            await self._answer(arguments, problem)
        finally:
            self.record.bytes_out = self.link.position - started
            self.record.finished_at = self.server.clock()
        outcome = self.record.outcome
        await self.link.flush()
        # A stall that was released has left its mark.
        self.record.outcome = outcome
        self._busy = False

    async def _next_command(self) -> tuple[bytes, BadCommand | None]:
        limit = self.server.max_command_bytes
        try:
            while (line := self.link.next_line(limit)) is None:
                await self.say_bye_if_due()
                await self.link.wait()
        except LineTooLong as error:
            return error.head, BadCommand("Too long argument", "TOOBIG")
        return line, None

    @staticmethod
    def _split_name(text: bytes, literals: list[bytes]) -> tuple[Arguments, str]:
        arguments = Arguments(text, literals)
        name, _, _ = text.partition(b" ")
        arguments.at = len(name)
        if name.upper() == b"UID":
            second, _, _ = text[4:].partition(b" ")
            arguments.at = min(4 + len(second), len(text))
            name = b"UID " + second
        if arguments.peek() == b" ":
            arguments.at += 1
        return arguments, name.decode("latin-1").upper()

    async def _read_literals(self, text: bytes) -> tuple[bytes, list[bytes], BadCommand | None]:
        literals: list[bytes] = []
        problem: BadCommand | None = None
        line = text
        while (match := LITERAL_END.search(line)) is not None:
            size = int(match.group(1))
            if match.group(2):
                if not self.has("LITERAL+") and not self.has("LITERAL-"):
                    problem = BadCommand("Non-synchronizing literals are not supported")
                elif not self.has("LITERAL+") and size > 4096:
                    problem = BadCommand("Non-synchronizing literal above 4096 bytes", "TOOBIG")
                if size > self.server.max_literal_bytes:
                    self.link.write(b"* BYE [TOOBIG] Literal too long\r\n")
                    await self.link.flush()
                    raise Disconnected
            elif size > self.server.max_literal_bytes:
                return text, literals, BadCommand("Literal too long", "TOOBIG")
            else:
                await self.continuation()
            literals.append(await self.link.read_exactly(size))
            try:
                line = await self.read_line()
            except LineTooLong:
                problem, line = BadCommand("Too long argument", "TOOBIG"), b""
            text += b"\r\n" + line
        return text, literals, problem

    # Answers.

    async def _answer(self, arguments: Arguments, problem: BadCommand | None) -> None:
        self.fired = self.server.faults.of_command(self.record)
        if self.fired and await self._faults_before():
            return
        status, code, text = "OK", "", ""
        expunges = True
        try:
            if problem is not None:
                raise problem
            entry = self._entry()
            expunges = entry.expunges
            await self._throttle_command()
            done = await entry.handler(self, arguments)
            code, text = done.code, done.text
            if self.answered:
                # STARTTLS and COMPRESS have sent their reply: what follows is under another layer.
                self.answered = False
                return
        except BadCommand as error:
            status, code, text = "BAD", error.code, error.text
        except Refused as error:
            status, code, text = error.status, error.code, error.text
        for reply in self.fired.of(Reply):
            status, code, text = reply.status, reply.code, reply.text
        await self._finish(status, code, text, expunges)

    def _entry(self) -> Entry:
        name = self.record.name
        entry = self._commands.get(name)
        if entry is None or (entry.extension and not self.has(entry.extension)):
            raise BadCommand(f"Unknown command {name}")
        if entry.state == "login" and self.user is not None:
            raise BadCommand("Already logged in")
        if entry.state in ("auth", "selected") and self.user is None:
            raise BadCommand("Log in first")
        if entry.state == "selected" and self.mailbox is None:
            raise BadCommand("No mailbox selected")
        return entry

    async def _finish(self, status: str, code: str, text: str, expunges: bool) -> None:
        record = self.record
        self.write_updates(expunges)
        for fault in self.fired.of(Inject):
            if fault.where == "reply":
                self.link.write(fault.data)
        record.outcome = status
        record.reply = f"[{code}] {text}" if code else text
        self.link.write(f"{record.tag} {status} {record.reply}\r\n".encode("latin-1", "replace"))
        self.link.write(self.injected_after())
        for bye in self.fired.of(Bye):
            await self.say_bye(bye.text)
        await self.say_bye_if_due()

    async def _faults_before(self) -> bool:
        """Do what fired before the work; True when the command is answered with it."""
        fired, link, record = self.fired, self.link, self.record
        for delay in fired.of(Delay):
            await self.server.sleep(delay.seconds)
        for bandwidth in fired.of(Bandwidth):
            link.bandwidth = bandwidth.bytes_per_second
        for cut in fired.of(CutAfterBytes):
            link.limits.append(OutputLimit(link.position + cut.after_bytes, cut.kind))
        for stall in fired.of(Stall):
            link.limits.append(OutputLimit(link.position + stall.after_bytes, "stall"))
        for inject in fired.of(Inject):
            if inject.where == "before":
                link.write(inject.data)
        for progress in fired.of(InProgress):
            for step in range(progress.count):
                link.write(f'* OK [INPROGRESS ("{record.tag}" {step} {progress.count})] Working\r\n'.encode("ascii"))
                await link.flush()
                await self.server.sleep(progress.every_seconds)
        for bye in fired.of(Bye):
            if not bye.after_response:
                await self.say_bye(bye.text, bye.tagged)
                return True
        for refusal in fired.of(RefuseLogin):
            self.server.counters.failed_logins += 1
            await self._finish("NO", refusal.code, refusal.text, True)
            return True
        for reply in fired.of(Reply):
            if not reply.after_response:
                await self._finish(reply.status, reply.code, reply.text, True)
                return True
        return False

    async def say_bye(self, text: str, tagged: str = "") -> None:
        """Say BYE, with a tagged reply after it when there is one, and end the session."""
        self.link.write(f"* BYE {text}\r\n".encode("latin-1", "replace"))
        if tagged:
            self.link.write(f"{self.record.tag} {tagged}\r\n".encode("latin-1", "replace"))
        if not self.record.outcome:
            self.record.outcome = "BYE"
        self.over = True
        await self.link.flush()

    def injected_after(self) -> bytes:
        """What faults put after the tagged reply, in the same segment."""
        return b"".join(fault.data for fault in self.fired.of(Inject) if fault.where == "after")

    async def say_bye_if_due(self) -> None:
        """Say BYE and end the session if the selected mailbox was closed under it."""
        if self._bye and not self.over:
            await self.say_bye(self._bye)
            raise Disconnected

    async def _throttle_command(self) -> None:
        throttle = self.server.throttle
        if throttle is not None and throttle.applies_to(self.record.name) and not throttle.admit_command():
            await self._throttled()

    async def charge_messages(self, count: int) -> None:
        """Pay the throttle for messages.

        Raises:
            Refused: The account is above its rate.
        """
        throttle = self.server.throttle
        if throttle is not None and throttle.applies_to(self.record.name) and not throttle.admit_messages(count):
            await self._throttled()

    async def _throttled(self) -> None:
        throttle = self.server.throttle
        assert throttle is not None
        self.record.throttled = True
        self.server.counters.throttled += 1
        await self.server.sleep(throttle.sleep_seconds)
        status, code, text = throttle.reply()
        raise Refused(text, code, status)

    # Output for commands.

    async def write(self, data: bytes) -> None:
        """Write and, above a chunk, wait until the client has taken it."""
        self.link.write(data)
        if self.link.pending >= CHUNK:
            await self.link.flush()
