"""Appending one group of messages, as the operation of a run: in one command where the server can, else one by one.

The messages of the group have numbers in the place of UIDs.

Invariants:

- A message is sent again only where the server said that it did not take it, or where it is not in the mailbox: what
  came there since the group was begun is looked at, by Message-ID and size, and then by its bytes.
- A refusal is the fault of one message only when that message was sent alone. One that passes is tried again.
- Once the account is full nothing more of the group is sent.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Final

from imapipe.errors import CommandBad, CommandError, CommandNo
from imapipe.models.batch import NO_UIDS, Batch, BatchResult, Failure
from imapipe.models.message import Message
from imapipe.net.connection import Connection
from imapipe.net.transient import is_transient, reason
from imapipe.pipeline.append.letter import Letter, digest_of
from imapipe.pipeline.delivery.flight import Gathering
from imapipe.pipeline.operation import recovery
from imapipe.pipeline.operation.acting import ActingOperation, ActingWork
from imapipe.pipeline.operation.base import Observe, Work, Workbench
from imapipe.pipeline.source.find import find
from imapipe.pipeline.source.values import fetch_values
from imapipe.search import uid as with_uid
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.uid_set import MAX_UID, UidSet

FULL: Final = "OVERQUOTA"
TOO_LARGE: Final = "APPENDLIMIT"
# No UIDs are sent; a group is small.
_NUMBERS_BYTES: Final = 8_000
_KNOWN_BY = Fetch("size", header_fields=("Message-ID",))


@dataclass(slots=True)
class AppendSession:
    """What the tries of one group share.

    Attributes:
        mailbox: Where they go.
        letters: The messages, by number.
        uids: Where they are, by number; 0 where the server does not tell.
        floor: What is ours is not below this UID.
        doubtful: Those of which it is not known whether they arrived.
        full: Why nothing more is sent: the account is full.
        sent_bytes: How much was sent.
    """

    mailbox: str
    letters: dict[int, Letter]
    uids: dict[int, int] = field(default_factory=dict)
    floor: int = 0
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
    def writes(self) -> bool:
        """See `Operation`; APPEND needs no mailbox that is open for writing."""
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
            if not self._session.floor:
                selected = connection.selected
                self._session.floor = (selected.uidnext if selected is not None else None) or 1
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
            self._book(await find_arrived(connection, self._session, self._bench.today))
            self._session.doubtful = NO_UIDS

    def _leave_out_too_large(self, connection: Connection) -> None:
        limit = connection.append_limit
        for number in self._missing if limit is not None else ():
            letter = self._session.letters[number]
            if limit is not None and letter.size > limit:
                detail = f"it has {letter.size} bytes, and the server takes {limit}"
                self._fail(Failure(number, TOO_LARGE, detail))

    async def _send_all(self, connection: Connection) -> None:
        todo = self._missing
        if len(todo) > 1 and connection.offers("MULTIAPPEND") and self._session.full is None:
            try:
                await self._send(connection, todo)
            except (CommandNo, CommandBad) as error:
                if is_transient(error, fetching=False).transient:
                    raise
                # All or none of them: each by itself tells which.
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
                if error.code.upper().partition(" ")[0] == FULL:
                    self._session.full = Failure(number, FULL, f"the account is full: {error.text}")

    async def _send(self, connection: Connection, numbers: UidSet) -> None:
        session = self._session
        letters = [session.letters[number] for number in numbers]
        session.doubtful |= numbers
        try:
            where = await connection.append(session.mailbox, *[letter.new() for letter in letters])
        except CommandError as error:
            # A refusal that passes may have come behind the work; that is looked at.
            if error.status in ("NO", "BAD") and not is_transient(error, fetching=False).transient:
                session.doubtful -= numbers
            raise
        session.doubtful -= numbers
        session.sent_bytes += sum(letter.size for letter in letters)
        known = where is not None and len(where.uids) == len(letters)
        self._book(dict(zip(numbers, where.uids if known and where is not None else [0] * len(letters), strict=True)))

    def _book(self, arrived: dict[int, int]) -> None:
        self._session.uids |= arrived
        ledger = self._bench.ledger
        known = ledger.outcome_of(UidSet.from_numbers(arrived))
        for number in arrived:
            if number not in known:
                ledger.settle(number)


async def find_arrived(connection: Connection, session: AppendSession, today: date) -> dict[int, int]:
    """Which of the messages in doubt are in the mailbox, and where. Raises as the commands do.

    A server may still be at work on them after their connection has ended, so what is not whole is looked at again
    until two looks agree.
    """
    found = await _look(connection, session, today)
    for _ in range(recovery.MAX_LOOKS):
        if len(found) == len(session.doubtful):
            break
        await asyncio.sleep(recovery.LOOK_AGAIN_SECONDS)
        before, found = found, await _look(connection, session, today)
        if found == before:
            break
    return found


async def _look(connection: Connection, session: AppendSession, today: date) -> dict[int, int]:
    selected = await connection.examine(session.mailbox)
    above = with_uid(UidSet.from_ranges([(max(1, session.floor), MAX_UID)]))
    arrived = await find(connection, above, selected.exists, today)
    arrived -= UidSet.from_numbers(uid for uid in session.uids.values() if uid)
    if not arrived:
        return {}
    keys = await fetch_values(connection, arrived, _KNOWN_BY, _key_of)
    wanted = {number: session.letters[number].key() for number in session.doubtful}
    alike = UidSet.from_numbers(uid for uid, key in keys.items() if key in set(wanted.values()))
    digests = await fetch_values(connection, alike, Fetch("full"), _digest_of) if alike else {}
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


def _digest_of(message: Message) -> bytes:
    with message.open() as file:
        return digest_of(iter(lambda: file.read(65_536), b""))
