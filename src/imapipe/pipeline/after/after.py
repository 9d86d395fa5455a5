"""`on_done=` and `on_failed=` of a run: the middleware that makes a change of each message after its outcome."""

from __future__ import annotations

from collections.abc import Sequence

from imapipe.middleware.base import KeepsValues, Middleware, Run
from imapipe.net.pool.pool import ConnectionPool
from imapipe.pipeline.after.duty import LEAVES
from imapipe.pipeline.after.layer import AfterLayer
from imapipe.pipeline.after.payment import Place
from imapipe.pipeline.memory import Memory
from imapipe.pipeline.operation.message_change import MessageChange
from imapipe.wire.search_key import SearchKey


class After(Middleware):
    """Gives each run the changes that follow its messages.

    Args:
        pool: The connections of the account.
        changes: By outcome ("done", "failed").
        around: What stands around the changes.
    """

    def __init__(self, pool: ConnectionPool, changes: dict[str, MessageChange], around: Sequence[Middleware]) -> None:
        self._pool = pool
        self._around = around
        self.changes = changes

    async def start(self, run: Run) -> AfterLayer:
        """Refuse what cannot be done, and make what earlier runs left owed. Raises as `AfterLayer.begin` does."""
        keeper = next((layer for layer in run.layers if isinstance(layer, KeepsValues)), None)
        place = Place(self._pool, run.account, run.mailbox, run.uidvalidity, self._around)
        layer = AfterLayer(run, place, keeper)
        await run.aside(lambda: layer.begin(self.changes))
        return layer


def with_changes(
    middleware: Sequence[Middleware],
    pool: ConnectionPool,
    search: SearchKey,
    *,
    on_done: MessageChange | None,
    on_failed: MessageChange | None,
) -> tuple[Middleware, ...]:
    """The middleware of a job, with the changes that follow its messages: inside of what keeps outcomes.

    Raises:
        TypeError: What is no change.
        ValueError: Messages would leave a mailbox whose messages are named by their place in it.
    """
    changes: dict[str, MessageChange] = {}
    for name, change in (("on_done", on_done), ("on_failed", on_failed)):
        if change is None:
            continue
        if not isinstance(change, MessageChange):
            raise TypeError(f'{name}= takes a change such as imapipe.move_to("Processed"), not {change!r}')
        if change.kind in LEAVES and search.uses_sequence:
            raise ValueError(
                f"{name}= takes messages out of the mailbox, and the search names them by their place in it: "
                "search for UIDs, or for what they are"
            )
        changes[name.removeprefix("on_")] = change
    if not changes:
        return tuple(middleware)
    around = [one for one in middleware if one.stands_around_changes]
    place = next((number for number, one in enumerate(middleware, 1) if isinstance(one, Memory)), 0)
    return (*middleware[:place], After(pool, changes, around), *middleware[place:])


def after_of(middleware: Sequence[Middleware]) -> After | None:
    """The changes that follow the messages of a job, if there are any."""
    return next((one for one in middleware if isinstance(one, After)), None)
