"""NOTIFY (RFC 5465): the server tells of what happens in mailboxes that are not selected, by STATUS and LIST."""

from __future__ import annotations

from collections.abc import Sequence

from imapipe.wire.command.encoder import Dialect, Request, parenthesised

_MESSAGES = b"(MessageNew MessageExpunge)"
_MESSAGES_AND_NAMES = b"(MessageNew MessageExpunge MailboxName)"


def notify_set(mailboxes: Sequence[str], dialect: Dialect) -> Request:
    """NOTIFY SET STATUS: what each mailbox holds now, and then whenever that changes.

    Args:
        mailboxes: Which; none is all in the personal namespaces, and then names that come and go are told too.
        dialect: What the connection takes.

    Raises:
        ValueError: CR, LF or NUL in a name.
    """
    if not mailboxes:
        return Request("NOTIFY", b"SET STATUS", parenthesised((b"personal", _MESSAGES_AND_NAMES)))
    names = parenthesised(dialect.mailbox(name) for name in mailboxes)
    return Request("NOTIFY", b"SET STATUS", parenthesised((b"mailboxes", names, _MESSAGES)))
