"""CREATE (RFC 9051 §6.3.4): make a mailbox, for a special use where that is said (RFC 6154 §3)."""

from __future__ import annotations

from imapipe.wire.command.encoder import Dialect, Request, Word, flag_list, parenthesised


def create(mailbox: str, dialect: Dialect, *, special_use: str = "") -> Request:
    r"""CREATE.

    Args:
        mailbox: Its name.
        dialect: What the connection takes.
        special_use: What it is to be for, such as `\Sent`; the server must offer CREATE-SPECIAL-USE.

    Raises:
        ValueError: CR, LF or NUL in the name, or a special use that is no flag.
    """
    words: list[Word] = [dialect.mailbox(mailbox)]
    if special_use:
        words.append(parenthesised([b"USE", flag_list([special_use])]))
    return Request("CREATE", *words)
