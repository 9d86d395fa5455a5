"""Messages found again where a server has renumbered their mailbox, so that none is fetched twice.

Invariants:

- The identity of a message is kept before the message can be done.
- The identities of the old numbering are forgotten only after the state of the new one is safe, and after a run had
  begun with it: until then each run tells its sink which message has which UID now.
- What cannot be told apart is not taken for done: it is fetched again.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import Final

from imapipe.journal.owed import kept, read_owed
from imapipe.middleware.base import Run
from imapipe.models.identity import Renumbered
from imapipe.models.json_value import JSON
from imapipe.runtime.completion import to_the_end
from imapipe.store.checkpoint_state import CheckpointState
from imapipe.store.identity_book import IdentityBook
from imapipe.wire.uid_set import UidSet

_AT_A_TIME: Final = 10_000
# Where a state says what the numbering before was, and whether a run has begun since.
_BEFORE: Final = "numbered_before"


class Renumbering:
    """Finds messages again for one Checkpoint.

    Args:
        path: The file of identities, beside that of the checkpoint.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._book = IdentityBook(path)

    async def carry_over(self, run: Run, old: CheckpointState, fresh: CheckpointState) -> CheckpointState:
        """The state with which the new numbering begins: what was done and is owed, under the UIDs that it has now.

        Raises:
            CheckpointError: The identities cannot be kept.
            ImapipeError: The server could not be asked.
        """
        await self._learn(run, fresh.series, run.plan.planned)
        return await to_the_end(asyncio.to_thread(self._renumbered, old, fresh))

    def _renumbered(self, old: CheckpointState, fresh: CheckpointState) -> CheckpointState:
        pairs = dict(self._book.pairs(old.series, fresh.series))

        def now(uids: UidSet) -> UidSet:
            return UidSet.from_numbers([new for before, new in pairs.items() if before in uids])

        failed = {reason: found for reason, uids in old.failed.items() if (found := now(uids))}
        done = now(old.done)
        # Where no run had begun since the time before, that is what sinks still have.
        before = _before(old) or {"series": old.series, "uidvalidity": old.uidvalidity}
        owed = [
            now for each in read_owed(old.extra) for now in each.renumbered(old.uidvalidity, fresh.uidvalidity, pairs)
        ]
        extra = {**fresh.extra, **kept(owed), _BEFORE: before}
        return replace(fresh, done=done, failed=failed, cursor=fresh.cursor.met(done), extra=extra)

    async def recall(self, state: CheckpointState) -> tuple[CheckpointState, Renumbered | None]:
        """What a sink is to be told of the numbering before, and the state without what is told already.

        Raises:
            CheckpointError: The identities cannot be read or forgotten.
        """
        before = _before(state)
        if before is not None:
            series, uidvalidity = str(before["series"]), int(str(before["uidvalidity"]))
            pairs = await to_the_end(asyncio.to_thread(lambda: dict(self._book.pairs(series, state.series))))
            return state, Renumbered(state.series, uidvalidity, pairs)
        told = state.extra.get(_BEFORE)
        if isinstance(told, dict):
            await self.forget(str(told["series"]))
            state = replace(state, extra={name: value for name, value in state.extra.items() if name != _BEFORE})
        return state, None

    async def learn(self, run: Run, state: CheckpointState) -> None:
        """Keep what tells the messages of a run apart, and those that are done; raises as `carry_over` does."""
        planned = run.plan.planned

        def find_unknown() -> UidSet:
            return ((planned | state.done) - self._book.uids(state.series)).ranked()

        await self._learn(run, state.series, await to_the_end(asyncio.to_thread(find_unknown)))

    async def forget(self, series: str) -> None:
        """A numbering has ended. Raises CheckpointError."""
        await to_the_end(asyncio.to_thread(self._book.forget, series))

    async def _learn(self, run: Run, series: str, uids: UidSet) -> None:
        for begin in range(0, len(uids), _AT_A_TIME):
            some = uids[begin : begin + _AT_A_TIME]
            found = await run.identities(some)
            await to_the_end(asyncio.to_thread(self._book.add, series, some, found))


def begun_anew(old: CheckpointState, fresh: CheckpointState) -> CheckpointState:
    """The state with which a new numbering begins where nothing is found again: what was owed is lost, and told."""
    owed = (each.lost(each.uids) for each in read_owed(old.extra))
    extra = {**old.extra, **kept(owed)}
    return replace(fresh, extra={name: value for name, value in extra.items() if value is not None})


def told(state: CheckpointState) -> CheckpointState:
    """The same after a run had begun with it."""
    before = _before(state)
    return state if before is None else replace(state, extra={**state.extra, _BEFORE: {**before, "told": True}})


def _before(state: CheckpointState) -> dict[str, JSON] | None:
    before = state.extra.get(_BEFORE)
    return before if isinstance(before, dict) and not before.get("told") else None
