"""What the tests of the seed's rows share: handlers, and what the server's log says of traffic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

import imapipe
from imapipe.testing import CommandRecord, Server
from imapipe.wire.uid_set import UidSet


async def ignore(message: imapipe.Message) -> None:
    """A handler that does nothing."""


def fetches(server: Server, connection: int | None = None) -> list[CommandRecord]:
    """The UID FETCHes in the order in which they came."""
    return server.commands.named("UID FETCH", connection=connection)


def sizes(server: Server, connection: int | None = None) -> list[int]:
    """How many messages each of them asked for."""
    return [len(UidSet.parse(record.message_set)) for record in fetches(server, connection)]


def asked(server: Server) -> list[str]:
    """Their UID sets."""
    return [record.message_set for record in fetches(server)]


def arrivals(records: Iterable[CommandRecord]) -> list[float]:
    """When commands came, in seconds since the first of them."""
    times = [record.received_at for record in records]
    return [round(time - times[0], 6) for time in times]


def most_in_any(seconds: float, times: Sequence[float], amounts: Sequence[int] | None = None) -> int:
    """The most that came within any window of so many seconds."""
    counts = amounts if amounts is not None else [1] * len(times)
    return max(
        sum(amount for time, amount in zip(times, counts, strict=True) if start <= time < start + seconds)
        for start in times
    )


def most_in_flight(records: Sequence[CommandRecord]) -> int:
    """How many commands were received and not yet answered, at most."""
    steps = [(record.received_at, 1) for record in records]
    # An answer and the next command in the same moment were not in flight together.
    steps += [(record.finished_at, -1) for record in records if record.finished_at is not None]
    return max(accumulate(step for _, step in sorted(steps)))
