"""Fetching the text of one batch: the structures first, then only the parts that are text, described by them.

Messages whose text is in the same sections go into one FETCH, and the FETCHes of all of them are sent at once.

Invariants:

- A message is delivered once, with the items of both answers; without text parts, after the first.
- A message whose structure is missing, cannot be read, or names more sections than fit into a command is fetched whole,
  and so is one whose sections are refused, or come as nothing though they should hold something: no message is lost
  over its structure, and none that was expunged meanwhile is delivered without its text.
- What of a batch waits for its text takes no more memory than a connection may hold half of: what is beyond that is
  asked for again, once there is room.
"""

from __future__ import annotations

import asyncio
from functools import reduce
from operator import or_
from typing import NamedTuple

from imapipe.errors import CommandBad, CommandNo, ImapipeError, NotFetched, ProtocolError
from imapipe.models.batch import Batch, Failure
from imapipe.models.message import Message
from imapipe.net.connection import Connection
from imapipe.pipeline.operation.base import Observe, Work, Workbench
from imapipe.pipeline.operation.fetch import Fetching
from imapipe.wire.command.encoder import uid_text_room
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.uid_set import UidSet

OUTLINE = Fetch("structure")
# With its size, by which a message is known that a server has made up for one that is gone.
_WHOLE = Fetch("size", section="")
_MAX_SECTIONS_BYTES = 1000

Sections = tuple[str, ...] | None
"""What is asked for of a message; None is all of it."""


class FetchText(NamedTuple):
    """Fetch the text of the messages, and what describes them and their attachments (an `Operation`).

    Attributes:
        first: What is asked for first, with BODYSTRUCTURE in it.
        max_text_bytes: At most so many bytes of each part, as it is encoded; None is all of it.
        prefer_plain: No HTML of messages that have plain text.
    """

    first: Fetch = OUTLINE
    max_text_bytes: int | None = None
    prefer_plain: bool = False

    @property
    def opens(self) -> bool:
        """See `Operation`."""
        return True

    @property
    def writes(self) -> bool:
        """See `Operation`."""
        return self.first.mark_seen

    @property
    def needs(self) -> frozenset[str]:
        """See `Operation`."""
        return self.first.needs

    @property
    def items(self) -> frozenset[str]:
        """See `Operation`."""
        return frozenset((*self.first.names, "TEXT"))

    @property
    def max_uid_text_bytes(self) -> int:
        """See `Operation`."""
        return min(uid_text_room(b"UID FETCH " + self.first.command()), uid_text_room(b"x" * _MAX_SECTIONS_BYTES))

    @property
    def asks_ahead(self) -> None:
        """See `Operation`."""

    def describe(self) -> str:
        """See `Operation`."""
        bound = "" if self.max_text_bytes is None else f" {self.max_text_bytes}"
        return f"FETCH {self.first.describe()} {'PLAIN' if self.prefer_plain else 'TEXT'}{bound}"

    def begin(self, batch: Batch, bench: Workbench, observe: Observe) -> Work:
        """See `Operation`."""
        return TextFetching(self, batch, bench, observe)


class TextFetching(Fetching):
    """The work of fetching the text of one batch (a `Work`)."""

    __slots__ = ("_again", "_groups", "_operation")

    def __init__(self, operation: FetchText, batch: Batch, bench: Workbench, observe: Observe) -> None:
        super().__init__(operation.first, operation.max_uid_text_bytes, batch, bench, observe)
        self._operation = operation
        self._groups: dict[Sections, list[int]] = {}
        self._again: list[int] = []

    async def _fetch_all(self, connection: Connection) -> None:
        """Ask for structures, then for the text of those that could be kept, until nothing is left."""
        todo = self._todo
        while todo:
            self._groups, self._again = {}, []
            await self._fetch_outlines(connection, todo)
            await self._fetch_sections(connection)
            # What vanished between the two.
            self._flight.drop_parked()
            todo = UidSet.from_numbers(self._again)

    async def _fetch_outlines(self, connection: Connection, uids: UidSet) -> None:
        def refuse(failure: Failure) -> None:
            self._want(None, failure.uid)

        try:
            await self._fetch_each(
                connection, uids, self._fetch, lambda messages: self._sort(connection, messages), refuse
            )
        except (CommandNo, CommandBad):
            if len(uids) > 1:
                raise
            # It may be this structure that the server cannot tell.
            self._want(None, *uids)

    def _sort(self, connection: Connection, messages: list[Message]) -> None:
        """Put messages to those of which the same is to be asked for, and deliver those that have no text."""
        whole: list[Message] = []
        for message in messages:
            sections = _sections_of(message, prefer_plain=self._operation.prefer_plain)
            if sections == ():
                whole.append(message)
            elif self._flight.park(message):
                self._want(sections, message.uid)
            elif message.spooled_size or message.wire_size > connection.max_held_bytes // 2:
                # There will never be room for such a structure.
                self._want(None, message.uid)
            else:
                self._again.append(message.uid)
        if whole:
            self._flight.deliver(whole)

    def _want(self, sections: Sections, *uids: int) -> None:
        self._groups.setdefault(sections, []).extend(uids)

    async def _fetch_sections(self, connection: Connection) -> None:
        """Ask for the sections of all groups at once, then for the whole of messages of which they say nothing.

        Raises the first error, when the others are over.
        """
        while self._groups:
            groups, self._groups = self._groups, {}
            asked = [self._fetch_group(connection, sections, uids) for sections, uids in groups.items()]
            errors = [error for error in await asyncio.gather(*asked, return_exceptions=True) if error is not None]
            if errors:
                # A defect of our own before what a server did.
                raise next((error for error in errors if not isinstance(error, ImapipeError)), errors[0])

    async def _fetch_group(self, connection: Connection, sections: Sections, uids: list[int]) -> None:
        def complete(messages: list[Message]) -> None:
            self._complete(connection, sections, messages)

        def refuse(failure: Failure) -> None:
            if sections is None:
                self._flight.could_not_have(failure)
            else:
                self._want(None, failure.uid)

        try:
            await self._fetch_each(connection, UidSet.from_numbers(uids), self._sections(sections), complete, refuse)
        except (CommandNo, CommandBad):
            if sections is None or len(uids) > 1:
                raise
            # It may be these sections that the server cannot tell.
            self._want(None, *uids)

    def _sections(self, sections: Sections) -> Fetch:
        if sections is None:
            return _WHOLE
        most = self._operation.max_text_bytes
        partial = None if most is None else (0, most)
        return reduce(or_, [Fetch(section=section, partial=partial) for section in sections])

    def _complete(self, connection: Connection, sections: Sections, messages: list[Message]) -> None:
        """Deliver messages whose text is there."""
        whole: list[Message] = []
        for message in messages:
            first = self._flight.parked(message.uid)
            if first is not None and sections is not None and first.doubts_sections(message, sections):
                connection.release(message)
                self._want(None, message.uid)
                continue
            self._flight.take_parked(message.uid)
            whole.append(message if first is None else first.joined(message))
        self._flight.deliver(whole)


def _sections_of(message: Message, *, prefer_plain: bool) -> Sections:
    """Where the text of a message is; None where that cannot be said."""
    try:
        sections = message.text_sections(prefer_plain=prefer_plain)
    except (NotFetched, ProtocolError):
        return None
    fits = sum([len(section) + len(" BODY.PEEK[]<0.4294967295>") for section in sections]) <= _MAX_SECTIONS_BYTES
    return sections if fits else None
