"""LIST (RFC 9051 §6.3.9), extended by what is to be told (RFC 5258, RFC 6154), also STATUS (RFC 5819).

Answered by `ListItem` and `MailboxStatus`.
"""

from __future__ import annotations

from collections.abc import Collection

from imapipe.wire.command.encoder import Dialect, Request, Word, atoms, parenthesised


def list_(
    pattern: str,
    dialect: Dialect,
    *,
    reference: str = "",
    returns: Collection[str] = (),
    status_items: Collection[str] = (),
) -> Request:
    """LIST.

    Args:
        pattern: Which mailboxes; `*` stands for anything, `%` for anything up to a separator.
        dialect: What the connection takes.
        reference: The name before which the pattern is to be thought.
        returns: What to tell of each, such as SPECIAL-USE; the server must offer LIST-EXTENDED or LIST-STATUS.
        status_items: What to tell of each besides; the server must offer LIST-STATUS.

    Raises:
        ValueError: CR, LF or NUL in a name, or an item that is no atom.
    """
    words: list[Word] = [dialect.mailbox(reference), dialect.list_mailbox(pattern)]
    told: list[bytes] = atoms(returns, "what a LIST is to tell") if returns else []
    if status_items:
        told.append(b"STATUS " + parenthesised(atoms(status_items, "an item of STATUS")))
    if told:
        words += (b"RETURN", parenthesised(told))
    return Request("LIST", *words)
