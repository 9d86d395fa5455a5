"""Everything that is there while the example runs: database, mail servers, workers, and the networks between them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, LiteralString

import psutil
import psycopg

from cable import Cable
from mail_servers import Seen
from population import population
from postgres_server import PostgresServer
from trouble import KINDS
from workers import Worker

_HERE: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is run.

    Attributes:
        workers: How many workers.
        accounts: How many accounts.
        messages: Messages of each account, on average.
        concurrency: Tasks that a worker has in hand at once.
        lease_seconds: After so long without a sign of life another worker goes on.
        connection_bytes_per_second: What the mail servers let through on each connection.
        latency_ms: How long the mail servers take for an answer.
        trouble: The kinds of trouble.
        times: How often there is trouble.
        seed: Chooses the trouble.
        has_rates: Whether some accounts have a rate.
        only_look: Whether every mailbox is left out, so that jobs look at their account and end.
        idle_seconds: How long idle workers are watched before there is anything to do.
        timeout_seconds: After so long it is given up.
    """

    workers: int = 3
    accounts: int = 50
    messages: int = 400
    concurrency: int = 10
    lease_seconds: float = 3.0
    connection_bytes_per_second: float = 100_000.0
    latency_ms: float = 5.0
    trouble: tuple[str, ...] = KINDS
    times: int = 15
    seed: int = 1
    has_rates: bool = True
    only_look: bool = False
    idle_seconds: float = 0.0
    timeout_seconds: float = 1800.0


# What the witness writes is no part of it.
_WRITES: Final = """
SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) FROM pg_stat_user_tables WHERE relname <> 'witness'
"""


class Stage:
    """Everything that is there while the example runs; a context manager that ends it all."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self._setting = setting
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self.accounts = population(setting.accounts, setting.messages)
        if not setting.has_rates:
            self.accounts = [replace(account, messages_per_second=None) for account in self.accounts]
        self.database = PostgresServer()
        self.networks: list[Cable] = []
        self.workers: list[Worker] = []
        self.dsn = ""
        self._mail: subprocess.Popen[str] | None = None

    def __enter__(self) -> Stage:
        setting = self._setting
        with self._stack:
            self._stack.enter_context(self.database)
            self.dsn = self.database.new_database()
            self._mail = self._serve_mail()
            assert self._mail.stdout is not None
            urls: dict[str, str] = json.loads(self._mail.stdout.readline())
            told = {
                account.name: {
                    "url": urls[account.name],
                    "connections": account.connections,
                    "messages_per_second": account.messages_per_second,
                }
                for account in self.accounts
            }
            (self._folder / "accounts.json").write_text(json.dumps(told), encoding="utf-8")
            for number in range(1, setting.workers + 1):
                network = self._stack.enter_context(Cable(self.database.port))
                dsn = self.dsn.replace(f":{self.database.port}/", f":{network.port}/")
                log = self._folder / f"worker-{number}.log"
                worker = Worker(number, self.environment(dsn), log, concurrency=setting.concurrency)
                self._stack.callback(worker.end)
                self.networks.append(network)
                self.workers.append(worker)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def environment(self, dsn: str) -> dict[str, str]:
        """What `mail_jobs` reads."""
        return {
            "IMAPIPE_DATABASE": dsn,
            "CLUSTER_ACCOUNTS": str(self._folder / "accounts.json"),
            "CLUSTER_FOLDER": str(self._folder),
            "CLUSTER_LEASE_SECONDS": f"{self._setting.lease_seconds:g}",
            "CLUSTER_BLOCK_SECONDS": f"{self._setting.lease_seconds * 1.6:g}",
        }

    def end_mail(self) -> dict[str, Seen]:
        """End the mail servers; what they saw."""
        assert self._mail is not None
        out, _ = self._mail.communicate(timeout=120)
        return {name: Seen(**seen) for name, seen in json.loads(out).items()}

    def spent(self) -> dict[str, float]:
        """Processor time and rows written so far; not to be asked for while there is trouble."""
        assert self._mail is not None
        return {
            "workers_cpu_seconds": sum(worker.cpu_seconds for worker in self.workers),
            "servers_cpu_seconds": _cpu_seconds(psutil.Process(self._mail.pid)),
            "database_cpu_seconds": self._database_cpu_seconds,
            "database_writes": float(number_of(self.dsn, _WRITES)),
        }

    @property
    def _database_cpu_seconds(self) -> float:
        """Those of its processes included that have ended."""
        pid = (self.database.directory / "data" / "postmaster.pid").read_text(encoding="ascii").split()[0]
        main = psutil.Process(int(pid))
        times = main.cpu_times()
        ended = times.children_user + times.children_system
        return ended + _cpu_seconds(main) + sum(map(_cpu_seconds, main.children()))

    def _serve_mail(self) -> subprocess.Popen[str]:
        setting = self._setting
        command = [sys.executable, str(_HERE / "mail_servers.py"), str(setting.accounts), str(setting.messages)]
        command += ["--connection-bytes-per-second", str(setting.connection_bytes_per_second)]
        command += ["--latency-ms", str(setting.latency_ms)]
        mail = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._stack.callback(_end_process, mail)
        return mail


def _cpu_seconds(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


def _end_process(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
    process.communicate()


def number_of(dsn: str, query: LiteralString) -> int:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])
