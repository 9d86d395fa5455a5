"""SELECT and EXAMINE (RFC 9051 §6.3.2, §6.3.3): open a mailbox, for writing or for reading."""

from __future__ import annotations

from imapipe.wire.command.encoder import Dialect, Request


def select(mailbox: str, dialect: Dialect, *, read_only: bool, condstore: bool = False) -> Request:
    """SELECT, or EXAMINE.

    Args:
        mailbox: Its name.
        dialect: What the connection takes.
        read_only: EXAMINE.
        condstore: Have HIGHESTMODSEQ told (RFC 7162 §3.1.8).

    Raises:
        ValueError: CR, LF or NUL in the name.
    """
    words = [dialect.mailbox(mailbox)]
    if condstore:
        words.append(b"(CONDSTORE)")
    return Request("EXAMINE" if read_only else "SELECT", *words, mailbox=mailbox)
