"""The three threads of a store that is in use: what they do for all keys that it holds.

The *writer* has a connection and does all that is asked for, and writes what was appended: whatever has come since its
last transaction goes into the next one, of all keys together. The *keeper* has a connection of its own and prolongs the
leases, at a third of them; a write that takes long, or an event loop that is blocked, does not keep it from that. The
*watch* does nothing but look at the clock: it says that a lease is lost, whatever the other two are waiting for.

Invariants:

- A lease counts from before it was asked for. What was lost is never written to again (`held_keys`).
- What could not be written because the database is away is written again on another connection, until the lease ends.
- What goes wrong for good with one key is told to that key, and the others are written.
- Nothing in here is used by a process that was forked: its threads are not there.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Final, TypeVar

from imapipe.database import Connection, Database, migrate
from imapipe.errors import CheckpointError, CheckpointLocked, DatabaseError
from imapipe.runtime.backoff import Backoff
from imapipe.runtime.clock import uptime
from imapipe.store.base import Lost
from imapipe.store.job_key import JobKey
from imapipe.store.sql import tables
from imapipe.store.sql.held import Held, KeyRequest, Portion
from imapipe.store.sql.held_keys import TAKEN_OVER, HeldKeys
from imapipe.store.sql.holder import Holder, is_dead

T = TypeVar("T")

_log = logging.getLogger(__name__)

_RENEWALS: Final = 3
_FIRST_PAUSE_SECONDS: Final = 0.02
_LONGEST_PAUSE_SECONDS: Final = 1.0
_HOLDER_BYTES: Final = 8


class Engine:
    """The threads of a store, from its first key to its last.

    Args:
        database: For what is written.
        keeping: The same, with the shorter limits of renewals.
        lease_seconds: How long a lease is.
    """

    def __init__(self, database: Database, keeping: Database, lease_seconds: float) -> None:
        self.name = database.name
        self.users = 0
        self.pid = os.getpid()
        self._database = database
        self._keeping = keeping
        self._lease_seconds = lease_seconds
        self._lease_ms = round(lease_seconds * 1_000)
        self._holder = secrets.token_hex(_HOLDER_BYTES)
        self._held_by = Holder.ours().to_json()
        self._backoff = Backoff(_FIRST_PAUSE_SECONDS, min(_LONGEST_PAUSE_SECONDS, lease_seconds / 10))
        self._keys = HeldKeys(database.name, lease_seconds)
        self._changed = self._keys.changed
        self._ending = threading.Event()
        self._tasks: deque[Callable[[], None]] = deque()
        self._connection: Connection | None = None
        self._was_connected = False
        self._refused: DatabaseError | None = None
        self._threads = [
            threading.Thread(target=work, name=f"imapipe-checkpoint-{name}", daemon=True)
            for name, work in (("writer", self._write_all), ("keeper", self._keep_all), ("watch", self._watch_all))
        ]

    # ------------------------------------------------------------ from outside

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Let the threads end when all is done that was asked for."""
        self._ending.set()
        with self._changed:
            self._changed.notify()

    def join(self, seconds: float) -> None:
        """Wait for the threads, each for so long: one may be waiting for a database that is gone."""
        for thread in self._threads:
            thread.join(seconds)

    def ask(self, function: Callable[[Connection], T]) -> Future[T]:
        """Let the writer do something with its connection, whole or not at all; again where the connection was lost."""
        done: Future[T] = Future()

        def work() -> None:
            if done.set_running_or_notify_cancel():
                try:
                    result = self._insist(function)
                except BaseException as error:  # noqa: BLE001 - it is the caller's, whatever it is
                    done.set_exception(error)
                else:
                    done.set_result(result)

        with self._changed:
            self._tasks.append(work)
            self._changed.notify()
        return done

    def take(self, key: JobKey, lost: Lost, connection: Connection) -> Held:
        """Take a key; for `ask`.

        Raises:
            CheckpointLocked: Another has it.
            DatabaseError: It could not be asked for.
        """
        if tables.key_of(key) in self._keys:
            raise CheckpointLocked(f"another run of this process has the job on {key.mailbox!r}", path=self.name)
        asked = uptime()
        # What the database knows as ours, and we do not, is of a take whose answer was lost.
        taken = tables.take(
            connection, key, holder=self._holder, held_by=self._held_by, lease_ms=self._lease_ms, is_dead=is_dead
        )
        if isinstance(taken, tables.Lease):
            raise self._locked(key, taken)
        held = Held(key, taken.token, self._keys.end_of(asked), lost, found=taken.rows)
        self._keys.add(held)
        return held

    def _locked(self, key: JobKey, lease: tables.Lease) -> CheckpointLocked:
        until = datetime.fromtimestamp(lease.ends_ms / 1_000, UTC)
        by = Holder.from_json(lease.held_by) or "another run"
        return CheckpointLocked(
            f"the job on {key.mailbox!r} is held by {by} until {until:%Y-%m-%d %H:%M:%S} UTC, "
            f"{max(0, lease.left_ms) / 1_000:.1f} s from now, unless that prolongs it",
            path=self.name,
        )

    def tell(self, held: Held, change: Callable[[], None]) -> None:
        """Change what waits to be written, and let it be written.

        Raises:
            CheckpointError: What went wrong since the last call.
        """
        self._check_process()
        self._keys.tell(held, change)

    def request(self, held: Held, request: KeyRequest) -> Future[object]:
        """Let something be done for a key, after all that was appended; raises as `tell`."""
        self.tell(held, lambda: setattr(held, "request", request))
        return request.done

    # ------------------------------------------------------------ the writer

    def _write_all(self) -> None:
        try:
            self._connect_ahead()
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._tasks or self._keys.have_news or self._ending.is_set())
                    tasks = list(self._tasks)
                    self._tasks.clear()
                    if not (tasks or self._keys.have_news):
                        return
                for task in tasks:
                    task()
                self._write_news()
        finally:
            self._disconnect()

    def _connect_ahead(self) -> None:
        """Connect before there is anything to do; it is tried again when there is, except for who waits already."""
        try:
            self._connected()
        except DatabaseError as error:
            with self._changed:
                self._refused = error if self._tasks else None
        except Exception as error:  # noqa: BLE001 - whoever asks for something is told
            _log.debug("%s", error)

    def _insist(self, function: Callable[[Connection], T]) -> T:
        """Call a function with the connection; where that is lost again with another one, while a lease would last."""
        until = uptime() + self._lease_seconds
        tries = 0
        while True:
            try:
                return function(self._connected())
            except DatabaseError as error:
                self._met(error)
                tries += 1
                # An address that never worked is wrong, rather than of a database that is away.
                if not (error.is_transient and self._was_connected) or uptime() >= until:
                    raise CheckpointError(error.reason, path=self.name) from error
                self._pause(tries, error)

    def _write_news(self) -> None:
        """Write what there is, until it is written or the keys are lost; what comes meanwhile goes with it."""
        news: dict[bytes, Held] = {}
        tries = 0
        while True:
            news |= self._keys.take_news()
            portions = self._keys.portions(news.values())
            if not portions:
                return
            try:
                self._write(portions)
            except DatabaseError as error:
                self._met(error)
                if error.is_transient:
                    tries += 1
                    self._pause(tries, error)
                    continue
                self._write_apart(portions)
            except Exception:  # noqa: BLE001 - told apart there
                self._write_apart(portions)
            return

    def _write_apart(self, portions: Sequence[Portion]) -> None:
        """Write each by itself, since something is wrong with one of them."""
        for portion in portions:
            try:
                self._write([portion])
            except DatabaseError as error:
                self._met(error)
                if error.is_transient:
                    self._keys.put_back(portion.held)
                else:
                    self._keys.fail(portion, CheckpointError(error.reason, path=self.name), error)
            except CheckpointError as error:
                self._keys.fail(portion, error)
            except Exception as error:  # noqa: BLE001 - a thread that dies would leave everybody waiting
                unexpected = CheckpointError(f"{type(error).__name__}: {error}", path=self.name)
                self._keys.fail(portion, unexpected, error)

    def _write(self, portions: Sequence[Portion]) -> None:
        for portion in portions:
            if portion.is_written:
                # It was asked for while that was under way.
                self._keys.settle(portion, None, durable=False)
        portions = [portion for portion in portions if not portion.is_written]
        if not portions:
            return
        connection = self._connected()
        durable = any(portion.is_durable for portion in portions)
        taken_over = tables.write(connection, [portion.write() for portion in portions], durable=durable)
        for portion in portions:
            if portion.held.digest in taken_over:
                self._keys.lose(portion.held, TAKEN_OVER)
            else:
                self._keys.settle(portion, portion.read(connection), durable=durable)

    def _connected(self) -> Connection:
        refused, self._refused = self._refused, None
        if refused is not None:
            raise refused
        if self._connection is None:
            connection = self._database.connect()
            try:
                migrate(connection, tables.COMPONENT, tables.STEPS, database=self.name)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
            self._was_connected = True
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _met(self, error: DatabaseError) -> None:
        self._keys.trouble = error.reason
        _log.debug("%s", error)
        if error.is_lost:
            self._disconnect()

    def _pause(self, tries: int, error: DatabaseError) -> None:
        time.sleep(self._backoff.seconds(tries, error))

    # ------------------------------------------------------------ the keeper

    def _keep_all(self) -> None:
        connection: Connection | None = None
        tries = 0
        pause = self._lease_seconds / _RENEWALS
        while not self._ending.wait(pause):
            pause = self._lease_seconds / _RENEWALS
            try:
                if connection is None:
                    connection = self._keeping.connect()
                self._renew(connection)
                if tries:
                    _log.warning("the leases of checkpoints are prolonged again: %s", self.name)
                tries, self._keys.trouble = 0, ""
            except DatabaseError as error:
                self._keys.trouble = error.reason
                if not tries:
                    _log.warning("the leases of checkpoints are not prolonged: %s", error)
                if connection is not None and error.is_lost:
                    connection.close()
                    connection = None
                tries += 1
                pause = self._backoff.seconds(tries, error)
        if connection is not None:
            connection.close()

    def _renew(self, connection: Connection) -> None:
        several = self._keys.all()
        if not several:
            return
        asked = uptime()
        tokens = tables.renew(
            connection, [held.digest for held in several], holder=self._holder, lease_ms=self._lease_ms
        )
        for held in several:
            if tokens.get(held.digest) == held.token:
                held.ends = self._keys.end_of(asked)
            else:
                self._keys.lose(held, TAKEN_OVER)

    # ------------------------------------------------------------ the watch

    def _watch_all(self) -> None:
        pause = 0.0
        while not self._ending.wait(pause):
            pause = self._keys.lose_overdue()

    def _check_process(self) -> None:
        if self.pid != os.getpid():
            raise CheckpointError(f"process {self.pid} opened it, and this one is a fork of that", path=self.name)
