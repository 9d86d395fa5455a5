"""What tells messages apart whatever UIDs they have, asked for ahead of a run that may have to find them again."""

from __future__ import annotations

import hashlib

from imapipe.errors import NotFetched, ProtocolError
from imapipe.models.identity import Identity
from imapipe.models.message import Message
from imapipe.net.connection import Connection
from imapipe.pipeline.access import MailboxAccess
from imapipe.pipeline.source.values import fetch_values
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.uid_set import UidSet

_FIELDS = ("Message-ID", "Date")
_DIGEST_BYTES = 12


async def find_identities(access: MailboxAccess, uids: UidSet, connection: Connection) -> dict[int, Identity]:
    """The identities of messages of a run's mailbox, about 150 bytes for each; of those that are there.

    Raises:
        CommandNo, CommandBad, Throttled: The server refused.
        UidValidityChanged: The UIDs of the run mean other messages now.
        ConnectionLost, CommandTimeout, ProtocolError: The connection ended.

    Cancelling it ends the connection.
    """
    await access.reopen(connection)
    more = ("email_id",) if connection.offers("OBJECTID") else ()
    return await fetch_values(connection, uids, Fetch("size", *more, header_fields=_FIELDS), identity_of)


def identity_of(message: Message) -> Identity:
    """What tells a message apart, as far as it was fetched: Message-ID, Date, size, EMAILID."""
    try:
        email = _digest(message.email_id.encode())
    except (NotFetched, ProtocolError):
        email = None
    try:
        # Servers fold lines in their own ways.
        sent = [b" ".join(message.headers.get_raw(name).split()) for name in _FIELDS]
        content = _digest(b"\n".join((*sent, b"%d" % message.size))) if sent[0] else None
    except (NotFetched, ProtocolError):
        content = None
    return Identity(email, content)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
