"""Progress for people, on standard error: a live bar on a terminal, a line from time to time elsewhere.

Invariant: nothing here can end a run. A standard error that cannot be written to is not written to any more.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import islice
from types import TracebackType
from typing import Final, Protocol, Self

from rich.console import Console
from rich.control import Control
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.segment import ControlType
from rich.text import Text

import imapipe
from imapipe.cli.terminal import printable

_LINE_EVERY_SECONDS: Final = 5.0
_LABEL_CHARACTERS: Final = 24
# So many of several runs are named in a line of a log.
_MOST_PARTS: Final = 8
_UNITS: Final = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


class Display(Protocol):
    """Shows snapshots of a run while its block lasts."""

    def __enter__(self) -> Self:
        """Begin to show that something is going on."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the last state to be seen."""

    def show(self, snapshot: imapipe.ProgressSnapshot) -> None:
        """Show how far the run is, or all of several together."""

    def show_part(self, snapshot: imapipe.ProgressSnapshot) -> None:
        """Show how far one of several runs is, by its account and mailbox."""


class Line(Protocol):
    """Says from time to time how something stands, while its block lasts."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave nothing behind."""

    def tell(self, text: str) -> None:
        """Say it anew."""

    def aside(self) -> AbstractContextManager[None]:
        """While something else is written to the terminal, as lines."""


def choose_display(label: str, *, quiet: bool = False) -> Display:
    """The display that fits standard error.

    Args:
        label: What is going on, such as the name of the mailbox.
        quiet: Show nothing at all.
    """
    if quiet or sys.stderr is None:
        return _Nothing()
    if sys.stderr.isatty():
        return Bar(label, Console(stderr=True))
    return _Lines(label)


def speed_text(bytes_per_second: float) -> str:
    """Bytes per second for people, powers of 1000: `4.1 MB/s`."""
    for factor, unit in _UNITS:
        if bytes_per_second >= factor:
            return f"{bytes_per_second / factor:.1f} {unit}/s"
    return f"{bytes_per_second:.0f} B/s"


def time_text(seconds: float | None) -> str:
    """A time for people: `1:02:03`, `2:03`, or `-:--` where it is not known."""
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Nothing:
    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return

    def show(self, snapshot: imapipe.ProgressSnapshot) -> None:
        """Show nothing."""

    def show_part(self, snapshot: imapipe.ProgressSnapshot) -> None:
        """Show nothing."""

    def tell(self, text: str) -> None:
        """Tell nothing."""

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Nothing is in the way."""
        yield


class Bar:
    """A live bar, and below it one for each of several runs while it is on.

    What does not fit into the width of the terminal is cut, the bar first.
    """

    def __init__(self, label: str, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[numbers]}", markup=False),
            console=console,
            expand=True,
        )
        self._label = printable(label)[:_LABEL_CHARACTERS]
        self._task = TaskID(0)
        self._parts: dict[tuple[str, str], TaskID] = {}

    def __enter__(self) -> Self:
        self._task = self._progress.add_task(self._label, total=None, numbers="connecting and searching")
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    @property
    def is_full(self) -> bool:
        """Whether the bar shows that nothing is left."""
        return self._progress.finished

    def show(self, snapshot: imapipe.ProgressSnapshot) -> None:
        """Move the bar."""
        numbers = [
            f"{snapshot.settled:,}/{snapshot.planned:,}",
            f"{snapshot.messages_per_second:,.0f} msg/s",
            speed_text(snapshot.bytes_per_second),
            time_text(snapshot.elapsed_seconds if snapshot.final else snapshot.eta_seconds),
        ]
        if not snapshot.final:
            numbers.append(f"{snapshot.connections} conn")
        if snapshot.waiting_for:
            numbers.append(f"waiting for {printable(snapshot.waiting_for)}")
        if snapshot.waits:
            numbers.append(_count(snapshot.waits, "wait"))
        if snapshot.failed:
            numbers.append(f"{snapshot.failed:,} failed")
        self._move(self._task, snapshot, " ".join(numbers))

    def show_part(self, snapshot: imapipe.ProgressSnapshot) -> None:
        """Move the bar of one run; when that is over, it goes."""
        key = snapshot.account, snapshot.mailbox
        if snapshot.final:
            if key in self._parts:
                self._progress.remove_task(self._parts.pop(key))
            return
        if key not in self._parts:
            label = f"  {_label_of(snapshot, {account for account, _ in (*self._parts, key)})}"[:_LABEL_CHARACTERS]
            self._parts[key] = self._progress.add_task(label, numbers="")
        speed = speed_text(snapshot.bytes_per_second)
        self._move(self._parts[key], snapshot, f"{snapshot.settled:,}/{snapshot.planned:,} {speed}")

    def _move(self, task: TaskID, snapshot: imapipe.ProgressSnapshot, numbers: str) -> None:
        # A bar of nothing is full, not empty.
        self._progress.update(
            task,
            total=max(1, snapshot.planned),
            completed=snapshot.settled if snapshot.planned else 1,
            numbers=numbers,
        )


class LiveLine:
    """One line on a terminal that says how something without an end stands; it makes room for what is written."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._text = Text()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._erase()

    def tell(self, text: str) -> None:
        """Say it anew."""
        self._text = Text(printable(text))
        # A cursor in the last column would begin a new line.
        self._text.truncate(max(1, self._console.width - 1), overflow="ellipsis")
        self._erase()
        self._draw()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """While something else is written to the terminal, as lines."""
        self._erase()
        try:
            yield
        finally:
            self._draw()

    def _erase(self) -> None:
        with suppress(OSError):
            self._console.control(Control((ControlType.ERASE_IN_LINE, 2), ControlType.CARRIAGE_RETURN))

    def _draw(self) -> None:
        with suppress(OSError):
            self._console.print(self._text, end="")


