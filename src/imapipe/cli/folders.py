"""`imapipe folders`: the mailboxes of an account, with their counts."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

import imapipe
from imapipe.cli.errors import Status, printable
from imapipe.cli.options import AccountOptions
from imapipe.cli.output import write_document, write_note, write_result

# Where nobody looks, nothing is cut: a table in a file is as wide as it is.
_FILE_WIDTH = 10_000


async def folders(account: AccountOptions, pattern: str, *, json: bool) -> Status:
    """List the mailboxes that match.

    Raises:
        Mistake, InvalidURL: Before anything is sent.
        ImapipeError: They could not be listed.
    """
    async with account.open_pool() as pool:
        entries = sorted(await pool.mailboxes(pattern), key=_inbox_first)
        name, notes = pool.account, pool.notes
    if json:
        listed = [{"kind": note.kind, "detail": note.detail, "count": count} for note, count in notes.items()]
        mailboxes = [_fields(entry) for entry in entries]
        write_document({"account": _encodable(name), "mailboxes": mailboxes, "notes": listed})
    else:
        write_result(_table(entries))
        for note in notes:
            write_note(f"note: {note.detail}")
    return Status.COMPLETE


def _inbox_first(entry: imapipe.MailboxEntry) -> tuple[bool, str]:
    return entry.name.upper() != "INBOX", entry.name.casefold()


def _fields(entry: imapipe.MailboxEntry) -> dict[str, object]:
    status = entry.status or imapipe.MailboxStatus(entry.name)
    return {
        "name": _encodable(entry.name),
        "delimiter": entry.delimiter,
        "attributes": sorted(entry.attributes),
        "special_use": entry.special_use,
        "selectable": entry.is_selectable,
        "messages": status.messages,
        "unseen": status.unseen,
        "size": status.size,
        "uidnext": status.uidnext,
        "uidvalidity": status.uidvalidity,
        "highest_modseq": status.highest_modseq,
        "mailbox_id": status.mailbox_id,
    }


def _table(entries: list[imapipe.MailboxEntry]) -> str:
    table = Table(box=None, pad_edge=False)
    table.add_column("mailbox", overflow="fold")
    for heading in ("messages", "unseen", "MB"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("use", no_wrap=True)
    for entry in entries:
        status = entry.status or imapipe.MailboxStatus(entry.name)
        size = f"{status.size / 1e6:,.1f}" if status.size is not None else ""
        table.add_row(
            Text(_shown(entry.name)),
            _number(status.messages),
            _number(status.unseen),
            size,
            (entry.special_use or "").removeprefix("\\") if entry.is_selectable else "only holds others",
        )
    at_terminal = sys.stdout is not None and sys.stdout.isatty()
    console = Console(width=None if at_terminal else _FILE_WIDTH)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _shown(name: str) -> str:
    """A name that can be typed again: without control characters, but with every space it has."""
    return "".join(character if character.isprintable() else printable(character) for character in name)


def _number(value: int | None) -> str:
    return f"{value:,}" if value is not None else ""


def _encodable(text: str) -> str:
    """Text that UTF-8 can hold: a name that could not be decoded has surrogates in it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
