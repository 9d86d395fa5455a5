"""The keeper of a process's slots: two threads, so that neither a blocked event loop nor a silent database matters.

One thread talks to the database: it renews the lease, takes what pools want and brings what they get. The other one
only looks at the clock: when the lease ends and was not renewed, it shuts the sockets of all connections, whatever the
other thread and the event loop are doing.

Invariants:

- What the database counts for this process is never less than what its pools may have: it is told first of what comes,
  and last of what goes.
- The lease is counted from before its renewal was sent, on a clock that goes on while the process is stopped and while
  the machine sleeps; so it ends here before it ends anywhere else.
- Slots of which the lease has ended count until the server has ended their connections: it hears of it later. So do
  those of a pool whose closing was cancelled; since it waits for no server any more, for a fixed time.
- Nothing is granted without a lease that lasts, and what was granted under one that has ended is dropped.
- A pool hears in order: what was granted before an end comes before the end, what is granted after comes after.
"""

from __future__ import annotations

import logging
import math
import secrets
import threading
from typing import Final

from imapipe.cluster import slot_rows
from imapipe.cluster.member import Member
from imapipe.cluster.outage import Outage
from imapipe.cluster.process import Process
from imapipe.cluster.reaping import Reaper
from imapipe.cluster.slot_rows import Answer, SlotRequest, Worker
from imapipe.database import Connection, Database
from imapipe.errors import ConnectionLost, DatabaseError
from imapipe.net.pool.parting import PARTING_SECONDS
from imapipe.runtime.clock import uptime

_log = logging.getLogger(__name__)

# How often who waits is told of it again.
_TELL_SECONDS: Final = 10.0
_GRACE_SHARE: Final = 0.1
# A server that is busy hears of the end of a connection when its turn comes.
_LEAST_GRACE_MS: Final = 1_000
# From so late on, who cannot renew the lease lets no new batch begin.
_LAST_SHARE: Final = 1 / 3