def choose_line(*, quiet: bool = False) -> Line:
    """A line where standard error is a terminal; elsewhere nothing, for what happens is told anyway."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        return _Nothing()
    return LiveLine(Console(stderr=True))


class _Lines:
    """A line every few seconds, for logs; a run that is over before says nothing."""

    def __init__(self, label: str) -> None:
        self._label = printable(label)
        self._next = time.monotonic() + _LINE_EVERY_SECONDS
        self._parts: dict[tuple[str, str], imapipe.ProgressSnapshot] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return

    def show(self, snapshot: imapipe.ProgressSnapshot) -> None:
        """Write a line where the last one is old enough."""
        now = time.monotonic()
        if now < self._next or snapshot.final:
            return
        self._next = now + _LINE_EVERY_SECONDS
        several = {account for account, _ in self._parts}
        parts = [
            f"{snapshot.settled:,} of {snapshot.planned:,} messages",
            f"{snapshot.messages_per_second:,.0f}/s",
            speed_text(snapshot.bytes_per_second),
            f"{time_text(snapshot.eta_seconds)} left",
            _count(snapshot.connections, "connection"),
            _count(snapshot.waits, "wait"),
            *(
                f"{_label_of(part, several)} {part.settled:,} of {part.planned:,}"
                for part in islice(self._parts.values(), _MOST_PARTS)
            ),
        ]
        try:
            sys.stderr.write(f"{self._label}: {', '.join(parts)}\n")
            sys.stderr.flush()
        except OSError:
            self._next = float("inf")

    def show_part(self, snapshot: imapipe.ProgressSnapshot) -> None:
        """Remember it for the next line; one that is over is in the sum."""
        key = snapshot.account, snapshot.mailbox
        if snapshot.final:
            self._parts.pop(key, None)
        else:
            self._parts[key] = snapshot


def _label_of(snapshot: imapipe.ProgressSnapshot, several: Collection[str]) -> str:
    """The mailbox, with its account where there are several."""
    name = f"{snapshot.account} {snapshot.mailbox}" if len(several) > 1 else snapshot.mailbox
    return printable(name)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
