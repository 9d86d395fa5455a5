"""Large mailboxes with imapipe: a tour in which every figure is measured as you watch.

    python examples/large_volume.py                                     # on a mail server of its own
    python examples/large_volume.py --json                              # one document, for machines
    IMAPIPE_PASSWORD=… python examples/large_volume.py --url imaps://ann@imap.example.org --mailbox INBOX

Nothing in your mailbox is changed. Each section is a function that gets a `Tour` (a pool of connections, a mailbox, a
folder for files) and returns what it measured. Start anywhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import orjson
from tour import Figures, Tour, main, section

import imapipe
from imapipe import (
    AdaptiveBatch,
    AdaptiveRateLimit,
    Batch,
    BatchResult,
    Checkpoint,
    FixedBatch,
    Message,
    PriorityBatch,
    PriorityClass,
    Progress,
    ProgressSnapshot,
    RateLimit,
    Retry,
)
from imapipe import search as q
from imapipe.middleware.base import Call, Layer, Run
from imapipe.testing import Bandwidth, CutAfterBytes, Delay, PoisonUids, Reply, Throttle


async def handle(message: Message) -> None:
    """What is done with a message: most sections are about everything else."""


class Batches(imapipe.Middleware):
    """A middleware of our own: it notes every batch on its way to the server."""

    def __init__(self) -> None:
        self.seen: list[Batch] = []
        self.sent_at: list[float] = []

    async def start(self, run: Run) -> Layer:
        return NotingLayer(self)

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.seen]

    @property
    def per_second(self) -> float:
        return (len(self.sent_at) - 1) / (self.sent_at[-1] - self.sent_at[0])


class NotingLayer(Layer):
    """What a run sends its batches through."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    async def __call__(self, batch: Batch, call_next: Call) -> BatchResult:
        self._batches.seen.append(batch)
        self._batches.sent_at.append(time.perf_counter())
        return await call_next(batch)


# ----------------------------------------------------------------------------------------------------------------------
BATCHES = "Batch Processing Operations"


@section(BATCHES, "UID-Based Operations", "S1")
async def uid_operations(tour: Tour) -> Figures:
    """A search plans UIDs, and every one of them ends in one outcome."""
    report = await tour.mailbox.search(q.ALL).newest_first().limit(tour.messages).fetch("envelope").run(handle)
    return {
        "planned": report.planned,
        "done": report.done,
        "skipped": report.skipped,
        "vanished": report.vanished,
        "failed": report.failed,
        "sums_reconcile": report.planned == report.done + report.skipped + report.vanished + report.failed,
        "fetches_by_uid": tour.commands("UID FETCH"),
        "fetches_by_sequence_number": tour.commands("FETCH"),
    }


@section(BATCHES, "Adaptive Batch Processing", "S2")
async def adaptive_batches(tour: Tour) -> Figures:
    """After a quick batch the next one is larger, after a slow one smaller; the tour's server has a slow moment."""
    batches = Batches()
    policy = AdaptiveBatch(start=100, minimum=50, maximum=200, target_seconds=0.1, slow_seconds=0.25)
    job = tour.mailbox.search(q.ALL).limit(tour.messages).fetch("flags").batch(policy).depth(1).use(batches)
    with tour.trouble(Delay(0.3, command="UID FETCH", nth=6, times=4)):
        await job.run(handle, connections=1)
    return {"sizes": batches.sizes}


@section(BATCHES, "Fixed Batch Processing", "S3")
async def fixed_batches(tour: Tour) -> Figures:
    """Seventy-five at a time, ten batches a second: the pause is what the work leaves of a tenth."""
    batches = Batches()
    job = tour.mailbox.search(q.ALL).limit(750).fetch("flags").batch(FixedBatch(75))
    await job.use(RateLimit(commands_per_second=10), batches).run(handle)
    return {"sizes": batches.sizes, "batches_per_second": batches.per_second}


