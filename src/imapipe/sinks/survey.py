"""Looking at two accounts, to find which mailbox of one is the place for which mailbox of the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from imapipe.net.connection import Connection
from imapipe.net.pool.pool import ConnectionPool
from imapipe.pipeline.outage import Outage
from imapipe.sinks.folder_map import FolderMap, Side, match_folders
from imapipe.wire.mailbox_name import decode_mailbox_name

OUTAGE_SECONDS: Final = 300.0
"""How long to wait for a server that does not work, unless told otherwise."""


class Target(Protocol):
    """The pool of an account, as `create_pool` makes it."""

    @property
    def account(self) -> str:
        """The account, as user, host and port."""

    @property
    def connections(self) -> ConnectionPool:
        """Its connections."""


async def map_folders(
    source: Target, target: Target, renamed: Mapping[str, str] | None = None, *, outage_seconds: float = OUTAGE_SECONDS
) -> FolderMap:
    r"""Find the places in one account for the mailboxes of another; nothing is made.

    INBOX is INBOX, and a mailbox for a special use (RFC 6154) goes into the one for that use: `Sent` with `\Sent` into
    `Gesendet` with `\Sent`. Other names keep their levels, with the prefix and the delimiter of the target.

    Args:
        source: The pool of the account where the messages are.
        target: The pool of the other one.
        renamed: Places that are decided, by the name of the mailbox.
        outage_seconds: How long to wait for a server that does not work.

    Returns:
        What `sinks.Account` takes as `folders`.

    Raises:
        ImapipeError: One of them could not be asked.
    """
    here = await _survey(source, outage_seconds)
    return match_folders(here, await _survey(target, outage_seconds), renamed)


async def _survey(account: Target, outage_seconds: float) -> Side:
    async def ask(connection: Connection) -> Side:
        entries = await connection.list()
        if connection.ways.may("LIST-EXTENDED"):
            subscribed = frozenset(str(entry.name) for entry in entries if entry.is_subscribed)
        else:
            subscribed = await connection.subscribed()
        namespace = await connection.namespace()
        personal = namespace.personal[0] if namespace is not None and namespace.personal else None
        others = (*namespace.other, *namespace.shared) if namespace is not None else ()
        levels = next((entry.delimiter for entry in entries if entry.delimiter), "/")
        return Side(
            entries=entries,
            prefix=decode_mailbox_name(personal.prefix) if personal is not None else "",
            delimiter=(personal.delimiter if personal is not None else None) or levels,
            subscribed=subscribed,
            # Where somebody else's names begin with nothing, nobody can tell them apart.
            foreign=[decode_mailbox_name(each.prefix) for each in others if each.prefix],
            is_gmail=connection.offers("X-GM-EXT-1"),
        )

    return await Outage(outage_seconds, account.connections.events).around(lambda: account.connections.perform(ask))
