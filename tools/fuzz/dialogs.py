"""Whole runs against a server that answers nearly right.

The server knows what a right answer is, and changes, leaves out or adds something now and then: by a seed, so that a
dialog can be had again. After each dialog nothing is held, every message has one outcome, nothing but what is
documented was raised, and no task is left.
"""

from __future__ import annotations

import asyncio
import random
import re
import tempfile
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from datetime import date
from pathlib import Path
from typing import Final, NamedTuple
from unittest import mock

import imapipe
from fuzz.inputs import SEEDS, TOKENS
from fuzz.parsers import look_at
from imapipe import search as q
from imapipe.errors import ImapipeError
from imapipe.net.dataplane import Dataplane
from imapipe.wire.response.limits import Limits
from imapipe.wire.uid_set import UidSet

CAPABILITIES: Final = (
    *("ESEARCH", "PARTIAL", "SEARCHRES", "UIDBATCHES", "UIDONLY", "ENABLE", "LITERAL+", "SASL-IR", "NAMESPACE", "ID"),
    *("LIST-STATUS", "LIST-EXTENDED", "SPECIAL-USE", "CONDSTORE", "QRESYNC", "COMPRESS=DEFLATE", "UIDPLUS", "MOVE"),
    *("OBJECTID", "BINARY", "X-GM-EXT-1", "IMAP4rev2", "UNSELECT", "MESSAGELIMIT=3", "STATUS=SIZE", "UTF8=ACCEPT"),
)
PRESETS: Final = ("flags", "size", "envelope", "structure", "headers", "full", "text")
# Longer than any answer takes, and short enough that a dialog in which nothing more comes is over soon.
SILENCE_SECONDS: Final = 0.15
LONGEST_SECONDS: Final = 120.0
TODAY: Final = date(2024, 6, 1)

_MAIL: Final = (
    b"From: Ann <ann@example.org>\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\nDate: Fri, 21 Nov 1997 09:55:06 -0600\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\nContent-Type: text/html\r\n\r\n"
    b"<b>x</b>\r\n" + b"y" * 1500 + b"\r\n--b--"
)
_STRUCTURE: Final = (
    b'(("TEXT" "PLAIN" NIL NIL NIL "7BIT" 4 1)("TEXT" "HTML" ("CHARSET" "utf-8") NIL NIL "7BIT" 8 1) "MIXED" '
    b'("BOUNDARY" "b") NIL NIL)'
)
_ENVELOPE: Final = (
    b'("Fri, 21 Nov 1997 09:55:06 -0600" "=?utf-8?q?gr=C3=BC=C3=9Fe?=" (("Ann" NIL "ann" "example.org")) NIL NIL '
    b'NIL NIL NIL NIL "<x@example.org>")'
)
_NUMBER: Final = re.compile(rb"\d+")
_EXTREMES: Final = (
    b"0",
    b"-1",
    b"4294967295",
    b"4294967296",
    b"18446744073709551615",
    b"9" * 30,
    b"1:*",
    b"NIL",
    b"abc",
)


class Dialog(NamedTuple):
    """What became of a dialog.

    Attributes:
        seed: It makes the same again.
        ended: The exception of the run, in words; "" where it ended well.
        findings: What should not have been.
    """

    seed: int
    ended: str
    findings: tuple[str, ...]


