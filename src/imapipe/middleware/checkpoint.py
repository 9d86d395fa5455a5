"""Checkpoint: a run that goes on where the last one stopped, however that ended.

`Checkpoint` holds what its user chose and where checkpoints are kept; what it knows of a run is in that run's
`CheckpointLayer`. So one Checkpoint serves any number of runs at the same time, each with a `JobKey` of its own.

Invariants:

- A run begins with a state only while its UIDs mean the same messages: same UIDVALIDITY, and UIDNEXT never lower than
  what was seen before.
- A start that fails or is cancelled holds nothing.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Final, Literal

from imapipe.errors import CheckpointError, CheckpointMismatch
from imapipe.middleware.base import Limit, Middleware, Run
from imapipe.middleware.checkpoint_layer import CheckpointLayer, Loss, Sharing
from imapipe.middleware.retry import Retry
from imapipe.models.cursor import Cursor, reissued
from imapipe.runtime.completion import to_the_end
from imapipe.store.base import BlockingCheckpointStore, CheckpointHolding, CheckpointStore
from imapipe.store.checkpoint_state import CheckpointState
from imapipe.store.job_key import JobKey
from imapipe.store.json_store import JsonCheckpointStore
from imapipe.store.threaded import as_async
from imapipe.wire.uid_set import UidSet

# Failures that say nothing of the message: names of exception classes, and response codes (RFC 5530 and Gmail's).
OUTAGES: Final = frozenset(
    {
        "ConnectionFailed",
        "ConnectionLost",
        "CommandTimeout",
        "PoolTimeout",
        "PoolClosed",
        "ServerBye",
        "Throttled",
        "INUSE",
        "LIMIT",
        "OVERQUOTA",
        "THROTTLED",
        "UNAVAILABLE",
    }
)


class Checkpoint(Middleware):
    """Keeps what was done, and takes it out of the plan of the next run.

    Args:
        store: Where it is kept. A path is short for `JsonCheckpointStore(path)`; a store of your own may be async
            (`CheckpointStore`) or block (`BlockingCheckpointStore`), in which case a thread waits for it.
        name: A name for the job. Jobs of different names do not know of each other, in one store too; under a name
            the checkpoint is the same whatever is searched and fetched.
        shard: Names a part of the mailbox that is worked on by itself.
        save_every_seconds: How old what is not yet durable may get.
        save_every_messages: How many messages a killed process may have to repeat, beside those in hand.
        retry_failed: Whether messages are tried again that failed in an earlier run; or the reasons for which they are.
            The others fail again, untried. Where an outage was the reason, they are tried again in any case.
        on_uidvalidity: What to do where UIDVALIDITY changed or UIDNEXT fell: `"raise"`, or `"restart"` from nothing.
        on_mismatch: What to do where the checkpoint belongs to another search or fetch: `"raise"`, or `"accept"`
            what it has as done.
        when_complete: What to do with it when everything is done: `"keep"` or `"delete"`.

    Attributes:
        store: Where it is kept, as it was given.
        name: The name of the job.
        shard: The part of the mailbox.
    """

    not_inside = (Retry, Limit)

    def __init__(
        self,
        store: CheckpointStore | BlockingCheckpointStore | str | os.PathLike[str],
        *,
        name: str = "",
        shard: str = "",
        save_every_seconds: float = 0.5,
        save_every_messages: int = 500,
        retry_failed: bool | Collection[str] = True,
        on_uidvalidity: Literal["raise", "restart"] = "raise",
        on_mismatch: Literal["raise", "accept"] = "raise",
        when_complete: Literal["keep", "delete"] = "keep",
    ) -> None:
        if save_every_seconds <= 0:
            raise ValueError("save_every_seconds must be above 0")
        if save_every_messages < 1:
            raise ValueError("save_every_messages must be at least 1")
        if isinstance(retry_failed, str):
            raise ValueError("retry_failed is True, False, or a collection of reasons")
        _check_word("on_uidvalidity", on_uidvalidity, ("raise", "restart"))
        _check_word("on_mismatch", on_mismatch, ("raise", "accept"))
        _check_word("when_complete", when_complete, ("keep", "delete"))
        self.store = JsonCheckpointStore(store) if isinstance(store, str | os.PathLike) else store
        self.name = name
        self.shard = shard
        self._store = as_async(self.store)
        self._path = str(getattr(self.store, "path", ""))
        self._save_every_seconds = save_every_seconds
        self._save_every_messages = save_every_messages
        self._retry_all = retry_failed is True
        self._retried = OUTAGES if isinstance(retry_failed, bool) else OUTAGES.union(retry_failed)
        self._restart = on_uidvalidity == "restart"
        self._accept = on_mismatch == "accept"
        self._delete = when_complete == "delete"
        self._sharing = Sharing()

    async def recall(self, account: str, mailbox: str) -> CheckpointState | None:
        """Read what is kept for a mailbox, outside of a run; another run may be changing it.

        Raises:
            CheckpointError: It cannot be read.
        """
        return await self._store.peek(JobKey(account, mailbox, self.name, self.shard))

    async def recall_all(self, account: str, mailboxes: Iterable[str]) -> dict[str, CheckpointState]:
        """Read what is kept for several mailboxes, as `recall` does; those without anything are left out.

        Raises:
            CheckpointError: It cannot be read.
        """
        keys = [JobKey(account, mailbox, self.name, self.shard) for mailbox in mailboxes]
        return {key.mailbox: state for key, state in (await self._store.peek_all(keys)).items()}

    async def done_before(self, run: Run) -> UidSet:
        """What a run would take out of its plan; another run may be changing it.

        Raises:
            CheckpointError, UidValidityChanged: As `start` does.
        """
        loaded = await self.recall(run.account, run.mailbox)
        return self._begin(run, loaded, await self._cursor_of(run, loaded)).done

    async def start(self, run: Run) -> CheckpointLayer:
        """Take and read the checkpoint of the run's job, and take what is done out of the plan.

        Cancelled, it lets a call of the store end and gives back what was taken.

        Raises:
            CheckpointError: It cannot be read or written; see the classes below it.
            CheckpointMismatch: It belongs to another search or fetch.
            UidValidityChanged: Its UIDs mean other messages now.
        """
        loss = Loss()
        taken: list[CheckpointHolding] = []

        async def take() -> CheckpointHolding:
            taken.append(await self._store.open(JobKey(run.account, run.mailbox, self.name, self.shard), loss))
            return taken[0]

        try:
            holding = await to_the_end(take())
            loaded = await to_the_end(holding.load())
            begun = self._begin(run, loaded, await self._cursor_of(run, loaded))
            layer = CheckpointLayer(
                run, holding, begun, loss, self._sharing, path=self._path, delete_complete=self._delete
            )
            await layer.save()
        except BaseException:
            for holding in taken:
                # What ended the start is told, not this.
                with suppress(CheckpointError):
                    await to_the_end(holding.release())
            raise
        run.plan.skip(begun.done)
        if not self._retry_all:
            self._refuse_failed(run, begun)
        layer.begin(self._save_every_seconds, self._save_every_messages)
        return layer

    def _refuse_failed(self, run: Run, begun: CheckpointState) -> None:
        """Try nothing again that failed in an earlier run, but for some reasons."""
        for reason, uids in begun.failed.items():
            # A reason that is a response code may have an argument, which does not count.
            if self._retried.isdisjoint((reason, reason.partition(" ")[0])):
                run.refuse(uids, reason, "failed in an earlier run and was not tried again")

    @staticmethod
    async def _cursor_of(run: Run, loaded: CheckpointState | None) -> Cursor:
        """How far the mailbox is, to be compared with what is kept."""
        if loaded is not None and loaded.uidvalidity == run.uidvalidity:
            return await run.believable_cursor(loaded.cursor)
        return run.cursor

    def _begin(self, run: Run, loaded: CheckpointState | None, cursor: Cursor) -> CheckpointState:
        """The state with which this run begins."""
        fresh = CheckpointState(
            account=run.account,
            mailbox=run.mailbox,
            name=self.name,
            shard=self.shard,
            uidvalidity=run.uidvalidity,
            fingerprint=run.fingerprint,
            cursor=cursor,
        )
        if loaded is None:
            return fresh
        changed = reissued(
            run.mailbox,
            (loaded.uidvalidity, loaded.cursor),
            (run.uidvalidity, cursor),
            'start again with on_uidvalidity="restart"',
        )
        if changed is not None:
            if self._restart:
                return replace(fresh, extra=loaded.extra)
            raise changed
        if not self.name and loaded.fingerprint != run.fingerprint and not self._accept:
            raise CheckpointMismatch(
                'it belongs to another search or fetch; use another file, name="…", or on_mismatch="accept"',
                path=self._path,
            )
        return replace(loaded, fingerprint=run.fingerprint, cursor=loaded.cursor.advanced(cursor))


def _check_word(name: str, word: str, words: tuple[str, ...]) -> None:
    if word not in words:
        raise ValueError(f"{name} is one of {', '.join(map(repr, words))}, not {word!r}")
