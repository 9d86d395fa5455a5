"""`Limits`: connections, rates and bytes a day of accounts, held over all processes that name the same database."""

from __future__ import annotations

import asyncio
import os
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self

from imapipe.cluster.day_bytes import DayBytes
from imapipe.cluster.keeper import Keeper
from imapipe.cluster.reservations import Reservations
from imapipe.cluster.schema import COMPONENT, STEPS
from imapipe.database import Database, migrate
from imapipe.limits.byte_budget import ByteBudget, SharedByteBudget
from imapipe.limits.rate_limit import RateLimit
from imapipe.limits.shared_rate_limit import SharedRateLimit
from imapipe.models.argument import check_number, check_whole

if TYPE_CHECKING:
    from imapipe.client import Pool

_CLEAN: Final = (
    """DELETE FROM imapipe_accounts WHERE used_ms < now_ms() - :age
    AND account NOT IN (SELECT account FROM imapipe_slots)""",
    "DELETE FROM imapipe_rates WHERE used_ms < now_ms() - :age",
    "DELETE FROM imapipe_bytes WHERE used_ms < now_ms() - :age",
)


class Limits:
    """What accounts may be asked for, over all processes that use the same database.

    ::

        async with Limits("postgresql://mail@db.example.org/mail") as limits:
            async with create_pool(url, password=secret, max_size=4) as pool:
                limits.connections(pool, 10)
                job = pool.mailbox("INBOX").search(q.ALL).fetch("full").use(limits.rate(messages_per_second=200))

    **Connections.** A pool takes a slot before it dials, and gives it back when the server has ended the connection,
    too; a server that does not is waited for 5 seconds. At no moment are there more slots than the limit, and none is
    given out while the connection of its last holder may be there:

    - Slots have a lease, which a thread of its own renews for all slots of the process in one statement, whether its
      event loop is blocked or not. Where it cannot (the database is down, the way to it is cut), another thread shuts
      the sockets of all connections when the lease ends, of those that are being made, too; others get the slots a
      tenth of the lease later, and a second at least. Only what `open_socket=` has not given yet is ended by the loop.
    - A process that was killed has no sockets: its slots are free when its lease and that grace have passed.
    - A process that is stopped (SIGSTOP, a debugger) cannot close anything, and servers count its connections as long
      as they are open. Open `Limits` of another process of the same machine see that the stopped one is there, also
      where they are opened later, and renew its lease: until it goes on, is killed, or 31 minutes have passed, after
      which the server has ended the connections (RFC 9051 §5.4). When it goes on, its connections end before it uses
      them again, and it says so in the log.
    - What no database can know: a whole machine that was stopped or cut off, with connections that the server has not
      missed yet. Others get its slots after the lease, and the server refuses what is too many. That does no harm: a
      refusal lowers the number of the account for all processes, to what works, and it grows again by one at a time.
      So what the *server* counts never passes the server's own limit. Who has set a limit below that one, and wants
      it kept in this case, too, gives `lease_seconds` the time after which the network gives up a dead peer.

    Advisory locks of the database would be free at once when a process dies, but a pool of database connections
    (PgBouncer, by transactions) loses them, and they say nothing of a process that is stopped.

    While others wait for slots, a pool gives up connections that are idle, and those beyond its fair share at the end
    of a batch. Where there are more pools than slots, they take turns of 10 seconds.

    **Rates.** `rate` gives a middleware. What may pass is reserved in a row of the account, by the clock of the
    database, in one statement for what is worth 50 ms; the process waits on its own until it is due. What was reserved
    and is not used (somebody was cancelled or killed) is lost, so less passes, and never more.

    **Bytes.** `budget` gives a `ByteBudget` whose count is a row of the account. Before a batch goes, what it is
    thought to bring is written down, so a process that dies has counted rather too much.

    **A database that does not work** stops what is new, and loses nothing: callers wait, with an event
    (`LimitAwaited`) and a line in the log; batches under way end, and connections when their lease does. After
    `wait_seconds` a run ends with `DatabaseError`, its checkpoint saved. When the database is back, everything goes on.

    Args:
        dsn: `postgresql://user@host/name` (extra `imapipe[cluster]`), or the path of an SQLite file for several
            processes of one machine.
        lease_seconds: How long the slots of a process are its own without a sign of life.
        poll_seconds: How often a process that waits asks again, and one that has slots looks whether others wait.
        wait_seconds: How long to wait for a database that does not work.

    Raises:
        ValueError: What is wrong with an argument, in one sentence.
    """

    def __init__(
        self,
        dsn: str | os.PathLike[str],
        *,
        lease_seconds: float = 30.0,
        poll_seconds: float = 0.25,
        wait_seconds: float = 300.0,
    ) -> None:
        for name, value in (("lease_seconds", lease_seconds), ("poll_seconds", poll_seconds)):
            check_number(name, value)
            if not value > 0:
                raise ValueError(f"{name} must be above 0")
        check_number("wait_seconds", wait_seconds)
        # A statement that hangs is to be over while there is time for another one.
        limit = max(1.0, lease_seconds / 3)
        self._database = Database(dsn, statement_seconds=limit, connect_seconds=max(2.0, limit))
        self._keeper = Keeper(
            self._database, lease_seconds=lease_seconds, poll_seconds=poll_seconds, wait_seconds=wait_seconds
        )
        self._reservations = Reservations(self._database, wait_seconds=wait_seconds)
        self._bytes: DayBytes | None = None
        self._wait_seconds = wait_seconds
        self._is_open = False

    def __repr__(self) -> str:
        return f"<Limits in {self._database.name}>"

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Make the tables where they are missing, and be there for others. Entering the block does it.

        Raises:
            RuntimeError: They were closed.
            DatabaseError: The database cannot be used, or belongs to a newer imapipe.
            ModuleNotFoundError: PostgreSQL needs the extra `imapipe[cluster]`.
        """
        await asyncio.to_thread(self._migrate)
        self._keeper.start()
        self._is_open = True

    async def close(self) -> None:
        """Give everything back. Close the pools first: the connections of those that are open end.

        Cancelling it does not stop it.
        """
        self._is_open = False
        await asyncio.shield(asyncio.to_thread(self._close))

    def connections(self, pool: Pool, maximum: int | None = None) -> Pool:
        """Let a pool have connections only as far as its account has slots; to be called before its first use.

        Args:
            pool: The pool, which is returned.
            maximum: How many connections of the account there may be over all processes: `max_size` of the pool unless
                given. All who share an account say the same.

        Raises:
            RuntimeError: The pool has been used, or has slots already; or these limits are not open.
        """
        self._check_open()
        most = pool.connections.max_size if maximum is None else maximum
        check_whole("maximum", most)
        if most < 1:
            raise ValueError(f"maximum must be 1 or more, not {most}")
        pool.connections.share_slots(self._keeper.member(pool.account, most))
        return pool

    def rate(
        self,
        *,
        commands_per_second: float | None = None,
        messages_per_second: float | None = None,
        bytes_per_second: float | None = None,
        burst: float | None = None,
    ) -> RateLimit:
        """A rate for each account over all processes, as middleware: `.use(limits.rate(messages_per_second=200))`.

        All who share an account say the same numbers. The bucket is what 100 ms are worth, or one item.

        Args:
            commands_per_second: FETCH commands.
            messages_per_second: Messages asked for.
            bytes_per_second: Bytes of FETCH responses, after decompression.
            burst: How many messages (and commands) may pass within a second after a pause.

        Raises:
            ValueError: What is wrong with a number.
            RuntimeError: These limits are not open.
        """
        self._check_open()
        return SharedRateLimit(
            self._reservations,
            commands_per_second=commands_per_second,
            messages_per_second=messages_per_second,
            bytes_per_second=bytes_per_second,
            burst=burst,
        )

    def budget(self, bytes_per_day: int, *, on_exhausted: Literal["wait", "stop"] = "wait") -> ByteBudget:
        """A budget of bytes within 24 hours for each account over all processes: `.use(limits.budget(2_000_000_000))`.

        All who share an account say the same number. What a process had under way when it died counts as received.

        Args:
            bytes_per_day: The budget of an account.
            on_exhausted: See `imapipe.ByteBudget`.

        Raises:
            ValueError: What is wrong with an argument.
            RuntimeError: These limits are not open.
        """
        self._check_open()
        if self._bytes is None:
            self._bytes = DayBytes(
                self._database, self._keeper.worker, be_there=self._keeper.be_there, wait_seconds=self._wait_seconds
            )
        return SharedByteBudget(self._bytes, bytes_per_day, on_exhausted=on_exhausted, clock=self._bytes.now)

    @property
    def slots(self) -> dict[str, int]:
        """The slots that this process has now, by account."""
        return self._keeper.held()

    @property
    def leases_lost(self) -> int:
        """How often connections of this process were ended because their slots were lost."""
        return self._keeper.leases_lost

    async def clean(self, older_than_seconds: float = 7 * 86_400.0) -> int:
        """Remove what is remembered of accounts that nobody has used for so long; gives the number of rows.

        What dead processes leave behind is cleared away by itself.

        Raises:
            DatabaseError: The database cannot be used.
        """
        check_number("older_than_seconds", older_than_seconds)
        return await asyncio.to_thread(self._clean, round(older_than_seconds * 1_000))

    def _migrate(self) -> None:
        with self._database.connect() as connection:
            migrate(connection, COMPONENT, STEPS, database=self._database.name)

    def _close(self) -> None:
        self._reservations.close()
        if self._bytes is not None:
            self._bytes.close()
        self._keeper.close()

    def _clean(self, age_ms: int) -> int:
        with self._database.connect() as connection:
            return sum(connection.execute(statement, {"age": age_ms}) for statement in _CLEAN)

    def _check_open(self) -> None:
        if not self._is_open:
            raise RuntimeError("these limits are not open: `async with Limits(...) as limits:`")
