"""One thing done in each of many mailboxes, several at a time: what goes wrong in one leaves the others alone.

Invariants:

- Each name has a result or an error at the end; of many errors the first ones only tell where they came from.
- An error that is about the account, the file of checkpoints or a disk that is full is raised, after the others were
  cancelled.
- A server that cannot be reached is waited for by those who are at work, and then by no other mailbox.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

from imapipe.durable_file import is_disk_full
from imapipe.errors import (
    AuthenticationFailed,
    CheckpointCorrupt,
    CheckpointLocked,
    CheckpointVersion,
    ConnectionFailed,
    ConnectionLost,
    ImapipeError,
    PoolClosed,
    PoolTimeout,
)
from imapipe.pipeline.delivery.tasks import raise_first

# These would end the work on every other mailbox as well.
_OF_THE_ACCOUNT: Final = (AuthenticationFailed, PoolClosed, CheckpointCorrupt, CheckpointLocked, CheckpointVersion)

# A trace holds what its functions had in hand: of a server that refuses ten thousand mailboxes, hundreds of megabytes.
_MOST_TRACED: Final = 20

_Result = TypeVar("_Result")


async def do_each(
    work: Iterable[tuple[str, Callable[[], Awaitable[_Result]]]],
    told: Callable[[str, _Result | Exception], None] | None = None,
    *,
    at_once: int,
) -> tuple[dict[str, _Result], dict[str, Exception]]:
    """Do it all; gives the results and the errors by name, in the order in which they ended.

    Args:
        work: What to do, and the names of mailboxes.
        told: Called with each of them when it has ended; what it raises ends all.
        at_once: How many at a time.

    Raises:
        AuthenticationFailed, PoolClosed, CheckpointError: The account or the file of checkpoints cannot be used.
        SinkError, CheckpointError: There is no room on the disk.
    """
    waiting = deque(work)
    results: dict[str, _Result] = {}
    errors: dict[str, Exception] = {}
    out_of_reach: list[ImapipeError] = []

    def failed(name: str, error: ImapipeError) -> None:
        errors[name] = error
        if told is not None:
            told(name, error)
        if len(errors) > _MOST_TRACED:
            _forget_trace(error)

    async def do_one(name: str, one: Callable[[], Awaitable[_Result]]) -> None:
        try:
            result = await one()
        except _OF_THE_ACCOUNT:
            raise
        except ImapipeError as error:
            if is_disk_full(error):
                raise
            if _is_out_of_reach(error):
                # It was waited for as long as was wanted: no other mailbox waits as long again.
                out_of_reach.append(error)
            failed(name, error)
        else:
            results[name] = result
            if told is not None:
                told(name, result)

    async def go_on() -> None:
        while waiting and not out_of_reach:
            await do_one(*waiting.popleft())

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(go_on(), name="imapipe account")
    except BaseExceptionGroup as group_of_errors:
        raise_first(group_of_errors)
    for name, _ in waiting:
        failed(name, out_of_reach[0])
    return results, errors


def _forget_trace(error: BaseException) -> None:
    """Let an error, and what it came of, hold nothing but what it says."""
    cause: BaseException | None = error
    while cause is not None:
        cause.__traceback__ = None
        cause = cause.__cause__ or cause.__context__


def _is_out_of_reach(error: ImapipeError) -> bool:
    """Whether no connection could be made; one that ended may have ended at its mailbox."""
    if isinstance(error, PoolTimeout):
        return error.__cause__ is not None
    return isinstance(error, ConnectionFailed) and (not isinstance(error, ConnectionLost) or bool(error.host))
