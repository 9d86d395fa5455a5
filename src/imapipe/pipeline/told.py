"""What a server tells of how far a mailbox has come, and how far that is to be believed.

Invariants:

- UIDNEXT is believed while it can be one: where a message that is there has this UID or a higher one, it is late or
  made up, and counts as not told.
- Before a UIDNEXT that is low ends anything, the server is asked for such messages; one that is missing is asked for by
  STATUS. Nothing is asked while the numbers agree.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from imapipe.errors import CommandBad, CommandNo, ProtocolError
from imapipe.models.cursor import Cursor, possible_uidnext
from imapipe.net.connection import Connection
from imapipe.net.session import SelectedMailbox
from imapipe.search import ALL
from imapipe.wire.uid_set import MAX_UID, UidSet


def cursor_of(selected: SelectedMailbox) -> Cursor:
    """What a server said when the mailbox was opened."""
    return Cursor(
        uidnext=possible_uidnext(selected.uidnext, selected.exists),
        highestmodseq=selected.highest_modseq or None,
        mailboxid=selected.mailbox_id or None,
        exists=selected.exists,
    )


def is_made_up(uidnext: int | None, there: UidSet, arrived: int) -> bool:
    """Whether UIDNEXT was not above all UIDs when it was told.

    Args:
        uidnext: The number.
        there: UIDs of messages that are there now.
        arrived: How many messages came since.
    """
    return uidnext is not None and len(there & _from(uidnext)) > max(0, arrived)


async def believable_cursor(connection: Connection, selected: SelectedMailbox, remembered: Cursor | None) -> Cursor:
    """What the server said of the mailbox that was just opened, to be compared with an earlier time.

    Args:
        connection: Where it is open.
        selected: What was said.
        remembered: How far the mailbox had come at the earlier time, if that is known.

    Raises:
        CommandNo, CommandBad, Throttled: The server refused a search.
        ConnectionLost, CommandTimeout: The connection ended.
    """
    cursor, expunged = cursor_of(selected), selected.expunged
    if remembered is None or not cursor.leaves_open(remembered):
        return cursor
    exists = selected.exists
    if cursor.uidnext is None:
        cursor = replace(cursor, uidnext=possible_uidnext(await _uidnext_by_status(connection, selected), exists))
    if cursor.uidnext is not None and cursor.leaves_open(remembered):
        there = await connection.uid_search(ALL.program(today=date.min), within=_from(cursor.uidnext))
        if is_made_up(cursor.uidnext, there.uids, selected.exists + selected.expunged - exists - expunged):
            cursor = replace(cursor, uidnext=None)
    return cursor


async def _uidnext_by_status(connection: Connection, selected: SelectedMailbox) -> int | None:
    """UIDNEXT of a server that leaves it out when a mailbox is opened."""
    try:
        return (await connection.status(selected.name, ("UIDNEXT",))).uidnext
    except (CommandNo, CommandBad, ProtocolError):
        return None


def _from(uid: int) -> UidSet:
    return UidSet.from_ranges([(uid, MAX_UID)])
