"""What has changed in the open mailbox since a mod-sequence (RFC 7162): UID FETCH with CHANGEDSINCE, and VANISHED.

Invariant: nothing is kept of an answer but UIDs and flags, as it comes; a mailbox in which all messages have changed
takes a few bytes for each.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from imapipe.errors import ProtocolError
from imapipe.models.flag_table import FlagGatherer, FlagTable
from imapipe.net.command import Command
from imapipe.net.connection import Connection
from imapipe.net.patience import Term
from imapipe.net.searching import MANY_RANGES
from imapipe.wire.command.fetch import Fetch, uid_fetch
from imapipe.wire.response.fetch import FetchScan
from imapipe.wire.response.item_value import parse_flags
from imapipe.wire.response.limits import LONG_BYTES
from imapipe.wire.response.literal import Literal
from imapipe.wire.response.response import Vanished, parse_response
from imapipe.wire.uid_set import MAX_UID, UidSet

_FLAGS: Final = Fetch("flags")


class ChangedFlags(NamedTuple):
    """What the server told.

    Attributes:
        flags: The messages that came or changed, with their flags.
        vanished: UIDs that are gone; some may never have existed.
    """

    flags: FlagTable
    vanished: UidSet


class _ChangesCommand(Command):
    """A UID FETCH with CHANGEDSINCE: who is in the answer is not known before, so it is none of `net.arrivals`.

    Attributes:
        error: Why an answer could not be read, or None.
        unread: What is too long to be read as it comes.
    """

    __slots__ = ("_gatherer", "_vanished", "error", "unread")

    _gatherer: FlagGatherer
    _vanished: list[UidSet]
    error: ProtocolError | None
    unread: list[tuple[bytes, tuple[Literal, ...]]]

    def begin(self, gatherer: FlagGatherer, vanished: list[UidSet]) -> None:
        """Say where to put what is told."""
        self._gatherer = gatherer
        self._vanished = vanished
        self.error = None
        self.unread = []

    def receive(self, text: bytes, literals: tuple[Literal, ...]) -> None:
        """Take what an answer says, and let go of its text, unless reading it takes its time."""
        if len(text) > LONG_BYTES:
            self.unread.append((text, literals))
        else:
            self._read(text, literals)

    def read_rest(self) -> None:
        """Read what was too long; in a thread."""
        for text, literals in self.unread:
            self._read(text, literals)
        self.unread.clear()

    def _read(self, text: bytes, literals: tuple[Literal, ...]) -> None:
        try:
            response = parse_response(text, literals)
            if isinstance(response, FetchScan) and response.uid is not None and "FLAGS" in response.items:
                self._gatherer.add(response.uid, parse_flags(text, response.items["FLAGS"]))
            elif isinstance(response, Vanished):
                self._vanished.append(response.uids)
        except ProtocolError as error:
            self.error = error


async def fetch_changed_flags(connection: Connection, since: int, *, vanished: bool) -> ChangedFlags:
    """Ask what has changed in the open mailbox.

    Args:
        connection: Where; the server must offer CONDSTORE.
        since: The mod-sequence.
        vanished: Ask also what was expunged; QRESYNC must be enabled.

    Raises:
        CommandNo, CommandBad, Throttled: The server refused.
        ConnectionLost, CommandTimeout, ServerBye: The connection ended.
        ProtocolError: An answer cannot be read, or the server limits it and names no UID to go on below.

    Cancelling it ends the connection.
    """
    gatherer = FlagGatherer()
    gone: list[UidSet] = []
    with_uid = "UIDONLY" not in connection.session.enabled
    highest = MAX_UID
    selected = connection.selected
    term = Term(selected.exists if selected is not None else 0)
    while highest:
        term.check()
        uids = UidSet.from_ranges([(1, highest)])
        request = uid_fetch(uids, _FLAGS, with_uid=with_uid, changed_since=since, vanished=vanished)
        command = _ChangesCommand.of(request)
        command.begin(gatherer, gone)
        tagged = await connection.execute(command)
        if command.unread:
            await asyncio.to_thread(command.read_rest)
        if command.error is not None:
            raise command.error
        limit = tagged.code.message_limit if tagged.code is not None else None
        if limit is None:
            break
        if limit.uid is None or limit.uid > highest:
            raise ProtocolError("the server limits a FETCH and names no lower UID to go on with")
        highest = limit.uid - 1
    many = sum([uids.range_count for uids in gone]) > MANY_RANGES
    return ChangedFlags(gatherer.table(), await asyncio.to_thread(UidSet.union, gone) if many else UidSet.union(gone))
