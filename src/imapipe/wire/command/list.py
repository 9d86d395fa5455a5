"""LIST (RFC 9051 §6.3.9), with STATUS in the same answer (RFC 5819). Answered by `ListItem` and `MailboxStatus`."""

from __future__ import annotations

from collections.abc import Collection

from imapipe.wire.command.encoder import Dialect, Request, Word, atoms, parenthesised


def list_(pattern: str, dialect: Dialect, *, reference: str = "", status_items: Collection[str] = ()) -> Request:
    """LIST.

    Args:
        pattern: Which mailboxes; `*` stands for anything, `%` for anything up to a separator.
        dialect: What the connection takes.
        reference: The name before which the pattern is to be thought.
        status_items: What to tell of each besides; the server must offer LIST-STATUS.

    Raises:
        ValueError: CR, LF or NUL in a name, or an item that is no atom.
    """
    words: list[Word] = [dialect.mailbox(reference), dialect.list_mailbox(pattern)]
    if status_items:
        items = parenthesised(atoms(status_items, "an item of STATUS"))
        words += (b"RETURN", b"(STATUS " + items + b")")
    return Request("LIST", *words)
