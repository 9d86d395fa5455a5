"""`imapipe find`: ask a local index; no server is needed."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table

import imapipe
from imapipe.cli.errors import AsMistake, Mistake, Status
from imapipe.cli.options import JOB
from imapipe.cli.output import is_terminal, write_document, write_note, write_table
from imapipe.cli.terminal import printable

_DAYS_AGO: Final = re.compile(r"(\d{1,6})d")


@dataclass(frozen=True, slots=True, kw_only=True)
class FindOptions:
    """What to look for."""

    file: Annotated[Path, typer.Argument(metavar="FILE", help="An index that `imapipe index` made.")]
    sender: Annotated[
        str | None,
        typer.Option(metavar="WHO", help="A whole address, or words of a name or address.", rich_help_panel=JOB),
    ] = None
    subject: Annotated[
        str | None,
        typer.Option(metavar="WORDS", help="Words of the subject; inv* stands for its like.", rich_help_panel=JOB),
    ] = None
    since: Annotated[
        str | None, typer.Option(metavar="DATE", help="On that day or later: 2024-01-31, or 30d.", rich_help_panel=JOB)
    ] = None
    before: Annotated[
        str | None, typer.Option(metavar="DATE", help="Before that day: 2024-01-31, or 30d.", rich_help_panel=JOB)
    ] = None
    size_class: Annotated[
        imapipe.SizeClass | None,
        typer.Option(help="Below 1 KiB, 10 KiB, 100 KiB, 1 MiB, or above.", rich_help_panel=JOB),
    ] = None
    text: Annotated[
        str | None, typer.Option(metavar="WORDS", help="Words of sender or subject.", rich_help_panel=JOB)
    ] = None
    mailbox: Annotated[str | None, typer.Option(metavar="NAME", help="Only in this mailbox.", rich_help_panel=JOB)] = (
        None
    )
    account: Annotated[
        str | None, typer.Option(metavar="USER@HOST:PORT", help="Only of this account.", rich_help_panel=JOB)
    ] = None
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.", rich_help_panel=JOB)] = 50


async def find(options: FindOptions, *, json: bool) -> Status:
    """Write what is found, newest first.

    Raises:
        Mistake: A condition that cannot be asked.
        MessageIndexError: The file is no index.
    """
    since, before = _read_date(options.since, "--since"), _read_date(options.before, "--before")
    async with imapipe.MessageIndex(options.file, must_exist=True) as index:
        with AsMistake():
            entries = await index.find(
                sender=options.sender,
                subject=options.subject,
                text=options.text,
                since=since,
                before=before,
                size_class=options.size_class,
                mailbox=options.mailbox,
                account=options.account,
                # One more tells whether there are more.
                limit=options.limit + 1,
            )
    shown = entries[: options.limit]
    if json:
        write_document({"messages": [_fields(entry) for entry in shown], "more": len(entries) > len(shown)})
        return Status.COMPLETE
    if shown:
        write_table(_table(), map(_row, shown))
    if len(entries) > len(shown):
        write_note(f"there are more than {len(shown):,}; see them with a higher --limit")
    elif not shown:
        write_note("nothing was found")
    return Status.COMPLETE


def _read_date(text: str | None, option: str) -> datetime.date | None:
    if text is None:
        return None
    try:
        if match := _DAYS_AGO.fullmatch(text.strip()):
            return datetime.datetime.now().astimezone().date() - datetime.timedelta(days=int(match[1]))
        return datetime.date.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise Mistake(f"{option} {text}: use a date such as 2024-01-31, or 30d for 30 days ago") from None


def _fields(entry: imapipe.IndexEntry) -> dict[str, object]:
    return {
        "account": entry.account,
        "mailbox": entry.mailbox,
        "uidvalidity": entry.uidvalidity,
        "uid": entry.uid,
        "sender": entry.sender,
        "sender_name": entry.sender_name,
        "subject": entry.subject,
        "date": entry.date,
        "internal_date": entry.internal_date,
        "size": entry.size,
        "size_class": entry.size_class.value,
        "flags": sorted(entry.flags),
        "message_id": entry.message_id,
    }


def _table() -> Table:
    at_terminal = is_terminal()
    table = Table(box=None, pad_edge=False)
    table.add_column("date", no_wrap=True)
    table.add_column("bytes", justify="right", no_wrap=True)
    for heading in ("sender", "subject", "mailbox"):
        table.add_column(heading, no_wrap=at_terminal, overflow="ellipsis" if at_terminal else "fold")
    table.add_column("uid", justify="right", no_wrap=True)
    return table


def _row(entry: imapipe.IndexEntry) -> tuple[str, ...]:
    return (
        f"{entry.date.astimezone():%Y-%m-%d %H:%M}" if entry.date is not None else "",
        f"{entry.size:,}",
        printable(entry.sender),
        printable(entry.subject),
        printable(entry.mailbox),
        str(entry.uid),
    )