class Hostile:
    """A server for one dialog."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.rate = self.random.choice((0.0, 0.02, 0.1, 0.3))
        self.offers = self.random.sample(CAPABILITIES, self.random.randrange(len(CAPABILITIES)))
        self.uids = sorted(self.random.sample(range(1, 60), self.random.randrange(12)))
        self._tasks: set[asyncio.Task[None]] = set()
        self._transports: list[asyncio.WriteTransport] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Serve; gives the port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for transport in self._transports:
                transport.abort()
            await asyncio.gather(*self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._transports.append(writer.transport)
        try:
            await self._say(writer, [b"* OK [CAPABILITY IMAP4rev1 %b] hello" % " ".join(self.offers).encode()])
            while line := await self._command(reader, writer):
                await self._say(writer, self._answer(line))
        except (OSError, asyncio.IncompleteReadError, ValueError):
            # The client has gone.
            return
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _command(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """A command with its literals."""
        line = await reader.readline()
        while (marker := re.search(rb"\{(\d+)(\+?)\}\r\n\Z", line)) is not None:
            if not marker[2]:
                await self._say(writer, [b"+ go on"])
            line += await reader.readexactly(int(marker[1])) + await reader.readline()
        return line

    async def _say(self, writer: asyncio.StreamWriter, lines: list[bytes]) -> None:
        data = b"".join(part for line in lines for part in self._changed(line))
        if self.random.random() < self.rate / 5:
            data = data[: self.random.randrange(len(data) + 1)]
            writer.write(data)
            await writer.drain()
            writer.transport.abort()
            return
        size = self.random.choice((1, 7, 100, 1 << 20))
        for begin in range(0, len(data), size):
            if writer.transport.is_closing():
                return
            writer.write(data[begin : begin + size])
        await writer.drain()

    def _changed(self, line: bytes) -> list[bytes]:
        """A line as it is said: right, nearly right, not at all, twice."""
        if self.random.random() >= self.rate:
            return [line, b"\r\n"]
        kind = self.random.randrange(8)
        at = self.random.randrange(len(line) + 1)
        if kind == 0:
            return []
        if kind == 1:
            return [line, b"\r\n"] * self.random.randrange(2, 4)
        if kind == 2:
            return [line, b"\r\n", self.random.choice(SEEDS), b"\r\n"]
        if kind == 3:
            return [
                line,
                b"\r\n",
                b"* %b\r\n" % self.random.choice((b"7 EXISTS", b"1 EXPUNGE", b"OK wait", b"BYE")) * 300,
            ]
        if kind == 4 and (numbers := list(_NUMBER.finditer(line))):
            chosen = self.random.choice(numbers)
            return [line[: chosen.start()], self.random.choice(_EXTREMES), line[chosen.end() :], b"\r\n"]
        if kind == 5:
            return [line[:at], line[at + self.random.randrange(1, 9) :], b"\r\n"]
        if kind == 6:
            return [line[:at], self.random.choice(TOKENS), line[at:]]
        return [line[:at], self.random.choice(TOKENS), line[at:], b"\r\n"]

    # -- right answers ---------------------------------------------------------------------------

    def _answer(self, line: bytes) -> list[bytes]:
        tag, _, rest = line.strip().partition(b" ")
        name = rest.upper()
        known: tuple[tuple[bytes, Callable[[bytes, bytes], list[bytes]]], ...] = (
            (b"CAPABILITY", lambda *_: [b"* CAPABILITY IMAP4rev1 %b" % " ".join(self.offers).encode()]),
            (b"EXAMINE", self._open),
            (b"SELECT", self._open),
            (b"UID SEARCH", self._search),
            (b"UIDBATCHES", lambda tag, _: [b'* UIDBATCHES (TAG "%b") 4294967295:30,29:1' % tag]),
            (b"UID FETCH", self._fetch),
            (b"LIST", self._list),
            (b"STATUS", lambda *_: [b'* STATUS "INBOX" (MESSAGES 3 UIDNEXT 70 UIDVALIDITY 9 UNSEEN 1)']),
            (b"NAMESPACE", lambda *_: [b'* NAMESPACE (("" "/")) NIL NIL']),
            (b"ID", lambda *_: [b'* ID ("name" "x")']),
            (b"ENABLE", lambda _, rest: [b"* ENABLED " + rest[7:]]),
            (b"LOGOUT", lambda *_: [b"* BYE bye"]),
        )
        lines = next((answer(tag, rest) for word, answer in known if name.startswith(word)), [])
        status = self.random.choices((b"OK", b"NO", b"BAD"), (1, self.rate / 8, self.rate / 8))[0]
        if name.startswith(b"COMPRESS"):
            status = b"NO"
        return [*lines, b"%b %b done" % (tag, status)]

    def _open(self, *_: bytes) -> list[bytes]:
        return [
            b"* %d EXISTS" % len(self.uids),
            b"* FLAGS (\\Seen)",
            b"* OK [PERMANENTFLAGS (\\Seen \\*)] x",
            b"* OK [UIDVALIDITY 9] x",
            b"* OK [UIDNEXT 70] x",
            b"* OK [HIGHESTMODSEQ 12345] x",
        ]

    def _search(self, tag: bytes, rest: bytes) -> list[bytes]:
        found = self.uids
        if (within := re.search(rb" UID ([0-9:,]+)", rest)) is not None:
            asked = UidSet.parse(within[1])
            found = [uid for uid in found if uid in asked]
        if b"RETURN" not in rest:
            return [b"* SEARCH " + b" ".join(b"%d" % uid for uid in found)]
        every = b",".join(b"%d" % uid for uid in found)
        if b"PARTIAL" in rest:
            return [b'* ESEARCH (TAG "%b") UID PARTIAL (1:100000 %b)' % (tag, every or b"NIL")]
        return [b'* ESEARCH (TAG "%b") UID COUNT %d%b' % (tag, len(found), b" ALL " + every if every else b"")]

    def _fetch(self, _: bytes, rest: bytes) -> list[bytes]:
        words = rest.split(b" ", 3)
        asked = UidSet.parse(words[2])
        return [self._message(uid, words[3]) for uid in self.uids if uid in asked]

    def _message(self, uid: int, items: bytes) -> bytes:
        values = {
            b"FLAGS": b"(\\Seen)",
            b"INTERNALDATE": b'"17-Jul-1996 02:44:25 -0700"',
            b"RFC822.SIZE": b"%d" % len(_MAIL),
            b"ENVELOPE": _ENVELOPE,
            b"BODYSTRUCTURE": _STRUCTURE,
            b"MODSEQ": b"(7)",
            b"EMAILID": b"(M1)",
        }
        given = [b"UID %d" % uid] + [b"%b %b" % (name, value) for name, value in values.items() if name in items]
        for section in re.findall(rb"BODY\.PEEK(\[[^\]]*\](?:<\d+)?)", items):
            text = _MAIL if section == b"[]" else _MAIL.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
            given.append(b"BODY%b%b {%d}\r\n%b" % (section, b">" if b"<" in section else b"", len(text), text))
        if self.random.random() < self.rate:
            self.random.shuffle(given)
        return b"* %d FETCH (%b)" % (self.uids.index(uid) + 1, b" ".join(given))

    def _list(self, *_: bytes) -> list[bytes]:
        return [
            b'* LIST (\\HasNoChildren) "/" "INBOX"',
            b'* LIST (\\Sent) "/" "Gesendete &- &AOk-"',
            b"* LIST () NIL {1}\r\na",
        ]


class Client:
    """A client in one dialog, which notes what should not be."""

    def __init__(self, hostile: Hostile) -> None:
        self.random = random.Random(hostile.random.random())
        self.findings: list[str] = []
        self.planes: list[Dataplane] = []

    async def use(self, port: int, folder: str) -> str:
        """Do one of the things that the library is for; gives what was raised, in words."""
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                async with self.pool(port, folder) as pool:
                    await self.random.choice(
                        (self._run, self._run, self._stream, self._batches, self._ask, self._lease)
                    )(pool)
        except ImapipeError as error:
            return f"{type(error).__name__}: {error}"
        except TimeoutError:
            self.findings.append(f"it did not end within {LONGEST_SECONDS} seconds")
        except BaseExceptionGroup as group:
            self.findings.append(f"a group was raised: {group!r}")
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            self.findings.append(f"{error!r} was raised{where(error)}")
        return ""

    def pool(self, port: int, folder: str) -> imapipe.Pool:
        """A pool that waits for nothing long."""
        return imapipe.create_pool(
            f"imap://ann@127.0.0.1:{port}",
            password="secret",
            max_size=self.random.randrange(1, 3),
            connect_timeout_seconds=4 * SILENCE_SECONDS,
            command_timeout_seconds=SILENCE_SECONDS,
            stall_timeout_seconds=SILENCE_SECONDS,
            acquire_timeout_seconds=8 * SILENCE_SECONDS,
            max_held_bytes=self.random.choice((1024, 5000, 1 << 23)),
            spool_above=self.random.choice((1024, 1 << 20)),
            spool_dir=folder,
            limits=Limits(line_bytes=100_000, literal_bytes=100_000, kept_bytes=300_000, literals=50),
        )

    def pipeline(self, pool: imapipe.Pool) -> imapipe.Pipeline:
        """One of many jobs."""
        key = self.random.choice((q.ALL, q.SEEN, q.subject("x"), q.since(days=3), q.uid("1:30")))
        presets = self.random.sample(PRESETS, self.random.randrange(1, 3))
        batch = imapipe.FixedBatch(self.random.choice((1, 3, 100)), max_bytes=self.random.choice((None, None, 1000)))
        pipeline = pool.mailbox("INBOX").search(key).batch(batch).fetch(*presets)
        return pipeline.use(imapipe.Retry(2, wait_initial_seconds=0.001, wait_max_seconds=0.01, outage_seconds=0.1))

    async def _handle(self, message: imapipe.Message) -> None:
        try:
            look_at(message)
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            self.findings.append(f"a message raises {error!r}{where(error)}")
        if self.random.randrange(20) == 0:
            raise OSError("the handler fails")

    async def _run(self, pool: imapipe.Pool) -> None:
        self._check(await self.pipeline(pool).run(self._handle, concurrency=self.random.randrange(1, 4)))

    async def _stream(self, pool: imapipe.Pool) -> None:
        async with self.pipeline(pool).stream(on_error="record") as stream:
            async for message in stream:
                with suppress(OSError):
                    await self._handle(message)
        self._check(stream.report)

    async def _batches(self, pool: imapipe.Pool) -> None:
        async for batch in self.pipeline(pool).batches():
            for message in batch:
                with suppress(OSError):
                    await self._handle(message)

    async def _ask(self, pool: imapipe.Pool) -> None:
        look_at(await pool.mailboxes())
        look_at(await pool.mailbox("INBOX").status())
        look_at(await self.pipeline(pool).plan())

    async def _lease(self, pool: imapipe.Pool) -> None:
        async with pool.acquire("INBOX") as lease:
            look_at(await lease.list(status_items=["MESSAGES", "HIGHESTMODSEQ"]))
            look_at(await lease.namespace())
            look_at(await lease.identify())
            look_at(await lease.uid_search(q.ALL.program(today=TODAY)))
            await lease.noop()

    def _check(self, report: imapipe.RunReport) -> None:
        counted = report.done + report.skipped + report.vanished + report.failed
        if counted != report.planned:
            self.findings.append(f"{report.planned} planned, {counted} accounted for")
        report.to_json()
        report.table()


def play(
    seeds: Iterable[int], run: Callable[[Coroutine[object, object, list[Dialog]]], list[Dialog]] = asyncio.run
) -> list[Dialog]:
    """Have dialogs side by side, as they wait most of the time; `run` gives them an event loop of their own."""
    return run(_play_all(list(seeds)))


async def _play_all(seeds: list[int]) -> list[Dialog]:
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(f"told to the loop: {context!r}"))
    with mock.patch.object(Dataplane, "connection_made", _note):
        dialogs = await asyncio.gather(*map(_play, seeds))
    # What was closed gets its turn.
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    told += [f"a task is left: {task!r}" for task in left]
    return [*dialogs, *(Dialog(seeds[0], f"{len(seeds)} dialogs from here", (what,)) for what in told)]


async def _play(seed: int) -> Dialog:
    hostile = Hostile(seed)
    client = Client(hostile)
    _PLANES.set(client.planes)
    with tempfile.TemporaryDirectory() as folder:
        async with hostile.serving() as port:
            ended = await client.use(port, folder)
        left = [path.name for path in await asyncio.to_thread(lambda: list(Path(folder).iterdir()))]
        client.findings += [f"a file is left: {name}" for name in left]
    for plane in client.planes:
        if not plane.holdings.is_empty:
            client.findings.append(f"still held: {plane.holdings.held_bytes}, {plane.holdings.spooled_bytes}")
    return Dialog(seed, ended, tuple(client.findings))


# Connections are made in tasks of the dialog, which have its context.
_PLANES: ContextVar[list[Dataplane]] = ContextVar("planes")
_connection_made: Final = Dataplane.connection_made


def _note(plane: Dataplane, transport: asyncio.BaseTransport) -> None:
    _PLANES.get().append(plane)
    _connection_made(plane, transport)


def where(error: BaseException) -> str:
    """Where an exception was raised, in words."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f" in {Path(frame.filename).name}:{frame.lineno} ({frame.name})"
