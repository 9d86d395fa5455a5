"""Ages in seconds (OLDER, YOUNGER) where the server does not know WITHIN (RFC 5032), or refuses it.

Dates are known everywhere, but have no time, and the zone of each message: a message of the day before the moment or
of the day after it may be on either side. So those few days are fetched (INTERNALDATE), and named by their UIDs.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

from imapipe.net.connection import Connection
from imapipe.pipeline.source.values import fetch_values
from imapipe.search import before, since, uid
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.search_key import SearchKey
from imapipe.wire.search_term import Term
from imapipe.wire.uid_set import UidSet

_AGES = ("OLDER", "YOUNGER")


async def without_within(connection: Connection, key: SearchKey, now: datetime) -> SearchKey:
    """A search that finds the same now in the open mailbox, and needs no WITHIN.

    A message whose date the server does not tell counts as both.

    Args:
        connection: With the mailbox selected.
        key: The search.
        now: The moment from which ages count, with a zone of UTC.

    Raises:
        CommandNo, CommandBad, Throttled: The server refused.
        ConnectionLost, CommandTimeout, ProtocolError: The connection ended.
    """
    replaced: dict[Term, SearchKey] = {}
    for term in key.terms:
        if term.name in _AGES and term not in replaced:
            seconds = term.arguments[0]
            assert isinstance(seconds, int)
            replaced[term] = await _by_dates(
                connection, now - timedelta(seconds=seconds), is_older=term.name == "OLDER"
            )
    return key.replaced(replaced)


async def _by_dates(connection: Connection, moment: datetime, *, is_older: bool) -> SearchKey:
    begin, end = moment.date() - timedelta(days=1), moment.date() + timedelta(days=2)
    edge = (await connection.uid_search((since(begin) & before(end)).program(today=date.min))).uids
    dates = await fetch_values(connection, edge, Fetch("internal_date"), lambda message: message.internal_date)
    chosen = []
    for number in edge:
        told = dates.get(number)
        if told is None or (told <= moment if is_older else told >= moment):
            chosen.append(number)
    beyond = before(begin) if is_older else since(end)
    return beyond | uid(UidSet.from_numbers(chosen)) if chosen else beyond
