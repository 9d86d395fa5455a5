"""The mailbox of the target: found by one of its names, or made; and what is known of it before anything is sent."""

from __future__ import annotations

import logging
from collections.abc import Container
from functools import partial
from typing import NamedTuple

from imapipe.errors import CommandBad, CommandNo
from imapipe.net.connection import Connection, status_apart
from imapipe.net.pool.pool import ConnectionPool
from imapipe.sinks.folder_map import Folder
from imapipe.wire.response.code import AppendUid
from imapipe.wire.uid_set import MAX_UID

_log = logging.getLogger(__name__)


class TargetMailbox(NamedTuple):
    """A mailbox of the target, which is there.

    Attributes:
        name: Its name.
        uidvalidity: Its UIDVALIDITY.
        last_uid: The highest UID that it may hold.
        keeps_one: Of several messages that are the same it keeps one (Gmail).
    """

    name: str
    uidvalidity: int = 0
    last_uid: int = 0
    keeps_one: bool = False


def where_told(answer: AppendUid | None, there: TargetMailbox, count: int, taken: Container[int]) -> list[int]:
    """The UIDs that messages got, as APPENDUID tells them; 0 each where it does not, or says what cannot be.

    Args:
        answer: What the server says.
        there: The mailbox, as it was before.
        count: How many messages were sent.
        taken: UIDs of copies that are known.
    """
    if answer is None or answer.uidvalidity != there.uidvalidity or len(answer.uids) != count:
        return [0] * count
    uids = list(answer.uids)
    is_new = there.last_uid < uids[0] and uids[-1] < MAX_UID and not any(uid in taken for uid in uids)
    return uids if is_new or there.keeps_one else [0] * count


async def open_target(connections: ConnectionPool, folder: Folder) -> TargetMailbox:
    """Find the mailbox of the target, or make it; and subscribe to it where that is wished.

    May be called again when the connection was lost.

    Raises:
        CommandNo: It is not there, and cannot be made.
        ImapipeError: The server is gone.
    """
    is_new = False
    for name in filter(None, (folder.name, folder.plain_name)):
        try:
            found = await connections.perform(partial(_look_at, name))
            break
        except CommandNo:
            continue
    else:
        is_new = True
        made = await connections.perform(partial(_make, folder))
        found = await connections.perform(partial(_look_at, made))
    if folder.subscribe or (is_new and folder.subscribe is None):
        await connections.perform(partial(_subscribe, found.name))
    return found


async def _look_at(name: str, connection: Connection) -> TargetMailbox:
    status = await status_apart(connection, name, ("UIDVALIDITY", "UIDNEXT"))
    last_uid = max((status.uidnext or 1) - 1, 0)
    return TargetMailbox(name, status.uidvalidity or 0, last_uid, connection.offers("X-GM-EXT-1"))


async def _make(folder: Folder, connection: Connection) -> str:
    """Make the mailbox; gives the name that it got."""
    name, plain_name, use = folder.name, folder.plain_name, folder.special_use
    try:
        if use and connection.offers("CREATE-SPECIAL-USE"):
            try:
                await connection.create(name, special_use=use)
            except (CommandNo, CommandBad) as error:
                _log.info("%s is made without %s: %s", name, use, error)
            else:
                return name
        await connection.create(name)
    except CommandNo as error:
        if error.code.upper() == "ALREADYEXISTS":
            return name
        if not plain_name:
            raise
        _log.info("%s becomes %s: %s", name, plain_name, error)
        await connection.create(plain_name)
        return plain_name
    return name


async def _subscribe(name: str, connection: Connection) -> None:
    try:
        await connection.subscribe(name)
    except CommandNo as error:
        _log.warning("%s is not subscribed to: %s", name, error)
