"""Running one entry of a row once, in a process of its own."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Final

from benchmarks.changes import take_back
from benchmarks.databases import Databases
from benchmarks.job import CHANGES, Job, Outcome
from benchmarks.peers import ROOT, Peers
from benchmarks.row import Entry, Row
from benchmarks.tally import Expected
from dovecot_server import DovecotServer

TIMEOUT_SECONDS: Final = 300.0


class SubjectFailed(Exception):
    """A subject is absent, ended badly, hung, or read something else than what was stored; the text says which."""


class Runner:
    """Runs entries against the server of the suite.

    Args:
        server: The server.
        peers: Knows the subjects.
        mail: Where the server keeps the mail of its users; what was copied is removed there.
        databases: Where entries with the option `database` get one.
    """

    def __init__(
        self, server: DovecotServer, peers: Peers, mail: Path | None = None, databases: Databases | None = None
    ) -> None:
        self._server = server
        self._peers = peers
        self._mail = mail
        self._databases = databases
        self._targets = itertools.count()

    def run(self, row: Row, entry: Entry, expected: Expected | None, *, port: int, verify: bool) -> Outcome:
        """Run an entry once and check what it read.

        Args:
            row: The row it is in.
            entry: Which entry.
            expected: What the whole mailbox adds up to for this work; None where no mail is read.
            port: Where to connect.
            verify: Compare the digest too; such a run is not timed.

        Raises:
            SubjectFailed: No figure of this run may be used.
        """
        searches = 1 if verify else row.searches
        options = {**entry.options, **({"search": "UNSEEN", "searches": str(searches)} if row.work == "search" else {})}
        target = f"copied{os.getpid()}x{next(self._targets)}" if row.work == "copy" else ""
        if target:
            options["target"] = target
        if "database" in options:
            options["dsn"] = self._new_database()
        job = Job(
            host=self._server.host,
            port=port,
            user=row.mailbox.user if row.mailbox else "",
            password=self._server.password,
            work=row.work,
            count=row.mailbox.count if row.mailbox else 0,
            verify=verify,
            batch=entry.batch,
            connections=entry.connections,
            options=options,
            certificate=str(self._server.certificate_file) if row.tls else "",
        )
        try:
            command = self._peers.command(entry.subject)
        except FileNotFoundError as error:
            raise SubjectFailed(f"absent: {error}") from error
        if row.work in CHANGES:
            # What another run left; the mailbox that messages are moved to is there from then on.
            take_back(self._server, job.user, row.work)
        try:
            outcome = _run(command, job)
        finally:
            if target and self._mail is not None:
                shutil.rmtree(self._mail / target, ignore_errors=True)
        if row.work in CHANGES and (changed := take_back(self._server, job.user, row.work)) != job.count:
            raise SubjectFailed(f"changed {changed:,} of {job.count:,} messages")
        if self._databases is not None and "dsn" in options:
            transactions, rows = self._databases.written(options["dsn"])
            outcome.notes["transactions"] = transactions / job.count * 1e6
            outcome.notes["rows"] = rows / job.count * 1e6
        if expected is not None and entry.subject != "drain":
            _check(outcome, expected, searches, verify=verify)
        elif verify and row.work not in {"", "search"} and outcome.count != job.count:
            raise SubjectFailed(f"received {outcome.count:,} responses for {job.count:,} messages")
        return outcome

    def _new_database(self) -> str:
        if self._databases is None:
            raise SubjectFailed("absent: a database")
        try:
            return self._databases.new()
        except FileNotFoundError as error:
            raise SubjectFailed(f"absent: {error}") from error


def _run(command: list[str], job: Job) -> Outcome:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    # Where it is set, every import would compile its source again.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    # A session of its own, so that a subject that hangs can be ended with whatever it has started.
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(job.to_json(), timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise SubjectFailed(f"did not end within {TIMEOUT_SECONDS:.0f} s") from None
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode != 0:
        lines = errors.strip().splitlines() or [f"ended with status {process.returncode}"]
        raise SubjectFailed(lines[-1][:300])
    return Outcome.from_json(output.strip().splitlines()[-1])


def _check(outcome: Outcome, expected: Expected, times: int, *, verify: bool) -> None:
    if (outcome.count, outcome.total) != (expected.count * times, expected.total * times):
        raise SubjectFailed(f"read {outcome.count:,} messages (sum {outcome.total:,}), stored were {expected.count:,}")
    if verify and outcome.digest != expected.digest:
        raise SubjectFailed("what it read is not what was stored: the digests differ")