@section(BATCHES, "Priority Batch Processing", "S4")
async def priority_batches(tour: Tour) -> Figures:
    """Flagged messages first, then last week's, then the rest; each class with batches of its own."""
    batches = Batches()
    classes = PriorityBatch(
        PriorityClass(q.FLAGGED, FixedBatch(25)),
        PriorityClass(q.since(days=7), FixedBatch(50), newest_first=True),
        rest=FixedBatch(50),
    )
    job = tour.mailbox.search(q.ALL).limit(tour.messages).fetch("flags").batch(classes).use(batches)
    await job.run(handle, connections=1)
    tiers = [batch.tier for batch in batches.seen]
    names = ("flagged", "last_week", "rest")
    return {
        "in_order": tiers == sorted(tiers),
        "messages": {name: sum(len(b) for b in batches.seen if b.tier == tier) for tier, name in enumerate(names)},
        "largest_batch": {
            name: max((len(b) for b in batches.seen if b.tier == tier), default=0) for tier, name in enumerate(names)
        },
    }


# ----------------------------------------------------------------------------------------------------------------------
PARALLEL = "Parallel Processing Operations"


@section(PARALLEL, "Parallel Connections", "S5")
async def parallel_connections(tour: Tour) -> Figures:
    """The same job over one connection and over four; the tour's server gives each of them 8 MB/s and no more."""
    figures: dict[str, object] = {}
    with tour.trouble(Bandwidth(8_000_000, command="EXAMINE")):
        for connections in (1, 4):
            batches = Batches()
            async with imapipe.create_pool(tour.url, password=tour.password, max_size=connections) as pool:
                job = pool.mailbox(tour.mailbox_name).search(q.ALL).limit(tour.messages).fetch("full").batch(50)
                report = await job.use(batches).run(handle)
            figures[f"{connections}_connections"] = {
                "used": len({batch.lane for batch in batches.seen}),
                "messages": report.done,
                "messages_per_second": report.messages_per_second,
            }
    return figures


@section(PARALLEL, "Thread-Based Parallel Processing", "S6")
async def threads(tour: Tour) -> Figures:
    """A handler that blocks, such as one that writes files, runs in threads."""
    used: set[int] = set()

    def save(message: Message) -> None:
        message.save_to(tour.folder / f"{message.uid}.eml")
        used.add(threading.get_ident())

    report = await tour.mailbox.search(q.ALL).limit(300).fetch("full").run(imapipe.in_threads(save), concurrency=4)
    return {
        "done": report.done,
        "files": sum(1 for _ in tour.folder.glob("*.eml")),
        "threads": len(used),
        "longest_wait_of_the_event_loop_seconds": report.loop_lag_seconds.maximum,
    }


def fingerprint(body: bytes) -> tuple[int, str]:
    """Something that computes: it runs in another process, so it stands at the top of a module."""
    return os.getpid(), hashlib.pbkdf2_hmac("sha256", body, b"", 1000).hex()


@section(PARALLEL, "Process Pool Parallel Processing", "S6")
async def processes(tour: Tour) -> Figures:
    """A handler that computes runs in worker processes; only the bodies travel there."""
    results: dict[int, tuple[int, str]] = {}

    async def keep(message: Message, result: object) -> None:
        assert isinstance(result, tuple)
        results[message.uid] = result

    worker = imapipe.in_processes(fingerprint, workers=2, send=lambda message: message.body, then=keep)
    report = await tour.mailbox.search(q.ALL).limit(200).fetch("full").run(worker, concurrency=4)
    return {
        "done": report.done,
        "results": len(results),
        "processes": len({process for process, _ in results.values()} - {os.getpid()}),
    }


# ----------------------------------------------------------------------------------------------------------------------
MEMORY = "Memory-Efficient Processing"


