"""What limits that processes share cost: a slot, a quantum of a rate, the bytes of a batch, the renewal of a lease.

    python -m benchmarks.limits [--times 2000]

It starts a PostgreSQL on loopback, and makes an SQLite file beside it. Each figure is the time until the answer, in
milliseconds, without anybody else who wants the same, beside a statement that asks for nothing; the last one is with
eight threads at one account.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from imapipe.cluster import slot_rows
from imapipe.cluster.day_bytes import DayBytes
from imapipe.cluster.process import Process
from imapipe.cluster.reservations import Reservations
from imapipe.cluster.schema import COMPONENT, STEPS
from imapipe.cluster.slot_rows import SlotRequest, Worker
from imapipe.database import Connection, Database, migrate
from postgres_server import PostgresServer

_LEASE_MS: Final = 600_000
_CROWD: Final = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=2_000, help="how often each is done")
    times = parser.parse_args().times
    print(f"{'milliseconds':44}{'median':>9}{'p99':>9}")
    with PostgresServer() as postgres, tempfile.TemporaryDirectory() as folder:
        for name, dsn in (("PostgreSQL", postgres.new_database()), ("SQLite", str(Path(folder) / "limits.db"))):
            _measure(name, Database(dsn), times)


def _measure(name: str, database: Database, times: int) -> None:
    with database.connect() as connection:
        migrate(connection, COMPONENT, STEPS)
        worker = _worker(connection, "bench")
        held = [0]

        def slot() -> None:
            answer = slot_rows.exchange(connection, worker, SlotRequest("bench.1", "ann", 10, held[0], 1 - held[0]))
            assert answer is not None
            held[0] = answer.granted

        _tell(f"{name}: SELECT 1", [_seconds(lambda: connection.query("SELECT 1")) for _ in range(times)])
        _tell(f"{name}: a slot taken, or given back", [_seconds(slot) for _ in range(times)])
        renewals = [_seconds(lambda: slot_rows.renew(connection, worker)) for _ in range(times)]
        _tell(f"{name}: a lease renewed", renewals)
    asyncio.run(_measure_rates(name, database, times))
    with _crowd(database, times // _CROWD) as seconds:
        _tell(f"{name}: a slot, {_CROWD} at one account", seconds)


async def _measure_rates(name: str, database: Database, times: int) -> None:
    reservations = Reservations(database, wait_seconds=10)
    place = DayBytes(database, _identity("0123456789abcdef"), be_there=lambda: None, wait_seconds=10)
    account = place.of("ann")
    try:
        seconds = []
        for _ in range(times):
            began = time.perf_counter()
            await reservations.reserve("ann", "messages", cost_seconds=0.05, credit_seconds=0.0)
            seconds.append(time.perf_counter() - began)
        _tell(f"{name}: a quantum of a rate reserved", seconds)
        seconds = []
        for _ in range(times // 2):
            began = time.perf_counter()
            async with account.hold(place.now()) as row:
                row.under_way[account.token] = 1, 1_000
            seconds.append(time.perf_counter() - began)
        _tell(f"{name}: a batch counted by its bytes", seconds)
    finally:
        await asyncio.to_thread(reservations.close)
        await asyncio.to_thread(place.close)


@contextmanager
def _crowd(database: Database, times: int) -> Iterator[list[float]]:
    """Threads with a connection each that take and give back slots of one account."""
    seconds: list[float] = []

    def work(number: int) -> None:
        with database.connect() as connection:
            worker = _worker(connection, f"crowd{number}")
            held = 0
            for _ in range(times):
                began = time.perf_counter()
                request = SlotRequest(f"{worker.name}.1", "crowded", _CROWD, held, 1 - held)
                answer = slot_rows.exchange(connection, worker, request)
                assert answer is not None
                seconds.append(time.perf_counter() - began)
                held = answer.granted

    threads = [threading.Thread(target=work, args=(number,)) for number in range(_CROWD)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    yield seconds


def _identity(name: str) -> Worker:
    return Worker(name, Process.this(), _LEASE_MS, 0, fresh_ms=1_000)


def _worker(connection: Connection, name: str) -> Worker:
    worker = _identity(name)
    slot_rows.register(connection, worker)
    return worker


def _seconds(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def _tell(what: str, seconds: list[float]) -> None:
    p99 = statistics.quantiles(seconds, n=100)[98]
    print(f"{what:44}{1_000 * statistics.median(seconds):9.2f}{1_000 * p99:9.2f}")


if __name__ == "__main__":
    main()
