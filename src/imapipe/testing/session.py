"""One client's session: reads commands, answers them in order, tells of changes.

Invariants:
- A session is one task; it answers a command completely before it reads the next one.
- What a fault ends is ended by ``Disconnected``; nothing is written to a link after it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from .arguments import LITERAL_END, Arguments, BadCommand, Refused
from .extensions import capability_names
from .faults import Act, Bye, CutInput, FiredFaults, Inject, RefuseLogin, Reply
from .host import Host
from .link import Disconnected, LineTooLong, Link
from .mischief import do_before, hang_up
from .ranges import IndexRanges, count_ranges, slice_ranges
from .records import CommandRecord
from .talk import Talk

_SECRET = ("LOGIN", "AUTHENTICATE")
# Courier looks for what is gone only then.
_COURIER_TELLS = ("NOOP", "CHECK", "IDLE", "EXPUNGE", "UID EXPUNGE")


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
        early: Looks at the command before a literal of so many bytes is taken; what it raises is the answer.
    """

    handler: Callable[[Session, Arguments], Awaitable[Done]]
    state: str
    extension: str = ""
    expunges: bool = True
    early: Callable[[Session, Arguments, int], None] | None = None


class Session(Talk):
    """A client's session; what the commands do is in ``commands``."""

    def __init__(self, server: Host, link: Link, number: int, commands: Mapping[str, Entry]) -> None:
        super().__init__(server, link)
        self.number = number
        self.user: str | None = None
        self.record = CommandRecord(number, "", "", "", 0.0)
        self.fired = FiredFaults()
        self.over = False
        self.answered = False
        self.shuffler = random.Random(f"{server.seed} {number}")
        self._busy = False
        self._answered_at = -1.0
        self._commands = commands
        link.on_stall = self._on_stall

    # Life.

    async def run(self, refusal: bytes | None = None) -> None:
        """Serve the client until it leaves or is cut off.

        Args:
            refusal: What is said instead of the greeting, and nothing more.
        """
        try:
            await self._greet(refusal)
            while not self.over:
                await self._serve_next()
            await self.link.flush()
        except Disconnected:
            if self._busy and self.record.outcome != "BYE":
                self.record.outcome = "CUT" if self.link.cut else "LOST"
        finally:
            self.log_out()
            self.link.close()

    async def _greet(self, refusal: bytes | None) -> None:
        await self.wait_latency()
        if refusal is not None:
            self.link.write(refusal)
            self.over = True
        elif not await self._faults_of_greeting():
            code = f"[{self.capability_text}] " if self.server.capability_codes else ""
            self.link.write(f"* OK {code}imapipe.testing ready\r\n".encode("ascii"))
        self.link.stop_rewriting()
        await self.link.flush()

    async def _faults_of_greeting(self) -> bool:
        """Let happen what fires for the greeting; True when that was said instead."""
        self.record = CommandRecord(self.number, "*", "GREETING", "", self.server.clock())
        self.fired = self.server.faults.of_command(self.record)
        return bool(self.fired) and await self._faults_before()

    def log_in(self, user: str) -> None:
        """The client is this user from now on."""
        self.user = user
        self.server.logged_in_sessions += 1

    def log_out(self) -> None:
        """The client is nobody any more; harmless when it is nobody."""
        self.leave_mailbox()
        self.unwatch()
        if self.user is not None:
            self.user = None
            self.server.logged_in_sessions -= 1

    @property
    def capability_text(self) -> str:
        """The capabilities of the session as of now."""
        server = self.server
        names = capability_names(
            server.extensions if not self.link.compressed else server.extensions - {"COMPRESS=DEFLATE"},
            logged_in=self.user is not None,
            starttls=server.starttls is not None and not self.link.tls,
            login_disabled=server.login_disabled and not self.link.tls,
            mechanisms=server.mechanisms,
            message_limit=server.message_limit,
            append_limit=server.append_limit,
        )
        return "CAPABILITY " + " ".join(names)

    def _on_stall(self) -> None:
        self.record.outcome = "STALL"

    async def _serve_next(self) -> None:
        problem: BadCommand | Refused | None
        line, problem = await self._next_command()
        tag, _, rest = line.partition(b" ")
        if not tag or not rest or not tag.isascii() or set(tag) & set(b'(){%*"\\+'):
            self.link.write(b"* BAD Invalid tag or missing command\r\n")
            await self.link.flush()
            return
        # Pipelined commands and those that wait out the latency came before their turn.
        arguments, name = self._split_name(rest, [])
        self.record = CommandRecord(self.number, tag.decode("ascii"), name, "", 0.0)
        self.record.pipelined = self.link.arrived_at < self._answered_at
        self._busy = True
        started = self.link.position
        text, literals = rest, list[bytes]()
        self.record.arguments = rest[arguments.at :].decode("latin-1")
        try:
            if problem is None:
                cut = self.server.faults.of_input(self.record)
                text, literals, problem = await self._read_literals(rest, cut)
                if cut is not None:
                    hang_up(self.link, cut)
        except Disconnected:
            self._note(arguments.at, text)
            raise
        await self.wait_latency()
        self._note(arguments.at, text)
        # Before anything that came already: it meant the messages that the mailbox had.
        await self.say_bye_if_due()
        try:
            await self._answer(Arguments(text, literals, arguments.at), problem)
        finally:
            self.record.bytes_out = self.link.position - started
            self.record.finished_at = self.server.clock()
            self.link.stop_rewriting()
        outcome = self.record.outcome
        await self.link.flush()
        self._answered_at = asyncio.get_running_loop().time()
        # A stall that was released has left its mark.
        self.record.outcome = outcome
        self._busy = False

    def _note(self, at: int, text: bytes) -> None:
        record = self.record
        record.arguments = "***" if record.name in _SECRET else text[at:].decode("latin-1").replace("\r\n", "")
        # In this order: a process that has to wait for the processor in between takes it for later, and never for a
        # moment in which the client had not heard the answer before.
        waited_seconds = asyncio.get_running_loop().time() - self.link.arrived_at
        record.received_at = self.server.clock() - waited_seconds
        self.server.commands.add(record)

    async def _next_command(self) -> tuple[bytes, BadCommand | None]:
        limit = self.server.max_command_bytes
        try:
            while (line := self.link.next_line(limit)) is None:
                await self.say_bye_if_due()
                await self.tell_watched()
                await self.tell_pushed()
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

    async def _read_literals(
        self, text: bytes, cut: CutInput | None
    ) -> tuple[bytes, list[bytes], BadCommand | Refused | None]:
        literals: list[bytes] = []
        problem: BadCommand | Refused | None = None
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
                early = self._refuse_early(text, literals, size)
                if early is not None:
                    return text, literals, early
                await self.continuation()
                self.record.continuations += 1
            if cut is not None and cut.after_bytes < sum(map(len, literals)) + size:
                await self.link.read_exactly(cut.after_bytes - sum(map(len, literals)))
                hang_up(self.link, cut)
            literals.append(await self.link.read_exactly(size))
            try:
                line = await self.read_line()
            except LineTooLong:
                problem, line = BadCommand("Too long argument", "TOOBIG"), b""
            text += b"\r\n" + line
        return text, literals, problem

    def _refuse_early(self, text: bytes, literals: list[bytes], size: int) -> Refused | None:
        entry = self._commands.get(self.record.name)
        if entry is None or entry.early is None or self.user is None:
            return None
        try:
            entry.early(self, self._split_name(text, literals)[0], size)
        except Refused as error:
            return error
        except BadCommand:
            # Said when the command is whole.
            return None
        return None

    # Answers.

    async def _answer(self, arguments: Arguments, problem: BadCommand | Refused | None) -> None:
        self.fired = self.server.faults.of_command(self.record)
        if self.fired and await self._faults_before():
            return
        status, code, text = "OK", "", ""
        expunges = True
        try:
            if problem is not None:
                raise problem
            entry = self._entry()
            expunges = entry.expunges and self._tells_expunges
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

    @property
    def _tells_expunges(self) -> bool:
        return self.server.expunged_fetch != "invent" or self.record.name in _COURIER_TELLS

    async def _finish(self, status: str, code: str, text: str, expunges: bool) -> None:
        record = self.record
        self.write_updates(expunges)
        for fault in self.fired.of(Inject):
            if fault.where == "reply":
                self.link.write(fault.data)
        for act in self.fired.of(Act):
            if act.where == "reply":
                act.action(record)
        self.write_watched()
        await self.tell_pushed()
        record.outcome = status
        record.reply = f"[{code}] {text}" if code else text
        self.link.write(f"{record.tag} {status} {record.reply}\r\n".encode("latin-1", "replace"))
        self.link.write(self.injected_after())
        for bye in self.fired.of(Bye):
            await self.say_bye(bye.text)
        await self.say_bye_if_due()

    async def _faults_before(self) -> bool:
        """Do what fired before the work; True when the command is answered with it."""
        fired = self.fired
        await do_before(self.server, self.link, self.record, fired)
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

    def limit_messages(self, ranges: IndexRanges) -> tuple[IndexRanges, str]:
        """Cut to the message limit, highest first, with the response code that says so (RFC 9738), or ""."""
        limit = self.server.message_limit
        total = count_ranges(ranges)
        if limit is None or not self.has("MESSAGELIMIT") or total <= limit:
            return ranges, ""
        kept = slice_ranges(ranges, total - limit, total)
        return kept, f"MESSAGELIMIT {limit} {self.view[kept[0][0]]}"
