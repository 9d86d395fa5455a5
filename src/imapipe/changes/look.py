"""Looking at the open mailbox: which messages are there now, and with which flags.

Three ways give the same answer. With QRESYNC the server tells what changed and what vanished; with CONDSTORE only what
changed, and a search tells what is there; without either, a search and the flags of every message.

Invariants:

- An answer that does not add up to the number of messages that the server tells is not believed: the next way is
  taken, and where the last one falls short that is raised. A message counts as gone only where nothing contradicts it.
- A message whose flags cannot be read keeps those that are remembered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date
from functools import partial
from typing import Final

from imapipe.errors import CommandError, ProtocolError, Throttled
from imapipe.models.flag_table import FlagGatherer, FlagTable
from imapipe.models.message import Message
from imapipe.net.changed_flags import fetch_changed_flags
from imapipe.net.connection import Connection, reply_to
from imapipe.net.session import SelectedMailbox
from imapipe.net.signals import to_error
from imapipe.pipeline.source.find import find, still_there
from imapipe.search import ALL
from imapipe.wire.command.encoder import uid_text_room
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.response.note import Note
from imapipe.wire.uid_set import UidSet

_FLAGS: Final = Fetch("flags")
# So many messages are in memory at a time, with about 500 bytes each.
_PIECE_MESSAGES: Final = 5_000
# Nothing here depends on the day.
_ANY_DAY: Final = date.min


async def enable_qresync(connection: Connection) -> None:
    """Have the server tell what vanished, where it can; to be called before the mailbox is opened (RFC 5161 §3.1)."""
    if connection.offers("QRESYNC") and "QRESYNC" not in connection.session.enabled:
        await connection.unselect()
        await connection.try_optional("QRESYNC", partial(connection.enable, "QRESYNC"))


async def look(connection: Connection, selected: SelectedMailbox, known: FlagTable, since: int | None) -> FlagTable:
    """The flags of every message of the open mailbox.

    Args:
        connection: Where it is open.
        selected: What the server said when it was opened, with HIGHESTMODSEQ where it has one.
        known: What the flags were at an earlier time, or later.
        since: HIGHESTMODSEQ of that earlier time, if it is known.

    Returns:
        Them; `known` itself where the numbers prove that nothing changed.

    Raises:
        CommandNo, CommandBad, Throttled: The server refused.
        ConnectionLost, CommandTimeout, ServerBye: The connection ended.
        ProtocolError: The server tells of fewer messages than it says there are, or an answer cannot be read.

    Cancelling it ends the connection.
    """
    count = _Count(selected)
    ways: dict[str, Callable[[], Awaitable[FlagTable]]] = {}
    # A mod-sequence that fell was begun anew, by a server that was restored or moved: it proves nothing.
    if since is not None and selected.highest_modseq is not None and selected.highest_modseq >= since:
        if selected.highest_modseq == since and selected.exists == len(known):
            return known
        if "QRESYNC" in connection.session.enabled and connection.ways.may("QRESYNC", "FETCH (VANISHED)"):
            ways["FETCH (VANISHED)"] = partial(_by_vanished, connection, count, known, since)
        if connection.ways.may("CONDSTORE", "FETCH (CHANGEDSINCE)"):
            ways["FETCH (CHANGEDSINCE)"] = partial(_by_modseq, connection, count, known, since)
    return await connection.ways.first(ways, partial(_by_comparison, connection, count, known))


class _Count:
    """How many messages there are, by what the server says of it while it answers."""

    def __init__(self, selected: SelectedMailbox) -> None:
        self._selected = selected
        self._exists = selected.exists
        self._expunged = selected.expunged

    def check(self, uids: UidSet) -> None:
        """Raise unless these can be all messages that are there."""
        expunged = self._selected.expunged - self._expunged
        least, most = self._exists - expunged, self._selected.exists + expunged
        if not least <= len(uids) <= most:
            raise ProtocolError(f"the server has {self._exists} messages and tells of {len(uids)}")


async def _by_vanished(connection: Connection, count: _Count, known: FlagTable, since: int) -> FlagTable:
    told = await fetch_changed_flags(connection, since, vanished=True)
    # No UID is given twice: what vanished is gone, whatever else was said of it.
    now = known.updated(told.flags).without(told.vanished)
    count.check(now.uids)
    return now


async def _by_modseq(connection: Connection, count: _Count, known: FlagTable, since: int) -> FlagTable:
    told = await fetch_changed_flags(connection, since, vanished=False)
    there = await _all(connection, count)
    now = known.updated(told.flags).within(there)
    return now.updated(await _flags_of(connection, there - now.uids, now))


async def _by_comparison(connection: Connection, count: _Count, known: FlagTable) -> FlagTable:
    return await _flags_of(connection, await _all(connection, count), known)


async def _all(connection: Connection, count: _Count) -> UidSet:
    """The UIDs of all messages."""
    notes: dict[Note, int] = {}
    there = await find(connection, ALL, connection.session.messages, _ANY_DAY, notes)
    if notes:
        raise ProtocolError("the server lists what is no UID, so a message may be missing")
    count.check(there)
    return there


async def _flags_of(connection: Connection, uids: UidSet, known: FlagTable) -> FlagTable:
    """The flags of these messages, but for those of them that are gone meanwhile."""
    gatherer = FlagGatherer()
    full = uid_text_room(b"UID FETCH (UID FLAGS)")
    missing = uids
    while missing:
        room = connection.ways.learned.room(full)
        refusal: CommandError | None = None
        left = UidSet()
        begin = 0
        while begin < len(missing):
            end = missing.fit(begin, _PIECE_MESSAGES, room)
            untold, refused = await _fetch(connection, missing[begin:end], gatherer)
            left |= untold
            refusal = refused or refusal
            begin = end
        if len(left) == len(missing) and connection.ways.learned.room(full) == room:
            missing = await still_there(connection, left, _ANY_DAY)
            if missing and refusal is not None:
                raise refusal
            break
        missing = left
    unreadable = FlagTable({frozenset(): missing}).updated(known.within(missing))
    return unreadable.updated(gatherer.table())


async def _fetch(connection: Connection, uids: UidSet, gatherer: FlagGatherer) -> tuple[UidSet, CommandError | None]:
    """Ask for the flags of these messages: which were not told, and what the server refused it with."""
    unreadable: list[int] = []

    def deliver(messages: list[Message]) -> None:
        for message in messages:
            try:
                gatherer.add(message.uid, message.flags)
            except ProtocolError:
                unreadable.append(message.uid)
            connection.release(message)

    command = connection.uid_fetch(uids, _FLAGS, deliver)
    tagged = await reply_to(connection, command)
    connection.fetched(command)
    unreadable += command.malformed
    untold = command.missing | UidSet.from_numbers(unreadable)
    if tagged.status == "OK":
        return untold, None
    refusal = to_error(command.name, tagged)
    if isinstance(refusal, Throttled):
        raise refusal
    connection.ways.learned.is_too_long(command.line_bytes, refusal)
    return untold, refusal
