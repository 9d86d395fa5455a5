"""`imapipe demo`: a job is killed in the middle and resumed; what both processes did is then compared.

The mail server (`imapipe.testing.Server`) runs in this process, the job in two others, one after the other. The first
is killed with SIGKILL at a random moment, when 40 to 60 % of the messages are handled (on a machine that is busy it
may be more, but never above 80 %). Each appends every message it
handled to a log of its own, with one write that no kill can undo.

Invariant: every number told was counted here, from the logs and the mailbox; only the report is the job's own word,
and it is held against them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import signal
import sys
import threading
import time
from asyncio.subprocess import PIPE, Process
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import orjson
import psutil

import imapipe
from imapipe.cli.account import PASSWORD_VARIABLE
from imapipe.cli.demo_job import ALLOWED_REPEATS, CONCURRENCY, LOG_LINE_BYTES, SAVE_EVERY_MESSAGES, Order
from imapipe.cli.errors import Status
from imapipe.cli.output import write_document, write_result
from imapipe.cli.progress import Display, choose_display
from imapipe.testing import Server, make_messages

_KILL_BETWEEN: Final = (0.4, 0.6)
# On a busy machine the kill comes late: the process does not go on beyond this.
_HOLD_AT: Final = 0.8
_LOOK_EVERY_SECONDS: Final = 0.001
_MAX_LINE_BYTES: Final = 16 * 1024 * 1024
# Where there are no signals (Windows), a process that is killed ends with 1.
_KILLED: Final = -signal.SIGKILL if hasattr(signal, "SIGKILL") else 1


class DemoFailed(imapipe.ImapipeError):
    """The demo could not be carried out; nothing was proven or disproven."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What to show; the options of the same names say more."""

    messages: int = 5000
    rate: float = 1000.0
    json: bool = False
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Child:
    """What one process of the job left behind.

    Attributes:
        status: Its exit status; minus the number of the signal that ended it.
        handled: UID and digest of the body, in the order in which they were handled.
        report: Its report, or {} where it was killed.
        table: The same for people.
    """

    status: int
    handled: list[tuple[int, str]]
    report: dict[str, object]
    table: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the comparison gave.

    Attributes:
        messages: How many the mailbox holds.
        killed: The first process was ended by SIGKILL.
        handled_before: Messages that it had handled.
        handled_after: Messages that the second process handled.
        lost: Messages that neither handled.
        unknown: Messages that were handled and are not in the mailbox.
        repeated: How often a message was handled again.
        allowed_repeats: How often that may happen: the messages in hand, and those not yet saved.
        altered: Bodies that differ from what the server holds.
        marked: Messages whose flags changed.
        report_fits: The report of the second process says the same as the logs.
    """

    messages: int
    killed: bool
    handled_before: int
    handled_after: int
    lost: int
    unknown: int
    repeated: int
    allowed_repeats: int
    altered: int
    marked: int
    report_fits: bool

    @property
    def checks(self) -> list[tuple[str, bool]]:
        """What must hold, in words, and whether it does."""
        in_hand_and_unsaved = f"{CONCURRENCY} in hand and {SAVE_EVERY_MESSAGES} not yet saved"
        before, after = f"{self.handled_before:,}", f"{self.handled_after:,}"
        return [
            (
                f"killed in the middle: {before} of {self.messages:,} messages were handled",
                self.killed and 0 < self.handled_before < self.messages,
            ),
            (f"resumed: the second process handled {after}", self.handled_after > 0),
            (f"lost: {self.lost:,}; never asked for: {self.unknown:,}", not self.lost and not self.unknown),
            (
                f"handled twice: {self.repeated:,}; {self.allowed_repeats:,} are allowed: {in_hand_and_unsaved}",
                self.repeated <= self.allowed_repeats,
            ),
            (f"bodies that differ from what the server holds (SHA-256): {self.altered:,}", not self.altered),
            (f"messages marked as read, or changed otherwise: {self.marked:,}", not self.marked),
            ("the report says what the logs say", self.report_fits),
        ]

    @property
    def proven(self) -> bool:
        """Whether all of it holds."""
        return all(holds for _, holds in self.checks)


def compare(mailbox: dict[int, str], first: Child, second: Child, *, marked: int) -> Proof:
    """Compare what two processes handled with what the mailbox holds.

    Args:
        mailbox: UID to digest of the body.
        first: The process that was killed.
        second: The one that resumed.
        marked: Messages whose flags changed meanwhile.
    """
    every = [*first.handled, *second.handled]
    handled = {uid for uid, _ in every}
    report = second.report
    expected = {
        "complete": True,
        "planned": len(mailbox),
        "done": len(second.handled),
        "skipped": len(mailbox) - len(second.handled),
        "vanished": 0,
        "failed": 0,
        "done_all_runs": len(mailbox),
    }
    return Proof(
        messages=len(mailbox),
        killed=first.status == _KILLED,
        handled_before=len({uid for uid, _ in first.handled}),
        handled_after=len({uid for uid, _ in second.handled}),
        lost=len(mailbox.keys() - handled),
        unknown=len(handled - mailbox.keys()),
        repeated=len(every) - len(handled),
        allowed_repeats=ALLOWED_REPEATS,
        altered=sum(mailbox.get(uid, digest) != digest for uid, digest in every),
        marked=marked,
        report_fits={name: report.get(name) for name in expected} == expected,
    )


async def demo(options: DemoOptions) -> Status:
    """Run the demo and tell what came of it.

    Raises:
        DemoFailed: A process of the job ended in a way that was not asked for.
    """
    began = time.monotonic()
    say = _say_nothing if options.json else write_result
    raw = list(make_messages(options.messages))
    async with Server(messages=raw) as server:
        box = server.mailboxes["INBOX"]
        digests = {uid: hashlib.sha256(body).hexdigest() for uid, body in zip(box.uids, raw, strict=True)}
        flags = {uid: box.flags_of(uid) for uid in box.uids}
        total = f"{sum(map(len, raw)) / 1e6:.0f} MB"
        del raw
        pace = f", no faster than {options.rate:,.0f} a second, so that it can be watched" if options.rate else ""
        say(f"A mail server on {server.host}:{server.port} holds {options.messages:,} messages, {total}.")
        say(f"A job reads all of them{pace}.\n")
        with TemporaryDirectory(prefix="imapipe-demo-") as folder:
            stage = _Stage(server, Path(folder), options)
            first = await stage.run("1st", kill_at=int(options.messages * random.uniform(*_KILL_BETWEEN)))
            say(f"Killed (SIGKILL) after {len(first.handled):,} messages. A new process resumes:\n")
            second = await stage.run("2nd")
        marked = sum(box.flags_of(uid) != before for uid, before in flags.items())
    proof = compare(digests, first, second, marked=marked)
    elapsed = time.monotonic() - began
    if options.json:
        write_document(
            {
                "proven": proof.proven,
                **asdict(proof),
                "elapsed_seconds": elapsed,
                "report": second.report,
            }
        )
    else:
        say(f"\nThe report of the second process\n\n{_indented(second.table)}")
        lines = [f"{'yes' if holds else 'NO ':<3}  {text}" for text, holds in proof.checks]
        verdict = "Proven: nothing was lost." if proof.proven else "NOT proven: see the lines that say NO."
        say(f"\nThe logs of both processes against the mailbox\n\n{_indented(chr(10).join(lines))}")
        say(f"\n{verdict} It took {elapsed:.1f} seconds.")
    return Status.COMPLETE if proof.proven else Status.FAILED


class _Stage:
    """Where the processes run: the server, the checkpoint they share, a log for each."""

    def __init__(self, server: Server, folder: Path, options: DemoOptions) -> None:
        self._server = server
        self._folder = folder
        self._options = options

    async def run(self, name: str, *, kill_at: int | None = None) -> Child:
        """Run one process, to its end or until so many messages are handled."""
        log = self._folder / f"{name}.log"
        log.touch()
        hold_at = 0 if kill_at is None else int(self._options.messages * _HOLD_AT)
        order = Order(self._server.url, str(self._folder / "state.json"), str(log), self._options.rate, hold_at)
        complaints = self._folder / f"{name}.err"
        with complaints.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # the current folder is no place to import from
                "-m",
                "imapipe.cli.demo_job",
                order.to_json(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=PIPE,
                stderr=stderr,
                limit=_MAX_LINE_BYTES,
                env={**os.environ, PASSWORD_VARIABLE: self._server.password},
                # Ctrl-C at the terminal is for us; we end it.
                start_new_session=True,
            )
        over = threading.Event()
        killer = asyncio.create_task(asyncio.to_thread(_kill_when, process.pid, log, kill_at or sys.maxsize, over))
        try:
            with choose_display(f"{name} process", quiet=self._options.quiet) as display:
                news = await _follow(process, display)
            status = await process.wait()
        finally:
            over.set()
            if process.returncode is None:
                process.kill()
                await process.wait()
            await killer
        if status != (0 if kill_at is None else _KILLED):
            raise DemoFailed(_why(name, status, complaints))
        return Child(status, _read_log(log), *_reported(news))


def _kill_when(pid: int, log: Path, count: int, over: threading.Event) -> None:
    """Kill the process as soon as its log has so many lines; SIGKILL cannot be caught.

    Runs in a thread: the event loop is busy with the server, and a fast job would be over before it looks.
    """
    # psutil knows a process by its start as well: it does not kill another one that got the same number.
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        while log.stat().st_size // LOG_LINE_BYTES < count:
            if over.wait(_LOOK_EVERY_SECONDS):
                return
        process.kill()


async def _follow(process: Process, display: Display) -> bytes:
    """Show the progress that the process tells; returns the last whole line it wrote."""
    assert process.stdout is not None
    last = b""
    async for line in process.stdout:
        if not line.endswith(b"\n"):
            break
        last = line
        progress = orjson.loads(line).get("progress")
        if progress is not None:
            display.show(imapipe.ProgressSnapshot(**progress))
    return last


def _reported(line: bytes) -> tuple[dict[str, object], str]:
    news = orjson.loads(line) if line else {}
    return news.get("report", {}), news.get("table", "")


def _read_log(log: Path) -> list[tuple[int, str]]:
    pairs = (line.split() for line in log.read_text(encoding="ascii").splitlines())
    return [(int(uid), digest) for uid, digest in pairs]


def _why(name: str, status: int, complaints: Path) -> str:
    last = complaints.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    said = f": {last[0]}" if last else ""
    return f"the {name} process ended with status {status}, which nobody asked for{said}"


def _say_nothing(_: str) -> None:
    return


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
