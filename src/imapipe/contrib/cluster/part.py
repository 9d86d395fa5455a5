"""A part of a job: a mailbox, or a range of its UIDs, with a checkpoint of its own; and how it is run.

What a job's function gives is wrapped, outermost first: whoever hears of the run, the Checkpoint of the part, what was
done before the mailbox was divided; then what the job uses itself; then limits. A job for the whole account (`each`) is
one part, with a checkpoint for each of its mailboxes.

Invariants:

- A job that brings its own Checkpoint keeps it; its mailboxes are never divided, as it would be the same for all parts.
- A run that is to end early (`Hearing.stop`) begins no batch, finishes those in hand and saves.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import orjson

from imapipe.account.pipeline import AccountPipeline
from imapipe.client import Pool
from imapipe.contrib.job import Report, Usable, Work
from imapipe.contrib.job_function import JobFunction
from imapipe.errors import UidValidityChanged
from imapipe.middleware.base import Layer, Limit, Middleware, Run
from imapipe.middleware.checkpoint import Checkpoint
from imapipe.models.cursor import Cursor, reissued
from imapipe.models.json_value import JSON
from imapipe.pipeline.builder import PipelineBuilder
from imapipe.pipeline.memory import memory_of
from imapipe.store.base import BlockingCheckpointStore, CheckpointStore, ListsKeys
from imapipe.store.checkpoint_state import CheckpointState
from imapipe.store.job_key import JobKey
from imapipe.store.threaded import as_async

OnUidvalidity = Literal["raise", "restart"]

_LONGEST_NAME: Final = 200


@dataclass(frozen=True, slots=True)
class Part:
    """What one run is for.

    Attributes:
        mailbox: The mailbox; "" for a job that is for the whole account at once.
        shard: The name of a range of its UIDs, such as "2/8", or "" for all of it.
        first: The lowest UID of the range.
        last: The highest one, None in the last range.
        uidvalidity: The UIDVALIDITY under which the range, or `since`, is to be read.
        done_before: How many messages its checkpoint counted when the job was planned.
        since: How far the mailbox had come when an earlier job had left nothing undone: only what came since is
            searched. As it was when the job was planned: what a try of this job did is this job's.
    """

    mailbox: str
    shard: str = ""
    first: int = 1
    last: int | None = None
    uidvalidity: int = 0
    done_before: int = 0
    since: Cursor | None = None

    @property
    def key(self) -> str:
        """Names it among the parts of its job."""
        return f"{self.shard} {self.mailbox}"

    def to_json(self) -> list[JSON]:
        """As it is kept: short, for there may be many."""
        since: JSON = None if self.since is None else self.since.to_dict()
        return [self.mailbox, self.shard, self.first, self.last, self.uidvalidity, self.done_before, since]

    @classmethod
    def from_json(cls, kept: JSON) -> Part:
        """Read what `to_json` gave."""
        if not isinstance(kept, list):
            raise TypeError(f"this is no part of a job: {kept!r}")
        *fields, since = kept
        cursor = Cursor(**since) if isinstance(since, dict) else None  # type: ignore[arg-type]  # as it was told
        return replace(cls(*fields), since=cursor)  # type: ignore[arg-type]  # as `to_json` wrote it


class JobKind:
    """A kind of job, and what the cluster has to know of it.

    Args:
        function: `def name(pool, mailbox, parameter=…) -> Work`. Without a parameter `mailbox` the job is for the whole
            account at once.
        on_uidvalidity: As of `Checkpoint`.

    Attributes:
        function: What makes the work.
        on_uidvalidity: What to do where UIDVALIDITY changed.
    """

    def __init__(self, function: JobFunction, on_uidvalidity: OnUidvalidity = "raise") -> None:
        self.function = function
        self.on_uidvalidity: OnUidvalidity = on_uidvalidity
        properties = function.parameters["properties"]
        self.takes_mailbox = isinstance(properties, dict) and "mailbox" in properties

    @property
    def name(self) -> str:
        """Its name."""
        return self.function.name

    def check(self, parameters: Mapping[str, JSON]) -> None:
        """Look whether it takes these parameters, besides the mailbox. Raises WrongParameters."""
        self.function.check({**({"mailbox": ""} if self.takes_mailbox else {}), **parameters})

    async def work(self, pool: Pool, mailbox: str, parameters: Mapping[str, JSON]) -> Work[Usable]:
        """What is to be done in a mailbox. Raises what the function raises."""
        return await self.function.work(pool, {**({"mailbox": mailbox} if self.takes_mailbox else {}), **parameters})


class Hearing(Middleware):
    """Hears of the runs of a task, and ends them early where that is wanted."""

    def __init__(self) -> None:
        self._runs: set[Run] = set()
        self.is_stopping = False

    def stop(self) -> None:
        """Have every run end with the batches in hand, also those that are still to begin."""
        self.is_stopping = True
        for run in tuple(self._runs):
            run.give_up("handed back")

    async def start(self, run: Run) -> Layer:
        """Hear of a run."""
        return _HearingLayer(self, run)

    def begun(self, run: Run) -> None:
        """A run has begun."""
        self._runs.add(run)
        if self.is_stopping:
            run.give_up("handed back")

    def ended(self, run: Run) -> None:
        """A run is over."""
        self._runs.discard(run)


class _HearingLayer(Layer):
    """Tells of one run."""

    def __init__(self, hearing: Hearing, run: Run) -> None:
        self._hearing = hearing
        self._run = run
        hearing.begun(run)

    async def stop(self) -> None:
        """It is over."""
        self._hearing.ended(self._run)


class DoneUndivided(Middleware):
    """Takes out of a part's plan what was done while the mailbox was not divided.

    Args:
        whole: The Checkpoint of the whole mailbox; it is looked at only.
        on_uidvalidity: What to do where its UIDs mean other messages now: a part, whose own checkpoint is new, would
            not notice.
    """

    def __init__(self, whole: Checkpoint, on_uidvalidity: OnUidvalidity) -> None:
        self._whole = whole
        self._on_uidvalidity = on_uidvalidity

    async def start(self, run: Run) -> Layer:
        """Look at what was done.

        Raises:
            UidValidityChanged: Its UIDs mean other messages now.
            CheckpointError: It cannot be read.
        """
        state = await self._whole.recall(run.account, run.mailbox)
        if state is None:
            return Layer()
        cursor = run.cursor
        if state.uidvalidity == run.uidvalidity:
            cursor = await run.believable_cursor(state.cursor)
        changed = reissued(
            run.mailbox,
            (state.uidvalidity, state.cursor),
            (run.uidvalidity, cursor),
            'begin anew with on_uidvalidity="restart"',
        )
        if changed is None:
            await run.plan.skip(state.done)
        elif self._on_uidvalidity == "raise":
            raise changed
        return Layer()


def checkpoint_name(job: str, parameters: Mapping[str, JSON]) -> str:
    """The name of a job's checkpoints: jobs with other parameters do not know of each other."""
    if not parameters:
        return job
    text = orjson.dumps(dict(parameters), option=orjson.OPT_SORT_KEYS).decode()
    name = f"{job} {text}"
    return name if len(name) <= _LONGEST_NAME else f"{job} {hashlib.sha256(text.encode()).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a job keeps what is done.

    Attributes:
        store: The store, or None where nothing is kept.
        name: The name of its checkpoints.
    """

    store: CheckpointStore | BlockingCheckpointStore | None
    name: str

    async def done_of(self, account: str, parts: Iterable[Part]) -> Mapping[str, int]:
        """How many messages are done of parts, as their checkpoints count them, by the keys of the parts."""
        done: Counter[str] = Counter()
        for key, state in await self.states_of(account, parts):
            done[key] += state.counters.done
        return done

    async def states_of(self, account: str, parts: Iterable[Part]) -> Sequence[tuple[str, CheckpointState]]:
        """The checkpoints of parts, each with the key of its part."""
        if self.store is None:
            return ()
        keys: dict[JobKey, str] = {}
        for part in parts:
            if part.mailbox:
                keys[JobKey(account, part.mailbox, self.name, part.shard)] = part.key
            elif isinstance(self.store, ListsKeys):
                # Of a job for the whole account, all that it has.
                known = await asyncio.to_thread(self.store.keys, account)
                keys |= {key: part.key for key in known if key.name == self.name}
        states = await as_async(self.store).peek_all([*keys]) if keys else {}
        return [(keys[key], state) for key, state in states.items()]

    def checkpoint(self, shard: str, on_uidvalidity: OnUidvalidity) -> Checkpoint | None:
        """The Checkpoint of a part."""
        if self.store is None:
            return None
        return Checkpoint(self.store, name=self.name, shard=shard, on_uidvalidity=on_uidvalidity)


def is_renumbered(part: Part, error: Exception) -> bool:
    """Whether the numbers of a mailbox are not those that the part was planned with: it is to be planned again."""
    return isinstance(error, UidValidityChanged) and error.expected == part.uidvalidity != error.found


async def run_part(
    part: Part,
    job: JobKind,
    pool: Pool,
    parameters: Mapping[str, JSON],
    kept: Kept,
    *layers: Middleware,
    limits: Sequence[Middleware] = (),
    inside: Sequence[Middleware] = (),
) -> Report:
    """Run a part of a job.

    Args:
        part: The part.
        job: The job.
        pool: The pool of the account.
        parameters: What the job's function is called with, besides.
        kept: Where it is kept what is done.
        layers: Middleware outside of everything else.
        limits: Limits inside of everything else, where the job uses none of its own.
        inside: Middleware inside of the cluster's Checkpoint, where the job has none of its own.

    Raises what the run raises; cancelled, it ends as a run does.
    """
    work = await job.work(pool, part.mailbox, parameters)
    inner = work.job
    if not isinstance(inner, PipelineBuilder | AccountPipeline):
        return await work.do(layers)
    if (
        memory_of(inner.middleware) is None
        and (checkpoint := kept.checkpoint(part.shard, job.on_uidvalidity)) is not None
    ):
        inner = inner.use_outside(*inside)
        if part.shard and (whole := kept.checkpoint("", job.on_uidvalidity)) is not None:
            inner = inner.use_outside(DoneUndivided(whole, job.on_uidvalidity))
        inner = inner.use_outside(checkpoint)
    if isinstance(inner, PipelineBuilder):
        if part.shard:
            inner = inner.within(part.first, part.last, uidvalidity=part.uidvalidity)
        elif part.since is not None:
            inner = inner.newer_than(part.uidvalidity, part.since)
    if not any(isinstance(one, Limit) for one in inner.middleware):
        inner = inner.use(*limits)
    return await work.of(inner.use_outside(*layers)).do()
