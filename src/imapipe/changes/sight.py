"""Seeing what is in a mailbox now, from what is remembered of it."""

from __future__ import annotations

from typing import NamedTuple

from imapipe.changes.book import Book
from imapipe.changes.look import enable_qresync, look
from imapipe.models.cursor import Cursor, reissued
from imapipe.models.flag_table import FlagTable
from imapipe.net.connection import Connection
from imapipe.pipeline.access import MailboxAccess


class Sight(NamedTuple):
    """A mailbox as it was seen.

    Attributes:
        flags: All messages, and their flags; `Book.known` itself where nothing changed.
        uidvalidity: Its UIDVALIDITY.
        cursor: How far it had come.
        has_restarted: What was remembered is of other messages, and was forgotten.
    """

    flags: FlagTable
    uidvalidity: int
    cursor: Cursor
    has_restarted: bool = False


async def see(access: MailboxAccess, book: Book, connection: Connection, *, restarts: bool) -> Sight:
    """Open the mailbox and look at it.

    Args:
        access: The way to the mailbox.
        book: What is remembered.
        connection: A lease.
        restarts: Forget what is remembered where the UIDs mean other messages now, instead of raising.

    Raises:
        UidValidityChanged: UIDs mean other messages now.
        ImapipeError: It could not be asked; see `look`.

    Cancelling it ends the connection.
    """
    await enable_qresync(connection)
    selected = await access.open(connection)
    cursor, uidvalidity = access.cursor, selected.uidvalidity
    has_restarted = False
    if book.uidvalidity == uidvalidity:
        cursor = await access.believable_cursor(connection, book.cursor)
    if book.uidvalidity:
        then, now = (book.uidvalidity, book.cursor), (uidvalidity, cursor)
        error = reissued(selected.name, then, now, 'start again with on_uidvalidity="restart"')
        if error is not None and not restarts:
            raise error
        if error is not None:
            book.restart()
            has_restarted = True
    # It may have been opened a second time.
    selected = connection.selected or selected
    flags = await look(connection, selected, book.known, book.since)
    return Sight(flags, uidvalidity, cursor.met(flags.uids), has_restarted)
