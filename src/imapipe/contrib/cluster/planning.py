"""From an account and the words for its mailboxes to tasks: small mailboxes together, large ones in ranges of UIDs.

Invariants:

- Ranges lie side by side from UID 1 on, and the last has no end: a message is in exactly one of them whenever it came.
- What is known of earlier divisions of a mailbox is put together first (`undivide`), so a mailbox may be divided in
  another way each time, and nothing is done twice.
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from imapipe.account.choosing import Choice, choose_mailboxes
from imapipe.account.news import News, news_in
from imapipe.client import Pool
from imapipe.contrib.cluster.part import JobKind, Kept, Part
from imapipe.contrib.cluster.report import MailboxOutcome
from imapipe.middleware.checkpoint import Checkpoint
from imapipe.models.json_value import JSON
from imapipe.models.mailbox import MailboxEntry
from imapipe.pipeline.builder import PipelineBuilder
from imapipe.pipeline.memory import Remembered, memory_of
from imapipe.pipeline.pipeline import Pipeline
from imapipe.runtime.completion import to_the_end
from imapipe.runtime.large_sets import beside_the_loop
from imapipe.store.base import CheckpointStore, ListsKeys
from imapipe.store.checkpoint_state import CheckpointState, Counters, new_series
from imapipe.store.job_key import JobKey
from imapipe.store.threaded import as_async
from imapipe.wire.uid_set import UidSet

MOST_MAILBOXES_IN_A_TASK: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """What was asked for.

    Attributes:
        account: The account, by its name.
        job: The name of the job.
        mailboxes: Names, patterns and special uses, in order.
        exclude: Those to leave out.
        shards: Into how many parts a mailbox may be divided.
        parameters: What the job's function is called with, besides the mailbox.
    """

    account: str
    job: str
    mailboxes: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    shards: int = 1
    parameters: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large tasks are.

    Attributes:
        group_messages: Mailboxes are put into one task until it has so many messages.
        shard_messages: A part of a mailbox has at least so many messages.
    """

    group_messages: int = 2_000
    shard_messages: int = 5_000


@dataclass(frozen=True, slots=True)
class Planned:
    """What is to be done.

    Attributes:
        tasks: The parts of each task.
        unchanged: Mailboxes in which nothing changed.
        errors: What is wrong with mailboxes that cannot be worked on.
        unaccounted: Messages that a search for all did not find, by the mailboxes that are worked on in parts.
    """

    tasks: Sequence[Sequence[Part]]
    unchanged: Sequence[str] = ()
    errors: Mapping[str, Exception] = field(default_factory=dict)
    unaccounted: Mapping[str, int] = field(default_factory=dict)