@section(MEMORY, "Streaming Message Processing", "S7")
async def streaming(tour: Tour) -> Figures:
    """Messages are there as they arrive: the first one long before the last."""
    job = tour.mailbox.search(q.ALL).limit(tour.messages).fetch("full")
    began = time.perf_counter()
    arrived: list[float] = []
    async with job.stream() as stream:
        async for _ in stream:
            arrived.append(time.perf_counter() - began)  # noqa: PERF401 - a loop, as yours will be one
    lists = [len(messages) async for messages in job.limit(500).batch(50).batches()]
    return {
        "messages": stream.report.done,
        "first_message_after_seconds": arrived[0],
        "last_message_after_seconds": arrived[-1],
        "in_lists_of": lists,
    }


@section(MEMORY, "Lazy Loading Processing", "S8")
async def lazy_loading(tour: Tour) -> Figures:
    """An iterator of UID, subject, sender, date and size; what is not read is not parsed."""
    shown = []
    async for message in tour.mailbox.search(q.ALL).newest_first().limit(20).fetch("envelope"):
        sender = message.sender.email if message.sender else ""
        shown.append((message.uid, message.subject, sender, message.date, message.size))
    return {
        "messages": len(shown),
        "with_subject": sum(bool(subject) for _, subject, *_ in shown),
        "with_date": sum(date is not None for *_, date, _ in shown),
        "bytes_in_all": sum(size for *_, size in shown),
    }


@section(MEMORY, "Chunked Processing with Garbage Collection", "S9")
async def bounded_memory(tour: Tour) -> Figures:
    """Nothing is to be collected by hand: what is held has a bound, whatever the mailbox and the handler."""

    async def slow(message: Message) -> None:
        await asyncio.sleep(0.0005)

    cap = 1024 * 1024
    async with imapipe.create_pool(tour.url, password=tour.password, max_held_bytes=cap, max_size=1) as pool:
        report = await pool.mailbox(tour.mailbox_name).search(q.ALL).limit(tour.messages).fetch("full").run(slow)
        async with pool.acquire() as connection:
            most_held = connection.plane.holdings.max_held_seen
    return {
        "bytes_received": report.bytes_received,
        "reading_pauses_above_bytes": cap,
        "most_bytes_held": most_held,
        "peak_rss_bytes": report.peak_rss_bytes,
    }


# ----------------------------------------------------------------------------------------------------------------------
SEARCHES = "Search Optimization"


@section(SEARCHES, "Cached Search Operations", "S10")
async def cached_searches(tour: Tour) -> Figures:
    """Four searches, three times each: the server searches once for each, as long as nothing changes."""
    cache = imapipe.SearchCache()
    criteria = (q.ALL, q.UNSEEN, q.FLAGGED, q.since(days=7))
    searches_before = tour.commands("UID SEARCH")
    rounds: list[float] = []
    async with imapipe.create_pool(tour.url, password=tour.password, search_cache=cache) as pool:
        mailbox = pool.mailbox(tour.mailbox_name)
        for _ in range(3):
            began = time.perf_counter()
            for key in criteria:
                await mailbox.search(key).uids()
            rounds.append(time.perf_counter() - began)
    searches = tour.commands("UID SEARCH")
    return {
        "searches_asked_for": 3 * len(criteria),
        "answered_from_memory": cache.stats.hits,
        "searches_at_the_server": searches - searches_before
        if searches is not None and searches_before is not None
        else None,
        "seconds_for_each_round": rounds,
    }


@section(SEARCHES, "Indexed Search Operations", "S11", "S23")
async def indexed_searches(tour: Tour) -> Figures:
    """An index of the last 30 days in a file: four questions, none of them to the server."""
    last_month = q.since(days=30)
    async with imapipe.MessageIndex(tour.folder / "mail.index") as index:
        first = await index.update(tour.mailbox, search=last_month)
        again = await index.update(tour.mailbox, search=last_month)
        newest = (await index.find(limit=1))[0]
        word = next((word for word in newest.subject.split() if word.isalnum()), "report")
        fetches = tour.commands("UID FETCH")
        answers = {
            "by_sender": await index.find(sender=newest.sender),
            "by_subject_word": await index.find(subject=word),
            "by_date": await index.find(since=(newest.date or datetime.now(UTC)) - timedelta(days=1)),
            "by_size_class": await index.find(size_class=newest.size_class),
        }
    return {
        "indexed": first.added,
        "fetched_by_the_second_update": again.added,
        "found": {question: len(entries) for question, entries in answers.items()},
        "asked_of_the_server_meanwhile": (tour.commands("UID FETCH") or 0) - fetches if fetches is not None else None,
    }


