"""`imapipe follow`: what is in mailboxes, and then what arrives, until somebody ends it.

With `--json` standard output holds JSON Lines: an object for each message or event, and at the end the report.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Final, Literal

import orjson

import imapipe
from imapipe import events
from imapipe import search as q
from imapipe.cli.account import AccountOptions
from imapipe.cli.errors import AsMistake, Mistake, Status
from imapipe.cli.export import ExportOptions
from imapipe.cli.options import CheckpointOptions, LimitOptions, split_names
from imapipe.cli.output import write_line, write_note, write_report, write_result
from imapipe.cli.progress import Line, choose_line, time_text
from imapipe.cli.signals import at_signals
from imapipe.cli.terminal import printable

_TELL_EVERY_SECONDS: Final = 0.5
_TOLD = (events.MailboxFollowed, events.MailboxGone, events.NewsHandled, events.FollowTrouble)


class Way(Enum):
    """How news of mailboxes may come."""

    notify = "notify"
    idle = "idle"
    poll = "poll"


_WAYS: Final[dict[Way, Literal["notify", "idle", "poll"]]] = {
    Way.notify: "notify",
    Way.idle: "idle",
    Way.poll: "poll",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowOptions:
    """What to follow, and how; the options of the same names say more."""

    what: ExportOptions
    poll_seconds: float
    idle_seconds: float | None
    way: Way


async def follow(
    account: AccountOptions,
    options: FollowOptions,
    kept: CheckpointOptions,
    limits: LimitOptions,
    *,
    quiet: bool,
    json: bool,
) -> Status:
    """Follow until SIGINT or SIGTERM comes, and report.

    Raises:
        Mistake, InvalidURL, InvalidSearch: Before anything is sent.
        ImapipeError: What no patience helps against.
    """
    what = options.what
    with AsMistake():
        what.check()
        criteria = q.parse(what.search)
        sink = what.sink() if what.to or what.attachments is not None else None
        fetch = split_names(what.fetch) if sink is not None else ["envelope"]
        layers = [*kept.layers(), *limits.layers()]
        pool = account.open_pool(limits.connections)
        group = pool.each(*what.mailboxes, exclude=what.exclude, subscribed=what.subscribed)
        where = group if what.one_mailbox is None else pool.mailbox(what.one_mailbox)
        job = where.search(criteria).fetch(*fetch).use(*layers)
    line = choose_line(quiet=quiet or json)
    ending = asyncio.Event()
    pool.events.subscribe(_teller(line, ending, quiet=quiet, json=json))
    async with pool:
        # A line that cannot be written is no failure of its message: whoever reads has gone.
        following = job.follow(
            sink or _writer(line, json=json),
            concurrency=1 if sink is None else 8,
            on_error="raise" if sink is None else "record",
            poll_seconds=options.poll_seconds,
            idle_seconds=options.idle_seconds,
            way=_WAYS[options.way],
        )

        def end() -> None:
            ending.set()
            following.stop()

        with at_signals(end):
            telling = asyncio.create_task(_keep_telling(following, line))
            try:
                report = await following
            except ValueError as error:
                # What a sink needs and --fetch does not bring.
                raise Mistake(str(error)) from error
            finally:
                telling.cancel()
                await asyncio.wait([telling])
    if not json:
        return write_report(report, json=False)
    write_line({"event": "report", **orjson.loads(report.to_json())})
    return Status.COMPLETE if report.complete else Status.PARTIAL


async def _keep_telling(following: imapipe.Follow, line: Line) -> None:
    """Show people on a terminal how it stands, until it is cancelled."""
    with line:
        while True:
            line.tell(standing(following.health, following.report))
            await asyncio.sleep(_TELL_EVERY_SECONDS)


def standing(health: imapipe.FollowHealth, report: imapipe.FollowReport) -> str:
    """How following stands, in one line."""
    there = [each for each in health.mailboxes.values() if not each.is_gone]
    ways = Counter(each.way for each in there)
    heard = health.heard_seconds_ago
    lag = max((each.lag_seconds for each in there), default=0.0)
    return ", ".join(
        part
        for part in (
            f"{report.done:,} handled",
            f"{report.pending:,} to come" if report.pending else "",
            f"{report.failed:,} failed" if report.failed else "",
            *(f"{count:,} by {way}" for way, count in sorted(ways.items())),
            "connecting" if heard is None else f"heard {time_text(heard)} ago",
            f"news waits for {time_text(lag)}" if lag >= 1 else "",
            health.trouble,
        )
        if part
    )


def _teller(line: Line, ending: asyncio.Event, *, quiet: bool, json: bool) -> Callable[[events.Event], None]:
    """Tells what happens: to machines on standard output, to people on standard error."""

    def tell(event: events.Event) -> None:
        # That a mailbox is only polled when its watchers have ended is no news.
        if not isinstance(event, _TOLD) or (isinstance(event, events.MailboxFollowed) and ending.is_set()):
            return
        if json:
            write_line({"event": type(event).__name__, **asdict(event)})
        elif not quiet:
            with line.aside():
                write_note(_sentence(event))

    return tell


def _sentence(event: events.Event) -> str:
    match event:
        case events.MailboxFollowed():
            return f"news of {event.mailbox} comes by {event.way}"
        case events.MailboxGone():
            return f"{event.mailbox} is gone"
        case events.NewsHandled():
            left = f", {event.pending:,} still to come" if event.pending else ""
            return f"{event.mailbox}: {event.done:,} handled{left}"
        case events.FollowTrouble():
            return f"{event.mailbox or 'the account'}: {event.reason}; again in {event.wait_seconds:.1f} s"
        case _:
            return type(event).__name__


def _writer(line: Line, *, json: bool) -> Callable[[imapipe.Message], Awaitable[None]]:
    """Writes a line for each message."""

    async def write(message: imapipe.Message) -> None:
        envelope = message.envelope
        sender = ", ".join(address.email for address in envelope.from_)
        day = "" if envelope.date is None else envelope.date.isoformat(sep=" ", timespec="minutes")
        if json:
            fields = {
                "event": "message",
                "mailbox": message.mailbox,
                "uid": message.uid,
                "date": day,
                "from": sender,
                "subject": envelope.subject,
                "size": message.size,
                "message_id": envelope.message_id,
            }
            write_line(fields)
        else:
            text = f"{message.mailbox}  {message.uid}  {day}  {sender}  {envelope.subject or ''}"
            with line.aside():
                write_result(printable(text))

    return write
