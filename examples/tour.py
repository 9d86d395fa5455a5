"""What `large_volume.py` stands on: its arguments, a mail server of its own, and how figures are shown.

Nothing here is about imapipe itself; read `large_volume.py` first.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import orjson

import imapipe
from imapipe.testing import Fault, Mailbox, Server, Throttle, make_messages

Figures = Mapping[str, object]
"""What a section measured, by name."""

# The line to the server of the tour: every answer comes so much later.
_LATENCY_SECONDS: Final = 0.005
# The messages of the server of the tour arrived in the last so many days.
_DAYS: Final = 90


@dataclass
class Tour:
    """Where the sections work.

    Attributes:
        url: The account.
        password: Its password.
        mailbox_name: The mailbox that is read.
        messages: How many messages of it a section reads at most.
        folder: For files; gone when the tour ends.
        pool: Connections that all sections share.
        server: The server of the tour, or None where the account is somebody's own.
        rows: The figures: row of the table in docs/large_volume.md, title of the section, name.
    """

    url: str
    password: str
    mailbox_name: str
    messages: int
    folder: Path
    pool: imapipe.Pool
    server: Server | None = None
    rows: dict[str, dict[str, Figures]] = field(default_factory=dict)

    @property
    def mailbox(self) -> imapipe.Mailbox:
        """The mailbox that is read."""
        return self.pool.mailbox(self.mailbox_name)

    @contextmanager
    def trouble(self, *faults: Fault) -> Iterator[None]:
        """Let things go wrong at the server of the tour; nobody else's server is troubled."""
        if self.server is not None:
            self.server.faults.add(*faults)
        try:
            yield
        finally:
            if self.server is not None:
                self.server.faults.clear()

    @contextmanager
    def throttled(self, throttle: Throttle) -> Iterator[None]:
        """Let the server of the tour refuse what comes faster than it likes, for a while."""
        if self.server is not None:
            self.server.throttle = throttle
        try:
            yield
        finally:
            if self.server is not None:
                self.server.throttle = None

    def commands(self, name: str) -> int | None:
        """How many commands of a name the server of the tour has got so far; None elsewhere."""
        return self.server.commands.by_name[name] if self.server is not None else None


Work = Callable[[Tour], Awaitable[Figures]]


@dataclass(frozen=True)
class Section:
    """One section: a chapter and a title of the tour, the rows of the table that it shows, and what it does."""

    chapter: str
    title: str
    rows: tuple[str, ...]
    work: Work


SECTIONS: Final[list[Section]] = []


def section(chapter: str, title: str, *rows: str) -> Callable[[Work], Work]:
    """Add a function to the tour, in the order of the file."""

    def add(work: Work) -> Work:
        SECTIONS.append(Section(chapter, title, rows, work))
        return work

    return add


def main(description: str) -> int:
    """Run all sections, and print what they measured."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="imaps://user@host; its password is taken from IMAPIPE_PASSWORD")
    parser.add_argument("--mailbox", default="INBOX")
    parser.add_argument("--messages", type=int, default=3000, help="how many messages a section reads at most")
    parser.add_argument("--rows", nargs="+", metavar="S1", help="only the sections that show these rows")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    if options.url and "IMAPIPE_PASSWORD" not in os.environ:
        parser.error("set IMAPIPE_PASSWORD")
    try:
        document = asyncio.run(_run(options))
    except imapipe.ImapipeError as error:
        print(f"large_volume.py: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    return 0


async def _run(options: argparse.Namespace) -> dict[str, object]:
    began = time.perf_counter()
    say = _say_nothing if options.json else print
    wanted = [part for part in SECTIONS if not options.rows or set(part.rows) & set(options.rows)]
    async with _open_tour(options.url, options.mailbox, options.messages) as tour:
        say(f"{tour.pool.account}, {tour.mailbox_name}, at most {tour.messages:,} messages a section")
        chapter = ""
        for part in wanted:
            if part.chapter != chapter:
                chapter = part.chapter
                say(f"\n{chapter}\n{'=' * len(chapter)}")
            say(f"\n{part.title} ({', '.join(part.rows)})")
            if part.work.__doc__:
                say(f"  {part.work.__doc__.splitlines()[0]}")
            figures = await part.work(tour)
            for row in part.rows:
                tour.rows.setdefault(row, {})[part.title] = figures
            for name, value in figures.items():
                say(f"    {name.replace('_', ' ')}: {_readable(value)}")
        elapsed = time.perf_counter() - began
        say(f"\nThe tour took {elapsed:.1f} seconds.")
        return {
            "account": tour.pool.account,
            "mailbox": tour.mailbox_name,
            "own_server": tour.server is not None,
            "elapsed_seconds": elapsed,
            "rows": tour.rows,
        }


@asynccontextmanager
async def _open_tour(url: str | None, mailbox: str, messages: int) -> AsyncIterator[Tour]:
    with TemporaryDirectory(prefix="imapipe-tour-") as folder:
        if url is not None:
            password = os.environ["IMAPIPE_PASSWORD"]
            async with imapipe.create_pool(url, password=password) as pool:
                yield Tour(url, password, mailbox, messages, Path(folder), pool)
            return
        boxes: dict[str, int | Iterable[bytes] | Mailbox] = {mailbox: _recent_mail(messages)}
        async with (
            Server(boxes, latency_seconds=_LATENCY_SECONDS) as server,
            imapipe.create_pool(server.url, password=server.password) as pool,
        ):
            yield Tour(server.url, server.password, mailbox, messages, Path(folder), pool, server)


def _recent_mail(count: int) -> Mailbox:
    """Mail of the last months: two thirds of it read, every tenth message flagged."""
    mailbox = Mailbox()
    now = datetime.now(UTC)
    for number, raw in enumerate(make_messages(count), 1):
        flags = {name for name, each in (("\\Seen", 3), ("\\Flagged", 10)) if (number % each == 0) != (each == 3)}
        mailbox.append(raw, flags, now - timedelta(days=_DAYS * (1 - number / count)))
    return mailbox


def _readable(value: object) -> str:
    match value:
        case float():
            return f"{value:,.3f}" if value < 10 else f"{value:,.0f}"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case None:
            return "not to be seen from here"
        case Mapping():
            return ", ".join(f"{name} {_readable(item)}" for name, item in value.items())
        case list():
            shown = ", ".join(_readable(item) for item in value[:12])
            return shown + ("" if len(value) <= 12 else f" … ({len(value)} in all)")
        case _:
            return str(value)


def _say_nothing(_: str) -> None:
    return
