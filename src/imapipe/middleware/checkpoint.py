"""Checkpoint: a run that goes on where the last one stopped, however that ended.

`Checkpoint` holds what its user chose and where checkpoints are kept; what it knows of a run is in that run's
`CheckpointLayer`. So one Checkpoint serves any number of runs at the same time, each with a `JobKey` of its own.

Invariants:

- A run begins with a state only while its UIDs mean the same messages: same UIDVALIDITY, and UIDNEXT never lower than
  what was seen before.
- A start that fails or is cancelled holds nothing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final, Literal

from imapipe.errors import CheckpointError, CheckpointMismatch
from imapipe.middleware.base import Limit, Middleware, Run
from imapipe.middleware.checkpoint_layer import CheckpointLayer, Sharing
from imapipe.middleware.loss import Loss
from imapipe.middleware.renumbering import Renumbering, begun_anew
from imapipe.middleware.retry import Retry
from imapipe.models.argument import check_number, check_whole
from imapipe.models.cursor import reissued
from imapipe.models.document import printable
from imapipe.runtime.completion import to_the_end
from imapipe.store.base import (
    BlockingCheckpointStore,
    CheckpointHolding,
    CheckpointStore,
    Foresees,
    KeepsOpen,
    ListsKeys,
)
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
        on_uidvalidity: What to do where UIDVALIDITY changed or UIDNEXT fell: `"raise"`; `"restart"` from nothing; or
            `"match"`: what is found again, by EMAILID or by Message-ID, Date and size, is done. For that, these are
            asked for ahead of each run (some 150 bytes for each message that is new), and kept in `PATH.identities`.
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
        on_uidvalidity: Literal["raise", "restart", "match"] = "raise",
        on_mismatch: Literal["raise", "accept"] = "raise",
        when_complete: Literal["keep", "delete"] = "keep",
    ) -> None:
        check_number("save_every_seconds", save_every_seconds)
        check_whole("save_every_messages", save_every_messages)
        if save_every_seconds <= 0:
            raise ValueError("save_every_seconds must be above 0")
        if save_every_messages < 1:
            raise ValueError("save_every_messages must be at least 1")
        if isinstance(retry_failed, str):
            raise ValueError("retry_failed is True, False, or a collection of reasons")
        _check_word("on_uidvalidity", on_uidvalidity, ("raise", "restart", "match"))
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
        self._renumbering: Renumbering | None = None
        if on_uidvalidity == "match":
            if not self._path or when_complete == "delete":
                raise ValueError('on_uidvalidity="match" needs a checkpoint in a file, and one that is kept')
            self._renumbering = Renumbering(f"{self._path}.identities")
        self._accept = on_mismatch == "accept"
        self._delete = when_complete == "delete"
        self._sharing = Sharing()

    def foresee(self) -> Callable[[], None]:
        """A run begins: have the store connect while it looks at its mailbox (`Foresees`); gives what ends that."""
        return self.store.foresee() if isinstance(self.store, Foresees) else _nothing

    @asynccontextmanager
    async def kept_open(self) -> AsyncIterator[None]:
        """Have the store open over several runs, where that saves something (`store.KeepsOpen`).

        A file is this process's meanwhile, also between two runs. Cancelled, it is closed all the same.

        Raises:
            CheckpointError: It cannot be opened.
        """
        store = self.store
        if not isinstance(store, KeepsOpen):
            yield
            return
        opened: list[Callable[[], None]] = []

        async def open_it() -> None:
            opened.append(await asyncio.to_thread(store.keep_open))

        try:
            await to_the_end(open_it())
            yield
        finally:
            for close in opened:
                await to_the_end(asyncio.to_thread(close))

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

    async def follow_names(self, account: str, mailboxids: Mapping[str, str]) -> None:
        """Move the states of mailboxes that were renamed to the names that they have now.

        A store that cannot list its keys (`store.ListsKeys`) keeps them where they are.

        Args:
            account: The account.
            mailboxids: MAILBOXID of mailboxes, by their names.

        Raises:
            CheckpointError: They cannot be read or written.
        """
        if not isinstance(self.store, ListsKeys) or not mailboxids:
            return
        listed = await asyncio.to_thread(self.store.keys, account)
        keys = [key for key in listed if (key.name, key.shard) == (self.name, self.shard)]
        states = (await self._store.peek_all(keys)).values()
        places = {(state.cursor.mailboxid, state.mailbox): state for state in states}
        by_id = {mailboxid: state for (mailboxid, _), state in places.items()}
        moved = {
            name: by_id[mailboxid]
            for name, mailboxid in mailboxids.items()
            if mailboxid in by_id and (mailboxid, printable(name)) not in places
        }
        for name, state in moved.items():
            async with self._held(replace(state.key, mailbox=name)) as holding:
                await to_the_end(holding.save(replace(state, mailbox=name)))
        for mailbox in {state.mailbox for state in moved.values()} - set(map(printable, moved)):
            async with self._held(JobKey(account, mailbox, self.name, self.shard)) as holding:
                await to_the_end(holding.delete())

    async def done_before(self, run: Run) -> UidSet:
        """What a run would take out of its plan; another run may be changing it.

        Raises:
            CheckpointError, UidValidityChanged: As `start` does.
        """
        loaded = await self.recall(run.account, run.mailbox)
        begun = await self._begin(run, loaded)
        if self._renumbering is not None and loaded is not None and loaded.series != begun.series:
            # Made for this look.
            await self._renumbering.forget(begun.series)
        return begun.done

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
            begun = await self._begin(run, loaded)
            if self._renumbering is not None:
                await self._renumbering.learn(run, begun)
                begun, run.renumbered = await self._renumbering.recall(begun)
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
        await run.plan.skip(begun.done)
        if not self._retry_all:
            await self._refuse_failed(run, begun)
        layer.begin(self._save_every_seconds, self._save_every_messages)
        return layer

    @asynccontextmanager
    async def _held(self, key: JobKey) -> AsyncIterator[CheckpointHolding]:
        """A key, outside of a run."""
        holding = await to_the_end(self._store.open(key, Loss()))
        try:
            yield holding
        finally:
            await to_the_end(holding.release())

    async def _refuse_failed(self, run: Run, begun: CheckpointState) -> None:
        """Try nothing again that failed in an earlier run, but for some reasons."""
        for reason, uids in begun.failed.items():
            # A reason that is a response code may have an argument, which does not count.
            if self._retried.isdisjoint((reason, reason.partition(" ")[0])):
                await run.refuse(uids, reason, "failed in an earlier run and was not tried again")

    async def _begin(self, run: Run, loaded: CheckpointState | None) -> CheckpointState:
        """The state with which this run begins."""
        cursor = run.cursor
        if loaded is not None and loaded.uidvalidity == run.uidvalidity:
            cursor = await run.believable_cursor(loaded.cursor)
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
                return begun_anew(loaded, fresh)
            if self._renumbering is None:
                raise changed
        if not self.name and loaded.fingerprint != run.fingerprint and not self._accept:
            raise CheckpointMismatch(
                'it belongs to another search or fetch; use another file, name="…", or on_mismatch="accept"',
                path=self._path,
            )
        if changed is not None and self._renumbering is not None:
            return await self._renumbering.carry_over(run, loaded, replace(fresh, extra=loaded.extra))
        return replace(loaded, fingerprint=run.fingerprint, cursor=loaded.cursor.advanced(cursor))


def _check_word(name: str, word: str, words: tuple[str, ...]) -> None:
    if word not in words:
        raise ValueError(f"{name} is one of {', '.join(map(repr, words))}, not {word!r}")


def _nothing() -> None:
    return
