"""Fetching one section of one message, outside of a run.

Invariant: the section is that of the very message: the mailbox is open under the UIDVALIDITY that came with its UID,
and its envelope is the same: another account has other messages under equal numbers, and a server may give a UID twice.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

from imapipe.errors import ConnectionLost, MessageVanished, NotFetched, ProtocolError, UidValidityChanged
from imapipe.models.message import Message
from imapipe.net.connection import Connection
from imapipe.net.signals import to_error
from imapipe.pipeline.source.find import still_there
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.uid_set import UidSet

# By what a message is known again.
_SHOWN = Fetch("envelope")


async def download_section(connection: Connection, message: Message, section: str) -> Message:
    """A message with one more section of it.

    Args:
        connection: Where; its mailbox is opened unless it is open.
        message: What is known of the message.
        section: Such as `1.2`.

    Raises:
        UidValidityChanged: Its UID means another message now.
        MessageVanished: It is there no more, or what has its UID is another message.
        NotFetched: The server says that it has no such section.
        CommandNo, CommandBad, Throttled: The server refused it.
        ConnectionLost, CommandTimeout, ServerBye, ProtocolError: The connection ended, or the answer cannot be read.

    Cancelling it ends the connection.
    """
    selected = connection.selected
    if selected is None or selected.name != message.mailbox:
        selected = await connection.examine(message.mailbox)
    if selected.uidvalidity != message.uidvalidity:
        raise UidValidityChanged(message.mailbox, expected=message.uidvalidity, found=selected.uidvalidity)
    uids = UidSet.from_numbers([message.uid])
    received: list[Message] = []
    command = connection.uid_fetch(uids, _SHOWN | Fetch(section=section), received.extend)
    try:
        tagged = await asyncio.shield(command.finished)
    except asyncio.CancelledError:
        connection.abort(ConnectionLost("a download was cancelled"))
        raise
    connection.fetched(command)
    for answer in received:
        # It is its reader's now, and no more of this connection.
        connection.release(answer)
    known = _identity(message)
    for answer in received:
        if known is not None and _identity(answer) not in (known, None):
            raise MessageVanished(message.mailbox, message.uid)
        if not answer.lacks(section):
            return message.joined(answer)
    if not await still_there(connection, uids, datetime.now().astimezone().date()):
        raise MessageVanished(message.mailbox, message.uid)
    if tagged.status != "OK":
        raise to_error(command.name, tagged)
    if received:
        raise NotFetched(f"section {section}", "the server says that the message has no such part")
    failure = command.malformed.get(message.uid)
    raise ProtocolError(failure.detail if failure is not None else "no answer to a FETCH of a message that is there")


def _identity(message: Message) -> tuple[str, datetime | None, str] | None:
    """What no two messages have in common; None where it is not known."""
    try:
        envelope = message.envelope
    except (NotFetched, ProtocolError):
        return None
    return envelope.message_id, envelope.date, envelope.subject
