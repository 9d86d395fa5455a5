"""`imapipe folders`: the mailboxes of an account, with their counts."""

from __future__ import annotations

from rich.table import Table

import imapipe
from imapipe.cli.account import AccountOptions
from imapipe.cli.errors import AsMistake, Status
from imapipe.cli.output import write_document, write_note, write_table


async def folders(account: AccountOptions, pattern: str, *, outage_seconds: float, json: bool) -> Status:
    """List the mailboxes that match; a server that does not work is waited for.

    Raises:
        Mistake, InvalidURL: Before anything is sent.
        ImapipeError: They could not be listed.
    """
    async with account.open_pool() as pool:
        with AsMistake():
            found = await pool.mailboxes(pattern, outage_seconds=outage_seconds)
        entries = sorted(found, key=_inbox_first)
        name, notes = pool.account, pool.notes
    if json:
        listed = [{"kind": note.kind, "detail": note.detail, "count": count} for note, count in notes.items()]
        mailboxes = [_fields(entry) for entry in entries]
        write_document({"account": name, "mailboxes": mailboxes, "notes": listed})
    else:
        write_table(_table(), map(_row, entries))
        for note in notes:
            write_note(f"note: {note.detail}")
    return Status.COMPLETE


def _inbox_first(entry: imapipe.MailboxEntry) -> tuple[bool, str]:
    return entry.name.upper() != "INBOX", entry.name.casefold()


def _fields(entry: imapipe.MailboxEntry) -> dict[str, object]:
    status = entry.status or imapipe.MailboxStatus(entry.name)
    return {
        "name": entry.name,
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


def _table() -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("mailbox", overflow="fold")
    for heading in ("messages", "unseen", "MB"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("use", no_wrap=True)
    return table


def _row(entry: imapipe.MailboxEntry) -> tuple[str, ...]:
    status = entry.status or imapipe.MailboxStatus(entry.name)
    return (
        # With every space it has, so that it can be typed again.
        entry.name,
        _number(status.messages),
        _number(status.unseen),
        f"{status.size / 1e6:,.1f}" if status.size is not None else "",
        (entry.special_use or "").removeprefix("\\") if entry.is_selectable else "only holds others",
    )


def _number(value: int | None) -> str:
    return f"{value:,}" if value is not None else ""
