"""Fetching one section of one message, outside of a run.

Invariant: the section is that of the very message: the mailbox is open under the UIDVALIDITY that came with its UID,
and its envelope is the same: another account has other messages under equal numbers, and a server may give a UID twice.
"""

from __future__ import annotations

from datetime import datetime

from imapipe.errors import (
    CommandTimeout,
    ConnectionLost,
    MessageVanished,
    NotFetched,
    ProtocolError,
    ServerBye,
    UidValidityChanged,
)
from imapipe.models.message import Message
from imapipe.net.command import FetchCommand
from imapipe.net.connection import Connection, reply_to
from imapipe.net.pool.pool import ConnectionPool
from imapipe.net.signals import to_error
from imapipe.pipeline.operation.remainder import Remainder
from imapipe.pipeline.source.find import still_there
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.response.response import Tagged
from imapipe.wire.uid_set import UidSet

# By what a message is known again.
_SHOWN = Fetch("envelope")


async def download_section(pool: ConnectionPool, message: Message, section: str) -> Message:
    """A message with one more section of it.

    A connection that dies in the middle of it is no end as long as each brings more of it.

    Args:
        pool: The connections of its account.
        message: What is known of the message.
        section: Such as `1.2`.

    Raises:
        UidValidityChanged: Its UID means another message now.
        MessageVanished: It is there no more, or what has its UID is another message.
        NotFetched: The server says that it has no such section.
        CommandNo, CommandBad, Throttled: The server refused it.
        PoolTimeout, AuthenticationFailed, ConnectionFailed: No connection could be had, or it ended without bringing
            anything.
        CommandTimeout, ServerBye, ProtocolError: The connection ended, or the answer cannot be read.

    Cancelling it ends the connection.
    """
    download = _Download(message, section)
    try:
        while True:
            before = download.received
            try:
                return await pool.perform(download.ask, message.mailbox)
            except (ConnectionLost, CommandTimeout, ServerBye):
                if download.received <= before:
                    raise
    finally:
        download.close()


class _Download:
    """One section of one message, on its way.

    Attributes:
        received: How many bytes are there.
    """

    __slots__ = ("_fetch", "_message", "_remainder", "_section", "_whole_only")

    def __init__(self, message: Message, section: str) -> None:
        self._message = message
        self._section = section
        self._fetch = _SHOWN | Fetch(section=section)
        self._remainder: Remainder | None = None
        self._whole_only = False

    @property
    def received(self) -> int:
        return self._remainder.received if self._remainder is not None else 0

    def close(self) -> None:
        """What came of it is of no use any more."""
        if self._remainder is not None:
            self._remainder.discard()
            self._remainder = None

    async def ask(self, connection: Connection) -> Message:
        """Ask for it, or for the rest of it, on a connection; gives the message with it."""
        message = self._message
        selected = connection.selected
        if selected is None or selected.name != message.mailbox:
            selected = await connection.examine(message.mailbox)
        if selected.uidvalidity != message.uidvalidity:
            raise UidValidityChanged(message.mailbox, expected=message.uidvalidity, found=selected.uidvalidity)
        if self._remainder is not None:
            whole = await self._go_on(connection, self._remainder)
            if whole is not None:
                return message.joined(whole)
            # It does not fit, or the server knows no ranges.
            self.close()
            self._whole_only = True
        command, answers, tagged = await self._fetch_once(connection, self._fetch)
        self._compare(answers)
        for answer in answers:
            if not answer.lacks(self._section):
                return message.joined(answer)
        if not await still_there(connection, command.uids, datetime.now().astimezone().date()):
            raise MessageVanished(message.mailbox, message.uid)
        if tagged.status != "OK":
            raise to_error(command.name, tagged)
        if answers:
            raise NotFetched(f"section {self._section}", "the server says that the message has no such part")
        failure = command.malformed.get(message.uid)
        raise ProtocolError(
            failure.detail if failure is not None else "no answer to a FETCH of a message that is there"
        )

    async def _go_on(self, connection: Connection, remainder: Remainder) -> Message | None:
        """Ask for the rest of it; None where all of it is to be asked for."""
        remainder.prepare()
        _, answers, _ = await self._fetch_once(connection, remainder.rest, remainder)
        self._compare(answers)
        for answer in answers:
            whole = remainder.join(answer)
            if whole is not None:
                self._remainder = None
                return whole
        return None

    async def _fetch_once(
        self, connection: Connection, fetch: Fetch, remainder: Remainder | None = None
    ) -> tuple[FetchCommand, list[Message], Tagged]:
        answers: list[Message] = []
        command = connection.uid_fetch(UidSet.from_numbers([self._message.uid]), fetch, answers.extend)
        command.keeps_cut = not self._whole_only
        command.goes_on = remainder.part if remainder is not None else None
        try:
            tagged = await reply_to(connection, command)
        except (ConnectionLost, CommandTimeout, ServerBye):
            if remainder is not None:
                remainder.extend(command.unfinished)
                if remainder.is_wrong:
                    self.close()
                    self._whole_only = True
            elif command.unfinished is not None:
                self._remainder = Remainder(command.unfinished, fetch)
            raise
        connection.fetched(command)
        for answer in answers:
            # It is its reader's now, and no more of this connection.
            connection.release(answer)
        return command, answers, tagged

    def _compare(self, answers: list[Message]) -> None:
        """Raise where the answers are about another message."""
        known = _identity(self._message)
        for answer in answers:
            if known is not None and _identity(answer) not in (known, None):
                raise MessageVanished(self._message.mailbox, self._message.uid)


def _identity(message: Message) -> tuple[str, datetime | None, str] | None:
    """What no two messages have in common; None where it is not known."""
    try:
        envelope = message.envelope
    except (NotFetched, ProtocolError):
        return None
    return envelope.message_id, envelope.date, envelope.subject