@section(SEARCHES, "Progressive Search Refinement", "S12")
async def refinement(tour: Tour) -> Figures:
    """Each search looks only at what the one before it found."""
    result = await tour.mailbox.search(q.ALL).uids()
    for key in (q.since(days=30), q.UNSEEN, q.FLAGGED):
        result = await result.refine(key)
    return {
        "found": {step.criteria: step.after for step in result.reduction},
        "reduction_percent": {step.criteria: step.percent for step in result.reduction},
    }


# ----------------------------------------------------------------------------------------------------------------------
RESUMABLE = "Resumable Operations"


@section(RESUMABLE, "Interrupting and Resuming", "S13")
async def resuming(tour: Tour) -> Figures:
    """A run is cancelled in the middle, the next one goes on; `imapipe demo` shows the same with `kill -9`."""
    handled: list[int] = []
    enough = asyncio.Event()
    path = tour.folder / "state.json"
    job = tour.mailbox.search(q.ALL).limit(tour.messages).fetch("headers").batch(25)

    async def count(message: Message) -> None:
        handled.append(message.uid)
        if len(handled) >= tour.messages // 3:
            enough.set()
        await asyncio.sleep(0)

    run = asyncio.create_task(job.use(Checkpoint(path, when_complete="delete")).run(count))
    waiting = asyncio.create_task(enough.wait())
    await asyncio.wait([run, waiting], return_when=asyncio.FIRST_COMPLETED)
    run.cancel()
    waiting.cancel()
    await asyncio.wait([run, waiting])
    before, kept = len(handled), path.exists()
    report = await job.use(Checkpoint(path, when_complete="delete")).run(count)
    return {
        "handled_before_the_interruption": before,
        "checkpoint_kept": kept,
        "skipped_by_the_next_run": report.skipped,
        "done_by_the_next_run": report.done,
        "uids_repeated": len(handled) - len(set(handled)),
        "uids_lost": report.planned - len(set(handled)),
        "done_in_all_runs": report.done_all_runs,
        "checkpoint_removed_at_the_end": not path.exists(),
    }


# ----------------------------------------------------------------------------------------------------------------------
MONITORING = "Performance Monitoring"


