"""Appending one group of messages, as the operation of a run: many in a command where the server can, else one by one.

The messages of the group have numbers in the place of UIDs.

Invariants:

- A message is sent again only where the server said that it did not take it, or where it is not in the mailbox: what
  came there since the group was begun is looked at, by Message-ID and size, and then by its bytes.
- A refusal is the fault of one message only when that message was sent alone. One that passes is tried again.
- Once the account is full nothing more of the group is sent; what was on its way then may still fit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Final, TypeAlias

from imapipe.errors import CommandBad, CommandError, CommandNo, UidValidityChanged
from imapipe.models.batch import NO_UIDS, Batch, BatchResult, Failure
from imapipe.models.message import Message
from imapipe.net.connection import Connection
from imapipe.net.signals import is_full
from imapipe.net.transient import is_transient, reason
from imapipe.pipeline.append.letter import Letter
from imapipe.pipeline.delivery.flight import Gathering
from imapipe.pipeline.delivery.tasks import end_tasks
from imapipe.pipeline.digest import digest_of_message
from imapipe.pipeline.operation import recovery
from imapipe.pipeline.operation.acting import ActingOperation, ActingWork
from imapipe.pipeline.operation.base import Observe, Work, Workbench
from imapipe.pipeline.source.find import find
from imapipe.pipeline.source.values import fetch_values
from imapipe.search import uid as with_uid
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.uid_set import MAX_UID, UidSet

MAX_TOGETHER: Final = 500
"""So many messages go into one command."""
# Two keep a server at work; of more than that it takes none sooner.
_IN_FLIGHT: Final = 2
FULL: Final = "OVERQUOTA"
TOO_LARGE: Final = "APPENDLIMIT"
# No UIDs are sent; a group is small.
_NUMBERS_BYTES: Final = 8_000
_KNOWN_BY = Fetch("size", header_fields=("Message-ID",))

FindThem: TypeAlias = Callable[[Connection, "AppendSession", date], Awaitable[dict[int, int]]]


@dataclass(slots=True)
class AppendSession:
    """What the tries of one group share.

    Attributes:
        mailbox: Where they go.
        letters: The messages, by number.
        uidvalidity: UIDVALIDITY of the mailbox.
        floor: What is ours is not below this UID; 0 while that is not known.
        placed: Where messages of this group and earlier ones are.
        uids: Where those of this group are, by number; 0 where the server does not tell.
        doubtful: Those of which it is not known whether they arrived.
        full: Why nothing more is sent: the account is full.
        sent_bytes: How much was sent.
    """

    mailbox: str
    letters: dict[int, Letter]
    uidvalidity: int = 0
    floor: int = 0
    placed: UidSet = NO_UIDS
    uids: dict[int, int] = field(default_factory=dict)
    doubtful: UidSet = NO_UIDS
    full: Failure | None = None
    sent_bytes: int = 0


@dataclass(frozen=True, slots=True)
class AppendMessages(ActingOperation):
    """Append the messages of a group (an `Operation`).

    Attributes:
        session: The group.
    """

    session: AppendSession

    @property
    def opens(self) -> bool:
        """See `Operation`; a server is quicker where it need not keep a view of the mailbox up to date."""
        return False

    @property
    def writes(self) -> bool:
        """See `Operation`."""
        return False

    @property
    def max_uid_text_bytes(self) -> int:
        """See `Operation`."""
        return _NUMBERS_BYTES

    def describe(self) -> str:
        """See `Operation`."""
        return "APPEND"

    def begin(self, batch: Batch, bench: Workbench, observe: Observe) -> Work:
        """See `Operation`."""
        return Appending(self.session, batch, bench)


class Appending(ActingWork):
    """The work of appending some messages of a group (a `Work`)."""

    __slots__ = ("_sent_before", "_session")

    def __init__(self, session: AppendSession, batch: Batch, bench: Workbench) -> None:
        super().__init__(batch, bench)
        self._session = session
        self._sent_before = session.sent_bytes

    async def perform(self, connection: Connection, gathering: Gathering | None) -> None:
        """See `Work`. Cancelling it ends the connection; what is under way may arrive or not."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await self.settle(connection)
            self._leave_out_too_large(connection)
            await self._send_all(connection)
        finally:
            self._elapsed += loop.time() - began
        self._is_over = True

    def result(self) -> BatchResult:
        """See `Work`; the bytes are those that were sent."""
        return replace(super().result(), bytes_received=self._session.sent_bytes - self._sent_before)

    async def settle(self, connection: Connection) -> None:
        """Find out which of those in doubt arrived; the others are to be sent. Raises as the commands do."""
        if self._session.doubtful:
            await self._book_arrived(connection, find_arrived)

    async def _book_arrived(self, connection: Connection, find_them: FindThem) -> None:
        self._book(await find_them(connection, self._session, self._bench.today))
        self._session.doubtful = NO_UIDS

    def _leave_out_too_large(self, connection: Connection) -> None:
        limit = connection.append_limit
        for number in self._missing if limit is not None else ():
            letter = self._session.letters[number]
            if limit is not None and letter.size > limit:
                detail = f"it has {letter.size} bytes, and the server takes {limit}"
                self._fail(Failure(number, TOO_LARGE, detail))

    async def _send_all(self, connection: Connection) -> None:
        most = min(connection.message_limit or MAX_TOGETHER, MAX_TOGETHER)
        if most > 1 and connection.offers("MULTIAPPEND") and self._session.full is None:
            await self._send_together(connection, most)
        for number in self._missing:
            if self._session.full is not None:
                self._fail(Failure(number, FULL, self._session.full.detail))
                continue
            try:
                await self._send(connection, UidSet.from_numbers([number]))
            except (CommandNo, CommandBad) as error:
                if is_transient(error, fetching=False).transient:
                    raise
                self._fail(Failure(number, reason(error), str(error)))
                if is_full("APPEND", error.code):
                    self._session.full = Failure(number, FULL, f"the account is full: {error.text}")

    async def _send_together(self, connection: Connection, most: int) -> None:
        """Many in a command, and the next command on its way while the server works on one; a last single one stays.

        Behind a refusal that passes nothing more goes out, nor once the account is full. Raises as `_send` does for
        what passes, when nothing is in flight any more.
        """
        todo = self._missing
        flying: deque[asyncio.Task[None]] = deque()
        error: BaseException | None = None
        refused: CommandNo | CommandBad | None = None
        try:
            while flying or len(todo) > 1:
                if len(todo) > 1 and len(flying) < _IN_FLIGHT:
                    part, todo = todo.take(most)
                    flying.append(asyncio.create_task(self._send(connection, part)))
                    continue
                await asyncio.wait((flying[0],))
                match flying.popleft().exception():
                    case None:
                        continue
                    case CommandNo() | CommandBad() as refused if not is_transient(refused, fetching=False).transient:
                        if is_full("APPEND", refused.code):
                            todo = NO_UIDS
                    case failed:
                        error, todo = error or failed, NO_UIDS
        finally:
            await end_tasks(list(flying))
            for task in flying:
                # asyncio complains of an exception that nobody has seen.
                if not task.cancelled():
                    task.exception()
        if error is not None:
            raise error
        if refused is not None:
            # Each by itself tells which. All or none are there (RFC 3502 §6.3.11), if the server keeps to that.
            await self._book_arrived(connection, look)

    async def _send(self, connection: Connection, numbers: UidSet) -> None:
        session = self._session
        letters = [session.letters[number] for number in numbers]
        session.doubtful |= numbers
        try:
            where = await connection.append(session.mailbox, *[letter.new() for letter in letters])
        except CommandError as error:
            # A refusal that passes, or that of a group, may have come behind the work; that is looked at.
            refused = error.status in ("NO", "BAD") and not is_transient(error, fetching=False).transient
            if refused and len(numbers) == 1:
                session.doubtful -= numbers
            raise
        session.doubtful -= numbers
        session.sent_bytes += sum(letter.size for letter in letters)
        told = where.uids if where is not None and where.uidvalidity == session.uidvalidity else NO_UIDS
        is_new = bool(told) and told.min >= session.floor and not told & session.placed
        if not is_new and not connection.offers("X-GM-EXT-1"):
            # Only Gmail may name a message that it had already: it keeps one of those that are the same.
            told = NO_UIDS
        self._book(dict(zip(numbers, told if len(told) == len(letters) else [0] * len(letters), strict=True)))

    def _book(self, arrived: dict[int, int]) -> None:
        self._session.uids |= arrived
        self._session.placed |= UidSet.from_numbers(filter(None, arrived.values()))
        ledger = self._bench.ledger
        numbers = UidSet.from_numbers(arrived)
        for number in numbers - ledger.outcome_of(numbers):
            ledger.settle(number)


