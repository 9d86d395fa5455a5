"""One small value of each of many messages, fetched outside of the batches of a run."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Final, TypeVar

from imapipe.errors import CommandTimeout, ConnectionLost, NotFetched, ProtocolError, ServerBye
from imapipe.models.message import Message
from imapipe.net.connection import Connection, reply_to
from imapipe.net.signals import to_error
from imapipe.runtime.large_sets import beside_the_loop
from imapipe.wire.command.encoder import uid_text_room
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.uid_set import UidSet

_Value = TypeVar("_Value")

_PIECE_MESSAGES: Final = 10_000


async def fetch_values(
    connection: Connection, uids: UidSet, fetch: Fetch, read: Callable[[Message], _Value]
) -> dict[int, _Value]:
    """Fetch messages of the open mailbox and read one value of each; again where the server stopped short and says so.

    Args:
        connection: Where.
        uids: Which.
        fetch: What of them.
        read: Reads the value; a message for which that raises, or that does not come, has none.

    Raises:
        CommandNo, CommandBad, Throttled: The server refused.
        ConnectionLost, CommandTimeout, ProtocolError: The connection ended.

    Cancelling it ends the connection.
    """
    found: dict[int, _Value] = {}
    uids = await beside_the_loop(uids.ranked, uids)
    # In pieces: what is still to be asked for is cut and copied for each command.
    for begin in range(0, len(uids), _PIECE_MESSAGES):
        await _fetch_piece(connection, uids[begin : begin + _PIECE_MESSAGES], fetch, read, found)
    return found


async def _fetch_piece(
    connection: Connection,
    uids: UidSet,
    fetch: Fetch,
    read: Callable[[Message], _Value],
    found: MutableMapping[int, _Value],
) -> None:
    room = uid_text_room(b"UID FETCH " + fetch.command())

    def keep(messages: list[Message]) -> None:
        for message in messages:
            connection.release(message)
            with suppress(ProtocolError, NotFetched):
                found[message.uid] = read(message)

    while uids:
        part, rest = uids.take_within(len(uids), connection.ways.learned.room(room))
        command = connection.uid_fetch(part, fetch, keep)
        try:
            tagged = await reply_to(connection, command)
        except (ConnectionLost, ServerBye, CommandTimeout) as error:
            if not command.first_byte_at:
                connection.ways.learned.is_too_long(command.line_bytes, error)
            raise
        connection.fetched(command)
        missing = command.missing
        if tagged.status != "OK":
            refusal = to_error(command.name, tagged)
            if not connection.ways.learned.is_too_long(command.line_bytes, refusal):
                raise refusal
            uids = rest | missing
            continue
        limited = tagged.code is not None and tagged.code.name == "MESSAGELIMIT" and len(missing) < len(part)
        uids = rest | missing if limited else rest