@section(MONITORING, "Real-Time Performance Monitoring", "S14")
async def live_progress(tour: Tour) -> Figures:
    """A snapshot ten times a second, here kept in a list; `imapipe scan` draws a bar of them."""
    shown: list[ProgressSnapshot] = []
    job = tour.mailbox.search(q.ALL).limit(tour.messages).fetch("full").batch(50)
    job = job.use(Progress(shown.append, every_seconds=0.1), RateLimit(messages_per_second=tour.messages))
    await job.run(handle)
    middle = shown[len(shown) // 2]
    return {
        "snapshots": len(shown),
        "in_the_middle": {
            "settled": middle.settled,
            "planned": middle.planned,
            "messages_per_second": middle.messages_per_second,
            "bytes_per_second": middle.bytes_per_second,
            "eta_seconds": middle.eta_seconds,
            "batch_size": middle.batch_size,
            "connections": middle.connections,
            "waits": middle.waits,
        },
    }


@section(MONITORING, "Performance Analysis", "S15", "S23")
async def analysis(tour: Tour) -> Figures:
    """Every report has mean, extremes and quantiles, throughput and error rate; here every 50th message fails."""

    async def fail_sometimes(message: Message) -> None:
        if message.uid % 50 == 0:
            raise ValueError("for the error rate")

    report = await tour.mailbox.search(q.ALL).limit(tour.messages).fetch("envelope").batch(100).run(fail_sometimes)
    seconds = report.batch_seconds
    return {
        "started_at": report.started_at.isoformat(timespec="seconds"),
        "batches": seconds.count,
        "batch_seconds": {
            "mean": seconds.mean,
            "min": seconds.minimum,
            "max": seconds.maximum,
            "p50": seconds.p50,
            "p95": seconds.p95,
        },
        "mean_batch_size": report.batch_sizes.mean,
        "messages_per_second": report.messages_per_second,
        "error_rate": report.error_rate,
    }


@section(MONITORING, "Resource Usage Monitoring", "S16")
async def resources(tour: Tour) -> Figures:
    """What a run costs this process and how busy the machine is, sampled while it goes on."""
    report = await tour.mailbox.search(q.ALL).limit(tour.messages).fetch("full").run(handle)
    return {
        "peak_rss_bytes": report.peak_rss_bytes,
        "cpu_seconds": report.cpu_seconds,
        "event_loop_lag_p95_seconds": report.loop_lag_seconds.p95,
        "system_cpu_percent": report.system_cpu_percent,
        "system_memory_percent": report.system_memory_percent,
    }


# ----------------------------------------------------------------------------------------------------------------------
RATES = "Rate Limiting and Throttling"


@section(RATES, "Adaptive Rate Limiting", "S17")
async def adaptive_rate(tour: Tour) -> Figures:
    """The limit finds out what the server bears; the tour's refuses more than a hundred commands a second."""
    batches = Batches()
    hidden = Throttle(commands_per_second=100, commands=frozenset({"UID FETCH"}))
    # No account of yours shall be refused anything for a demonstration.
    limit = AdaptiveRateLimit(start_per_second=200 if tour.server is not None else 5)
    job = tour.mailbox.search(q.ALL).limit(tour.messages).fetch("flags").batch(max(1, tour.messages // 600))
    if tour.server is None:
        job = job.limit(400).batch(20)
    with tour.throttled(hidden):
        report = await job.use(Retry(), limit, batches).run(handle, connections=2)
    half = batches.sent_at[len(batches.sent_at) // 2 :]
    return {
        "done": report.done,
        "commands": len(batches.sent_at),
        "refused_as_too_much": hidden.refused,
        "came_to_per_second": limit.rate_per_second,
        "commands_per_second_in_the_second_half": (len(half) - 1) / (half[-1] - half[0]),
    }


@section(RATES, "Fixed Rate Limiting", "S18")
async def fixed_rate(tour: Tour) -> Figures:
    """Twenty commands a second on all connections together, in four hundred messages a second."""
    batches = Batches()
    limit = RateLimit(commands_per_second=20)
    await tour.mailbox.search(q.ALL).limit(800).fetch("flags").batch(20).use(limit, batches).run(handle)
    return {"asked_for": 20, "commands": len(batches.seen), "commands_per_second": batches.per_second}


@section(RATES, "Burst Protection", "S19")
async def bursts(tour: Tour) -> Figures:
    """After a pause five commands may pass within a second, then two a second."""
    batches = Batches()
    limit = RateLimit(commands_per_second=2, burst=5)
    await tour.mailbox.search(q.ALL).limit(80).fetch("flags").batch(10).use(limit, batches).run(handle)
    return {
        "burst": 5,
        "sent_after_seconds": since_first(batches.sent_at),
        "most_in_a_second": most_in_a_second(batches),
    }


def since_first(times: Sequence[float]) -> list[float]:
    return [time - times[0] for time in times]


def most_in_a_second(batches: Batches) -> int:
    times = batches.sent_at
    return max(sum(start <= time < start + 1 for time in times) for start in times)


# ----------------------------------------------------------------------------------------------------------------------
ERRORS = "Retry and Timeouts"


@section(ERRORS, "Retry with Exponential Backoff", "S21")
async def retries(tour: Tour) -> Figures:
    """At the tour's server a connection is cut, a batch is refused, and one message cannot be read."""
    handled: list[int] = []

    async def count(message: Message) -> None:
        handled.append(message.uid)

    job = tour.mailbox.search(q.ALL).limit(1000).fetch("full").batch(100).use(Retry(3, wait_initial_seconds=0.1))
    with tour.trouble(
        CutAfterBytes(100_000, command="UID FETCH", nth=3),
        Reply("NO", "Server busy", code="UNAVAILABLE", command="UID FETCH", nth=6),
        PoisonUids({500}),
    ):
        report = await job.run(count, connections=2)
    again = await job.only_failed(report).run(count)
    return {
        "planned": report.planned,
        "done": report.done,
        "retries": report.retries,
        "reconnects": report.reconnects,
        "failed": {str(uid): failure.reason for uid, failure in report.failures.items()},
        "done_when_only_the_failed_were_tried_again": again.done,
        "handled_twice": len(handled) - len(set(handled)),
    }


@section(ERRORS, "Timeouts", "S21", "S23")
async def timeouts(tour: Tour) -> Figures:
    """How long a server may be silent is a parameter, a minute by default; the tour's is, once, for too long."""
    patience = 0.3 if tour.server is not None else 60.0
    async with imapipe.create_pool(tour.url, password=tour.password, command_timeout_seconds=patience) as pool:
        job = pool.mailbox(tour.mailbox_name).search(q.ALL).limit(100).fetch("flags")
        with tour.trouble(Delay(0.5, command="UID FETCH", nth=1)):
            report = await job.use(Retry(3, wait_initial_seconds=0.1)).run(handle)
    return {"done": report.done, "retries": report.retries, "elapsed_seconds": report.elapsed_seconds}


# ----------------------------------------------------------------------------------------------------------------------
REPORTS = "Performance Report"


@section(REPORTS, "Report as JSON", "S20", "S23")
async def saved_report(tour: Tour) -> Figures:
    """The report of a run is one JSON document, and a table for people."""
    report = await tour.mailbox.search(q.ALL).limit(tour.messages).fetch("envelope").run(handle)
    path = tour.folder / "report.json"
    path.write_text(report.to_json(), encoding="utf-8")
    document = orjson.loads(path.read_bytes())
    return {
        "bytes": path.stat().st_size,
        "fields": len(document),
        "same_as_the_report": document["done"] == report.done,
        "lines_of_the_table": len(report.table().splitlines()),
    }


@section(REPORTS, "An Empty Mailbox", "S23")
async def empty_mailbox(tour: Tour) -> Figures:
    """Nothing to do is no error: a complete report of zeros."""
    nothing = q.keyword("imapipe-no-such-keyword")
    report = await tour.mailbox.search(nothing).fetch("full").run(handle)
    return {"complete": report.complete, "planned": report.planned, "done": report.done, "failed": report.failed}


# ----------------------------------------------------------------------------------------------------------------------
PRACTICES = "Best Practices for Large Volumes"


@section(PRACTICES, "What the Defaults Do", "S22")
async def defaults(tour: Tour) -> Figures:
    """A job without a single option, and what it did: the page `docs/large_volume.md` goes through the list."""
    batches = Batches()
    async with imapipe.create_pool(tour.url, password=tour.password) as pool:
        mailbox = pool.mailbox(tour.mailbox_name)
        before = await mailbox.status()
        report = await mailbox.search(q.ALL).limit(tour.messages).fetch("full").use(batches).run(handle)
        after = await mailbox.status()
        connections = pool.stats.opened
    return {
        "connections": connections,
        "largest_batch": max(batches.sizes, default=0),
        "marked_as_read": (before.unseen or 0) - (after.unseen or 0),
        "watched_without_being_asked": report.messages_per_second > 0,
    }


if __name__ == "__main__":
    raise SystemExit(main("Large mailboxes with imapipe: a tour in which every figure is measured."))