async def find_arrived(connection: Connection, session: AppendSession, today: date) -> dict[int, int]:
    """Which of the messages in doubt are in the mailbox, and where. Raises as the commands do.

    A server may still be at work on them after their connection has ended, so what is not whole is looked at again
    until two looks agree.
    """
    found = await look(connection, session, today)
    for _ in range(recovery.MAX_LOOKS - 1):
        if len(found) == len(session.doubtful):
            break
        await asyncio.sleep(recovery.LOOK_AGAIN_SECONDS)
        before, found = found, await look(connection, session, today)
        if found == before:
            break
    return found


async def look(connection: Connection, session: AppendSession, today: date) -> dict[int, int]:
    """The same, by one look: nothing is under way any more."""
    selected = await connection.examine(session.mailbox)
    if selected.uidvalidity != session.uidvalidity:
        advice = "see for yourself whether the messages in doubt are there"
        raise UidValidityChanged(
            session.mailbox, expected=session.uidvalidity, found=selected.uidvalidity, advice=advice
        )
    above = with_uid(UidSet.from_ranges([(max(1, session.floor), MAX_UID)]))
    arrived = await find(connection, above, selected.exists, today)
    arrived -= session.placed
    if not arrived:
        return {}
    keys = await fetch_values(connection, arrived, _KNOWN_BY, _key_of)
    wanted = {number: session.letters[number].key() for number in session.doubtful}
    alike = UidSet.from_numbers(uid for uid, key in keys.items() if key in set(wanted.values()))
    digests = await fetch_values(connection, alike, Fetch("full"), digest_of_message) if alike else {}
    found: dict[int, int] = {}
    left = sorted(digests)
    for number, key in wanted.items():
        digest = session.letters[number].digest()
        uid = next((uid for uid in left if keys[uid] == key and digests[uid] == digest), None)
        if uid is not None:
            found[number] = uid
            left.remove(uid)
    return found


def _key_of(message: Message) -> tuple[str, int]:
    return (message.headers.get("Message-ID") or "").strip(), message.size or 0