class Keeper:
    """The slots of all pools of a process that share one `Limits`.

    Attributes:
        worker: As which it stands in the database.
        leases_lost: How often connections were ended because their slots were lost.

    Args:
        database: Where they are kept.
        lease_seconds: How long a lease lasts.
        poll_seconds: How often is asked for what others hold.
        wait_seconds: How long a database that does not work is waited for.
    """

    def __init__(self, database: Database, *, lease_seconds: float, poll_seconds: float, wait_seconds: float) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._poll_seconds = poll_seconds
        lease_ms = round(lease_seconds * 1_000)
        self.worker = Worker(
            secrets.token_hex(8),
            Process.this(),
            lease_ms,
            max(round(lease_ms * _GRACE_SHARE), _LEAST_GRACE_MS),
            fresh_ms=round(3_000 * poll_seconds) + 1_000,
        )
        self._reaper = Reaper(self.worker)
        self._condition = threading.Condition()
        self._members: dict[str, Member] = {}
        self._changed: dict[str, Member] = {}
        self._deadline: float | None = None
        self._generation = 0
        self._renews_at = -math.inf
        self._polls_at = -math.inf
        self._is_registered = False
        self._is_closing = False
        self._outage = Outage("connections", wait_seconds)
        self._threads: list[threading.Thread] = []
        self.leases_lost = 0

    @property
    def lock(self) -> threading.Condition:
        """Held while something of a member is changed."""
        return self._condition

    # -- what members say ------------------------------------------------------------------------

    def member(self, account: str, maximum: int) -> Member:
        """The slots of one more pool."""
        member = Member(self, f"{self.worker.name}.{secrets.token_hex(4)}", account, maximum)
        with self._condition:
            if self._is_closing:
                raise RuntimeError("these limits are closed")
            self._members[member.name] = member
        return member

    def start(self) -> None:
        """Be there for others, and look after those that are stopped, also while no pool has connections.

        Raises:
            RuntimeError: It was closed.
        """
        with self._condition:
            if self._is_closing:
                raise RuntimeError("these limits were closed: make new ones")
            if self._threads:
                return
            for name, work in (("slots", self._serve), ("lease", self._watch)):
                thread = threading.Thread(target=work, name=f"imapipe {name}", daemon=True)
                self._threads.append(thread)
                thread.start()

    def be_there(self) -> None:
        """Wait until this process has a lease; blocking, for another thread than the event loop's.

        Raises:
            DatabaseError: The database did not give it in time.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._deadline is not None or self._is_closing, self._lease_seconds)
            if self._deadline is None and not self._is_closing:
                raise DatabaseError("it does not answer", database=self._database.name, is_transient=True)

    def changed(self, member: Member) -> None:
        """Something of a member is to be told to the database."""
        with self._condition:
            self._changed[member.name] = member
            self._condition.notify_all()

    def check(self) -> None:
        """End everything if the lease has ended."""
        deadline = self._deadline
        if deadline is not None and uptime() >= deadline:
            self._expire("their lease ended while this process stood still")

    def held(self) -> dict[str, int]:
        """The slots of this process, by account."""
        with self._condition:
            held: dict[str, int] = {}
            for member in self._members.values():
                held[member.account] = held.get(member.account, 0) + member.held + len(member.lapsed)
            return held

    def close(self) -> None:
        """End the threads and give everything back; blocks until that is done, or the database does not answer."""
        with self._condition:
            self._is_closing = True
            self._condition.notify_all()
            threads, self._threads = self._threads, []
        for thread in threads:
            thread.join()

    # -- the threads -----------------------------------------------------------------------------

    def _watch(self) -> None:
        """Look at the clock."""
        while True:
            with self._condition:
                if self._is_closing:
                    return
                left = math.inf if self._deadline is None else self._deadline - uptime()
                if left > 0:
                    self._condition.wait(min(left, 3_600.0))
                    continue
            self._expire("their lease could not be renewed in time")

    def _serve(self) -> None:
        """Talk to the database."""
        connection: Connection | None = None
        while True:
            with self._condition:
                if self._is_closing:
                    break
                if (left := self._idle_seconds()) > 0:
                    self._condition.wait(left)
                    continue
            try:
                if connection is None:
                    connection = self._database.connect()
                if not self._turn(connection):
                    self._is_registered = False
                    self._expire("their lease had ended, and another process has freed them")
                self._outage.ended()
            except DatabaseError as error:
                if connection is not None:
                    connection.close()
                connection = None
                self._fail(error)
            except Exception as error:  # noqa: BLE001 - told to everybody who waits
                # A thread that ends without a word would leave everybody waiting.
                _log.exception("a defect in the keeper of slots")
                self._fail(DatabaseError(f"{type(error).__name__}: {error}", database=self._database.name))
        self._expire("these limits were closed", is_meant=True)
        if self._is_registered:
            self._leave(connection)
        elif connection is not None:
            connection.close()

    def _leave(self, connection: Connection | None) -> None:
        """Give everything back, so that others need not wait for the end of the lease."""
        with self._condition:
            self._condition.wait_for(lambda: not self._counts_lapsed, PARTING_SECONDS)
            if self._outage.is_on or self._counts_lapsed:
                # They will be free when the lease ends.
                if connection is not None:
                    connection.close()
                return
        try:
            with connection or self._database.connect() as last:
                slot_rows.unregister(last, self.worker)
        except DatabaseError as error:
            _log.warning("slots are not given back, and will be free when their lease ends: %s", error)

    def _idle_seconds(self) -> float:
        """How long there is nothing to do for the database."""
        if self._changed or not self._is_registered:
            return 0.0
        at = self._renews_at
        if any(member.held or member.is_short for member in self._members.values()):
            at = min(at, self._polls_at)
        at = min([at, *(member.counts_until for member in self._left_behind)])
        return at - uptime()

    def _turn(self, connection: Connection) -> bool:
        """Do what is to be done now; whether this process had not lost its lease."""
        # A lease that has ended is not prolonged: whatever was open under it ends, also where this thread wakes first.
        self.check()
        now = uptime()
        with self._condition:
            for member in self._left_behind:
                if now >= member.counts_until:
                    member.free_what_is_left()
                    self._changed[member.name] = member
        if not self._is_registered:
            slot_rows.register(connection, self.worker)
            self._is_registered = True
        if self._deadline is None or now >= self._renews_at:
            if not self._renew(connection):
                return False
            self._reaper.look(connection)
        if now >= self._polls_at:
            self._look(connection)
            self._polls_at = uptime() + self._poll_seconds
        while True:
            with self._condition:
                # The lease comes first, however much there is to be told: without one nothing is taken from an answer.
                if not self._changed or self._deadline is None or uptime() >= self._renews_at:
                    return True
                member = self._changed.pop(next(iter(self._changed)))
                request, generation = member.request(), self._generation
            try:
                answer = slot_rows.exchange(connection, self.worker, request)
            except BaseException:
                with self._condition:
                    self._changed.setdefault(member.name, member)
                raise
            if answer is None:
                return False
            self._answered(member, request, answer, generation)

    def _renew(self, connection: Connection) -> bool:
        sent_at = uptime()
        if not slot_rows.renew(connection, self.worker):
            return False
        with self._condition:
            self._deadline = sent_at + self._lease_seconds
            self._renews_at = sent_at + self._lease_seconds / 3
            self._condition.notify_all()
        return True

    def _look(self, connection: Connection) -> None:
        """Ask again for those who wait, and about those of whom others want something."""
        with self._condition:
            has_some = any(member.held for member in self._members.values())
            lacks_some = any(member.is_short for member in self._members.values())
        if lacks_some:
            self._reaper.look(connection)
        contested = slot_rows.contested(connection, self.worker) if has_some else set()
        with self._condition:
            for member in self._members.values():
                if member.is_short or (member.held and member.account in contested):
                    self._changed[member.name] = member
                elif member.was_asked:
                    member.ask(0, 0)

    def _answered(self, member: Member, request: SlotRequest, answer: Answer, generation: int) -> None:
        with self._condition:
            if member.has_left:
                if not member.held and not request.held + request.wanted + answer.granted:
                    self._members.pop(member.name, None)
                elif not member.held or member.held != request.held + answer.granted:
                    self._changed[member.name] = member
                return
            deadline = self._deadline
            if generation != self._generation or deadline is None or uptime() >= deadline:
                # Granted, perhaps, under a lease that has ended: the database hears that it is not used.
                self._changed[member.name] = member
                return
            member.told(request)
            if answer.granted:
                member.grant(answer.granted)
            if answer.asked_for or member.was_asked:
                member.ask(answer.asked_for, answer.share)
            self._tell_shortage(
                member,
                f"the limit of {answer.limit} connections of {member.account} over all workers is reached"
                if answer.taken >= answer.limit
                else f"others come first for {member.account}, or its server refused a connection a moment ago",
            )

    def _tell_shortage(self, member: Member, why: str) -> None:
        now = uptime()
        if not member.is_short:
            member.waits_since = None
            return
        member.shortage = why
        if member.waits_since is None:
            member.waits_since, member.told_at = now, -math.inf
        if now - member.told_at >= _TELL_SECONDS:
            member.told_at = now
            lasted = now - member.waits_since
            _log.info("a connection waits, for %.0f seconds by now: %s", lasted, why)
            member.tell(why, lasted)

    def _fail(self, error: DatabaseError) -> None:
        """The database does not work: whoever waits hears of it, and in the end waits no more."""
        now = uptime()
        gives_up = not self._outage.failed(error)
        with self._condition:
            for member in self._members.values():
                self._tell_shortage(member, str(error))
                if member.is_short and gives_up:
                    member.fail(error)
                elif member.held and self._deadline is not None and self._deadline - now <= self._last_seconds:
                    # What is under way may end; then the connection does, before its slot has expired.
                    member.ask(member.held, 0)
            if not self._is_closing:
                self._condition.wait_for(lambda: self._is_closing, self._outage.pause_seconds(error))

    @property
    def _counts_lapsed(self) -> bool:
        now = uptime()
        is_left = any(now < member.counts_until for member in self._left_behind)
        return is_left or any(member.lapsed for member in self._members.values())

    @property
    def _left_behind(self) -> list[Member]:
        """Closed pools whose connections servers may count still."""
        return [member for member in self._members.values() if member.has_left and member.held]

    @property
    def _last_seconds(self) -> float:
        return self._lease_seconds * _LAST_SHARE

    def _expire(self, why: str, *, is_meant: bool = False) -> None:
        """The lease has ended: every connection ends now."""
        error = ConnectionLost(f"its slot among the connections of the account is lost: {why}")
        with self._condition:
            if self._deadline is None:
                return
            self._deadline = None
            self._generation += 1
            members = list(self._members.values())
            count = sum(member.held for member in members)
            for member in members:
                member.expire(error)
                self._changed[member.name] = member
            self._condition.notify_all()
        if count and not is_meant:
            self.leases_lost += 1
            _log.warning("%d connections were ended, for the slots of this process are lost: %s", count, why)
