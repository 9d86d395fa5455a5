"""imapipe: one `run` with its default settings, unless the options of the job say otherwise.

Options: `batches` = "fixed" (batches of `job.batch`), `depth`, `loop` = "uvloop", `compress` = "on" or "off",
`fetch` (a preset), `prefer_plain`, `layers` (names of `_LAYERS`, separated by commas).
"""

from __future__ import annotations

import asyncio
import importlib
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

# What is imported when it is first used; as with the peers, that belongs before the clock.
import aiolimiter  # noqa: F401
import filelock  # noqa: F401
import psutil  # noqa: F401
import tenacity  # noqa: F401

import imapipe
import imapipe.client
import imapipe.middleware.base
from benchmarks.job import Job
from benchmarks.meter import Meter
from benchmarks.tally import Person, Tally
from imapipe import search as q
from imapipe.store import SqlCheckpointStore

VERSION: Final = imapipe.__version__
_CHUNK: Final = 1 << 18
_PRESETS: Final = {"metadata": "envelope", "fields": "envelope", "bodies": "full", "large": "full", "text": "full"}
# Made of a folder for its files, and of the address of a database or "".
_LAYERS: Final[dict[str, Callable[[Path, str], imapipe.Middleware]]] = {
    "Progress": lambda *_: imapipe.Progress(lambda _: None),
    "Metrics": lambda *_: imapipe.Metrics(),
    "Checkpoint": lambda folder, _: imapipe.Checkpoint(folder / "state.json"),
    "SqlCheckpoint": lambda folder, dsn: imapipe.Checkpoint(SqlCheckpointStore(dsn or folder / "state.db")),
    "Retry": lambda *_: imapipe.Retry(attempts=5),
    "RateLimit": lambda *_: imapipe.RateLimit(messages_per_second=10_000_000),
    "AdaptiveRateLimit": lambda *_: imapipe.AdaptiveRateLimit(1_000_000),
    "ByteBudget": lambda *_: imapipe.ByteBudget(10**12),
    "OpenTelemetry": lambda *_: imapipe.OpenTelemetry(),
}
_Handler = Callable[[imapipe.Message], Awaitable[None]]


def run(job: Job, tally: Tally, meter: Meter) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="imapipe-bench-") as folder:
        main = _run(job, tally, meter, Path(folder))
        if job.options.get("loop") != "uvloop":
            return asyncio.run(main)
        uvloop: Any = importlib.import_module("uvloop")
        notes: dict[str, float] = uvloop.run(main)
        return notes


async def _run(job: Job, tally: Tally, meter: Meter, folder: Path) -> dict[str, float]:
    async with imapipe.create_pool(
        f"{'imaps' if job.certificate else 'imap'}://{job.user}@{job.host}:{job.port}",
        password=job.password,
        ssl_context=job.ssl_context(),
        max_size=job.connections,
        compress={"on": True, "off": False}.get(job.options.get("compress", ""), "auto"),
    ) as pool:
        pipeline = pool.mailbox("INBOX").search(q.ALL)
        if job.work == "search":
            for _ in range(int(job.options["searches"])):
                tally.found(await pool.mailbox("INBOX").search(q.UNSEEN).uids())
            meter.stop()
            return {}
        pipeline = pipeline.fetch(
            job.options.get("fetch") or _PRESETS.get(job.work, job.work), prefer_plain="prefer_plain" in job.options
        )
        if job.options.get("batches") == "fixed":
            pipeline = pipeline.batch(job.batch)
        if "depth" in job.options:
            pipeline = pipeline.depth(int(job.options["depth"]))
        if "layers" in job.options:
            dsn = job.options.get("dsn", "")
            pipeline = pipeline.use(*(_LAYERS[name](folder, dsn) for name in job.options["layers"].split(",")))
        read = _VERIFYING[job.work](tally) if job.verify else _READING[job.work](tally)
        report = await pipeline.run(read, concurrency=8, connections=job.connections)
        meter.stop()
        if not report.complete:
            raise RuntimeError(report.table())
        return {"wire_bytes": float(report.wire_bytes)}


# What a user would write; the sums of `Tally` are made in place, where a call would cost as much as the reading.


def _metadata(tally: Tally) -> _Handler:
    async def read(message: imapipe.Message) -> None:
        tally.count += 1
        tally.total += message.uid + message.size + len(message.flags)

    return read


def _flags(tally: Tally) -> _Handler:
    async def read(message: imapipe.Message) -> None:
        tally.count += 1
        tally.total += message.uid + len(message.flags)

    return read


def _fields(tally: Tally) -> _Handler:
    async def read(message: imapipe.Message) -> None:
        envelope = message.envelope
        _ = (message.internal_date, message.flags, envelope.date, envelope.subject, envelope.sender)
        _ = (envelope.reply_to, envelope.bcc, envelope.in_reply_to, envelope.message_id)
        tally.count += 1
        tally.total += message.uid + message.size + len(envelope.from_) + len(envelope.to) + len(envelope.cc)

    return read


def _headers(tally: Tally) -> _Handler:
    async def read(message: imapipe.Message) -> None:
        tally.count += 1
        tally.total += len(message.headers.raw)

    return read


def _bodies(tally: Tally) -> _Handler:
    async def read(message: imapipe.Message) -> None:
        tally.count += 1
        tally.total += len(message.body)

    return read


def _text(tally: Tally) -> _Handler:
    async def read(message: imapipe.Message) -> None:
        tally.count += 1
        tally.total += message.uid if message.text else 0

    return read


def _large(tally: Tally) -> _Handler:
    async def read(message: imapipe.Message) -> None:
        tally.count += 1
        with message.open() as file:
            while chunk := file.read(_CHUNK):
                tally.total += len(chunk)

    return read


_READING: Final[dict[str, Callable[[Tally], _Handler]]] = {
    "metadata": _metadata,
    "flags": _flags,
    "fields": _fields,
    "headers": _headers,
    "bodies": _bodies,
    "text": _text,
    "large": _large,
}


def _verifying(read: Callable[[Tally, imapipe.Message], None]) -> Callable[[Tally], _Handler]:
    """A handler that hands what it reads to the tally."""

    def of(tally: Tally) -> _Handler:
        async def handle(message: imapipe.Message) -> None:
            read(tally, message)

        return handle

    return of


def _verify_fields(tally: Tally, message: imapipe.Message) -> None:
    envelope = message.envelope
    date = envelope.date.timestamp() if envelope.date is not None else 0.0
    people = (_people(envelope.from_), _people(envelope.to), _people(envelope.cc))
    tally.fields((message.uid, message.flags, message.size), date, envelope.subject, people)


def _people(addresses: tuple[imapipe.Address, ...]) -> list[Person]:
    return [Person(address.name, address.email) for address in addresses]


_VERIFYING: Final[dict[str, Callable[[Tally], _Handler]]] = {
    "metadata": _verifying(lambda tally, message: tally.metadata(message.uid, message.flags, message.size)),
    "flags": _verifying(lambda tally, message: tally.flags(message.uid, message.flags)),
    "fields": _verifying(_verify_fields),
    "headers": _verifying(lambda tally, message: tally.content(message.uid, message.headers.raw)),
    "bodies": _verifying(lambda tally, message: tally.content(message.uid, message.body)),
    "text": _verifying(lambda tally, message: tally.text(message.uid, message.text)),
    "large": _verifying(lambda tally, message: tally.content(message.uid, message.body)),
}
