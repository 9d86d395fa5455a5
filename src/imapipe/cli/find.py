"""`imapipe find`: ask a local index; no server is needed."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.table import Table

import imapipe
from imapipe.cli.errors import Mistake, Status
from imapipe.cli.output import is_terminal, write_document, write_note, write_table
from imapipe.cli.terminal import printable

_DAYS_AGO: Final = re.compile(r"(\d{1,6})d")


@dataclass(frozen=True, slots=True, kw_only=True)
class FindOptions:
    """What to look for; the options of the same names say more."""

    file: Path
    sender: str | None = None
    subject: str | None = None
    text: str | None = None
    since: str | None = None
    before: str | None = None
    size_class: imapipe.SizeClass | None = None
    mailbox: str | None = None
    account: str | None = None
    limit: int = 50
    json: bool = False


async def find(options: FindOptions) -> Status:
    """Write what is found, newest first.

    Raises:
        Mistake: A condition that cannot be asked.
        MessageIndexError: The file is no index.
    """
    since, before = _read_date(options.since, "--since"), _read_date(options.before, "--before")
    async with imapipe.MessageIndex(options.file, must_exist=True) as index:
        try:
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
        except ValueError as error:
            raise Mistake(str(error)) from error
    shown = entries[: options.limit]
    if options.json:
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
