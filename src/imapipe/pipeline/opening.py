"""The beginning of a run: its source says which messages it is for, and they are planned. For the end see `closing`."""

from __future__ import annotations

from datetime import date
from functools import partial

from imapipe.net.connection import Connection
from imapipe.pipeline.access import MailboxAccess
from imapipe.pipeline.books import Books
from imapipe.pipeline.memory import memory_of
from imapipe.pipeline.plan import Plan
from imapipe.pipeline.source.base import Found, Question
from imapipe.pipeline.source.tiers import find_tiers
from imapipe.pipeline.specification import Specification
from imapipe.runtime.large_sets import beside_the_loop


async def find_messages(
    connection: Connection,
    specification: Specification,
    access: MailboxAccess,
    *,
    account: str,
    today: date,
    save: bool = False,
) -> Found:
    """Have the source open the mailbox and say which messages there are.

    Args:
        connection: Where to ask.
        specification: What the run is.
        access: The mailbox.
        account: `user@host:port`.
        today: The day from which relative dates count.
        save: See `source.base.Question`.

    Raises:
        CapabilityMissing: The server cannot do what the operation needs.
        ImapipeError: As the source does.
    """
    connection.require(specification.operation.needs)
    question = Question(
        account,
        str(specification.mailbox),
        specification.search,
        today,
        search_store=specification.search_store,
        memory=memory_of(specification.middleware),
        save=save,
        ahead=specification.asks_ahead,
    )
    return await specification.source.find(connection, access, question)


async def make_plan(
    connection: Connection, specification: Specification, found: Found, books: Books, today: date
) -> Plan:
    """Plan what was found, the classes of messages one after the other, and note in the books what was not found.

    Raises:
        ImapipeError: A class cannot be searched for.
    """
    plan = partial(
        Plan,
        await find_tiers(connection, specification.policy.classes, found, today, books.notes),
        newest_first=specification.newest,
        limit=specification.limit,
        max_command_bytes=specification.operation.max_uid_text_bytes,
    )
    made = await beside_the_loop(plan, found.uids)
    books.unaccounted = found.unaccounted
    books.searched(found.notes)
    return made
