"""Asking an account for its mailboxes, and choosing those that a job is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from imapipe.account.selection import choose, choose_all_mail, unknown_names
from imapipe.errors import CommandNo, ProtocolError
from imapipe.models.mailbox import MailboxEntry
from imapipe.net.connection import Connection
from imapipe.net.pool.pool import ConnectionPool
from imapipe.pipeline.outage import Outage

STATUS_ITEMS: Final = ("MESSAGES", "UIDNEXT", "UIDVALIDITY", "HIGHESTMODSEQ", "MAILBOXID")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which mailboxes a job is for.

    Attributes:
        wanted: Names, patterns and special uses, in order.
        excluded: Those that are left out.
        subscribed: Only subscribed ones.
        all_mail: At Gmail, where everything is wanted: All Mail once, with labels, instead of every label's copy.
    """

    wanted: tuple[str, ...]
    excluded: tuple[str, ...] = ()
    subscribed: bool = False
    all_mail: bool = True


@dataclass(frozen=True, slots=True)
class Chosen:
    """The mailboxes of an account that a job is for.

    Attributes:
        entries: With their STATUS.
        with_labels: Whether they hold each message once, and its labels tell the rest.
        unknown: Errors of names that no mailbox has: what was asked for by name is not silently left out.
    """

    entries: Sequence[MailboxEntry]
    with_labels: bool = False
    unknown: Mapping[str, Exception] = field(default_factory=dict)


async def choose_mailboxes(pool: ConnectionPool, choice: Choice, *, outage_seconds: float = 0.0) -> Chosen:
    """The mailboxes of the account of a pool that are chosen, with their STATUS.

    Args:
        pool: The connections of the account.
        choice: Which ones.
        outage_seconds: How long to wait for a server that does not work.

    Raises:
        ImapipeError: They could not be listed.
    """

    async def ask(connection: Connection) -> tuple[list[MailboxEntry], bool]:
        return await connection.list("*", status_items=STATUS_ITEMS), connection.offers("X-GM-EXT-1")

    entries, is_gmail = await Outage(outage_seconds, pool.events).around(lambda: pool.perform(ask))
    if not entries:
        # Taken for the truth, all of the account would be done, or gone.
        raise ProtocolError("the server lists no mailbox, not even INBOX, which every account has")
    if choice.subscribed:
        entries = [entry for entry in entries if entry.is_subscribed or entry.name == "INBOX"]
    if is_gmail and choice.all_mail and choice.wanted == ("*",):
        once = choose_all_mail(entries, choice.excluded)
        if once:
            return Chosen(once, with_labels=True)
    unknown = {
        name: CommandNo("LIST", "NONEXISTENT", f"the account has no mailbox {name!r}")
        for name in unknown_names(entries, choice.wanted)
    }
    return Chosen(choose(entries, choice.wanted, choice.excluded), unknown=unknown)
