"""The mailbox of the target: found by one of its names, or made; and what is known of it before anything is sent."""

from __future__ import annotations

import logging
from functools import partial
from typing import NamedTuple

from imapipe.errors import CommandBad, CommandNo
from imapipe.net.connection import Connection, status_apart
from imapipe.net.pool.pool import ConnectionPool
from imapipe.sinks.folder_map import Folder

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
    uidvalidity: int
    last_uid: int
    keeps_one: bool


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
