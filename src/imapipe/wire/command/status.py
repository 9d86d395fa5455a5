"""STATUS (RFC 9051 §6.3.11): numbers of a mailbox that is not selected. Answered by `MailboxStatus`."""

from __future__ import annotations

from collections.abc import Iterable

from imapipe.wire.command.encoder import Dialect, Request, atoms, parenthesised


def status(mailbox: str, items: Iterable[str], dialect: Dialect) -> Request:
    """STATUS.

    Raises:
        ValueError: CR, LF or NUL in the name, no item, or one that is no atom.
    """
    return Request("STATUS", dialect.mailbox(mailbox), parenthesised(atoms(items, "an item of STATUS")))