async def plan_tasks(request: JobRequest, job: JobKind, pool: Pool, kept: Kept, sizes: Sizes) -> Planned:
    """Look at the mailboxes of an account, and say what is to be done in which task.

    Raises:
        CheckpointLocked: A run of the same job is at work on one of its mailboxes.
        AuthenticationFailed, PoolClosed, CheckpointError: The account or the checkpoints cannot be used.
        ImapipeError: The mailboxes could not be listed, or a large one could not be searched.

    What the job's function raises is raised as it is.
    """
    if not job.takes_mailbox:
        part = Part("")
        done_before = (await kept.done_of(pool.account, [part])).get(part.key, 0)
        return Planned([[replace(part, done_before=done_before)]])
    chosen = await choose_mailboxes(pool.connections, Choice(request.mailboxes, request.exclude))
    await undivide(kept, pool.account)
    whole = kept.checkpoint("", job.on_uidvalidity)
    works = {entry.name: (await job.work(pool, str(entry.name), request.parameters)).job for entry in chosen.entries}
    known = await _known(pool.account, chosen.entries, whole)
    tasks: list[list[Part]] = []
    unchanged: list[str] = []
    unaccounted: dict[str, int] = {}
    group: list[Part] = []
    room = sizes.group_messages
    for entry in chosen.entries:
        name, inner = str(entry.name), works[entry.name]
        state = known.get(name)
        remembered: Remembered | None = state
        pipeline = inner if isinstance(inner, PipelineBuilder) else None
        own = None if pipeline is None else memory_of(pipeline.middleware)
        if own is not None:
            remembered = await own.recall(pool.account, name)
        news = News.ALL
        if pipeline is not None:
            news = news_in(entry.status, remembered, pipeline.criteria, pipeline.fingerprint)
        if news is News.NOTHING:
            unchanged.append(name)
            continue
        left = _left(entry, state, news)
        count = min(request.shards, left // max(1, sizes.shard_messages))
        # Without a list of keys nobody would find again what is known of parts.
        may_divide = own is None and isinstance(kept.store, ListsKeys)
        if isinstance(pipeline, Pipeline) and news is News.ALL and may_divide and count > 1:
            found = await pipeline.uids()
            done = UidSet() if state is None else state.done
            to_do = await beside_the_loop(partial(operator.sub, found.uids, done), found.uids, done)
            tasks += [[part] for part in divide(name, to_do, count, found.uidvalidity)]
            if found.unaccounted:
                unaccounted[name] = found.unaccounted
            continue
        part = Part(name, done_before=_done_before(remembered))
        if news is News.NEWER and remembered is not None:
            part = replace(part, uidvalidity=remembered.uidvalidity, since=remembered.finished)
        if group and (left > room or len(group) >= MOST_MAILBOXES_IN_A_TASK):
            tasks.append(group)
            group, room = [], sizes.group_messages
        group.append(part)
        room -= left
    if group:
        tasks.append(group)
    return Planned(tasks, unchanged, chosen.unknown, unaccounted)


def superseded(parts: Iterable[Part], done: Mapping[str, int]) -> dict[str, MailboxOutcome]:
    """What is told of parts that are none any more, as their mailbox is looked at again: what they had done.

    Args:
        parts: The parts.
        done: How many messages are done of them, as their checkpoints count, by their keys.
    """
    counts = {part.key: max(0, done.get(part.key, 0) - part.done_before) for part in parts}
    return {key: MailboxOutcome(planned=count, done=count, parts=0) for key, count in counts.items()}


def divide(mailbox: str, uids: UidSet, count: int, uidvalidity: int) -> list[Part]:
    """Ranges that hold equally many of some messages, and together every UID that there is or will be.

    Args:
        mailbox: The mailbox.
        uids: What is to be done in it, as far as it is there now.
        count: How many ranges.
        uidvalidity: Its UIDVALIDITY.
    """
    count = max(1, min(count, len(uids)))
    firsts = [1, *(uids[len(uids) * number // count] for number in range(1, count))]
    lasts: list[int | None] = [*(first - 1 for first in firsts[1:]), None]
    return [
        Part(mailbox, f"{number}/{count}", first, last, uidvalidity)
        for number, (first, last) in enumerate(zip(firsts, lasts, strict=True), 1)
    ]


async def undivide(kept: Kept, account: str) -> None:
    """Put together what is known of the parts of mailboxes that an earlier job divided.

    It may be broken off anywhere and done again: what is done stays done.

    Raises:
        CheckpointLocked: A run of the same job is at work on one of them.
        CheckpointError: They cannot be read or written.
    """
    if kept.store is None or not isinstance(kept.store, ListsKeys):
        return
    keys = await asyncio.to_thread(kept.store.keys, account)
    divided: dict[str, list[JobKey]] = {}
    for key in keys:
        if key.name == kept.name and key.shard:
            divided.setdefault(key.mailbox, []).append(key)
    store = as_async(kept.store)
    for mailbox, shards in divided.items():
        await to_the_end(_undivide(store, JobKey(account, mailbox, kept.name), shards))


async def _undivide(store: CheckpointStore, whole: JobKey, shards: Iterable[JobKey]) -> None:
    holdings = []
    try:
        for key in (whole, *shards):
            holdings.append(await store.open(key, _nothing_to_stop))  # noqa: PERF401 - those that are open are given back
        states = [await holding.load() for holding in holdings]
        parts = [state for state in states[1:] if state is not None]
        if parts:
            await holdings[0].save(await asyncio.to_thread(together, states[0], parts))
        for holding in holdings[1:]:
            await holding.delete()
    finally:
        for holding in holdings:
            await to_the_end(holding.release())


def together(whole: CheckpointState | None, parts: Sequence[CheckpointState]) -> CheckpointState:
    """What is known of a mailbox, from what was known of all of it and what is known of its parts.

    Only what was seen under the newest UIDVALIDITY counts: under another one the UIDs are of other messages.
    """
    newest = max((state for state in (whole, *parts) if state is not None), key=lambda state: state.saved_at)
    same = [state for state in (whole, *parts) if state is not None and state.uidvalidity == newest.uidvalidity]
    done = UidSet.union([state.done for state in same])
    failed: dict[str, UidSet] = {}
    settled = done
    for state in same:
        for reason, uids in state.failed.items():
            left = uids - settled
            if left:
                failed[reason] = failed.get(reason, UidSet()) | left
                settled |= left
    cursors = [state.cursor for state in same]
    cursor = cursors[0]
    for each in sorted(cursors, key=lambda cursor: cursor.uidnext or 0):
        cursor = cursor.advanced(each)
    # How far the mailbox had come when the first of the parts began: what is above was not looked for in all of them.
    finished = [state.finished for state in parts if state.uidvalidity == newest.uidvalidity]
    known = [each for each in finished if each is not None and each.uidnext is not None]
    is_whole = len(known) == len(parts)
    first = min(known, key=lambda each: (each.uidnext or 0, each.highestmodseq or 0)) if is_whole and known else None
    counters = [state.counters for state in same]
    return replace(
        newest,
        shard="",
        series=new_series(),
        sequence=0,
        done=done,
        failed=failed,
        cursor=cursor.met(done),
        finished=first,
        counters=Counters(
            runs=sum(each.runs for each in counters),
            done=sum(each.done for each in counters),
            failed=sum(each.failed for each in counters),
            vanished=sum(each.vanished for each in counters),
            bytes_received=sum(each.bytes_received for each in counters),
            elapsed_seconds=sum(each.elapsed_seconds for each in counters),
        ),
        extra={key: value for state in same for key, value in state.extra.items()},
    )


async def _known(
    account: str, entries: Sequence[MailboxEntry], memory: Checkpoint | None
) -> Mapping[str, CheckpointState]:
    """What the cluster's checkpoints know of mailboxes, also of those that were called otherwise then."""
    if memory is None:
        return {}
    ids = {entry.name: entry.status.mailbox_id for entry in entries if entry.status is not None}
    await memory.follow_names(account, {name: each for name, each in ids.items() if each})
    return await memory.recall_all(account, [entry.name for entry in entries])


def _left(entry: MailboxEntry, state: CheckpointState | None, news: News) -> int:
    """About how many messages are to be done in a mailbox."""
    messages = (entry.status.messages if entry.status is not None else None) or 0
    if state is None or (entry.status is not None and entry.status.uidvalidity != state.uidvalidity):
        return messages
    if news is News.NEWER and state.finished is not None and entry.status is not None:
        return max(0, (entry.status.uidnext or 0) - (state.finished.uidnext or 0))
    return max(0, messages - len(state.done))


def _done_before(remembered: Remembered | None) -> int:
    return remembered.counters.done if isinstance(remembered, CheckpointState) else 0


def _nothing_to_stop(_: object) -> None:
    return
