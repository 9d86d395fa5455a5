r"""Another account as a sink: messages are appended to its mailboxes, with their flags and the time they arrived.

Invariants:

- A message is done when the other server has confirmed it, and the state, where there is one, says so durably.
- Where an answer is missing (the connection was lost, the process killed), the target is looked at before anything is
  sent again: what has the Message-ID, the time of arrival, the size and the content of a message is its copy.
- With the state lost, all that is in the target is compared by Message-ID, time and size: it is not sent again.
- A message of the target is the copy of one message at most.
- Once the other account is full nothing more is sent: the run ends with `SinkError`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Protocol

from imapipe.errors import CommandError, CommandNo, NotFetched, ProtocolError, SinkError
from imapipe.middleware.base import Run
from imapipe.models.message import Message
from imapipe.net.connection import Connection, status_apart
from imapipe.net.pool.pool import ConnectionPool
from imapipe.pipeline.delivery.stream import Runs
from imapipe.pipeline.outage import Outage
from imapipe.pipeline.pipeline import Pipeline
from imapipe.pipeline.specification import Specification
from imapipe.search import uid as uids_between
from imapipe.sinks.copied import Copied, Way
from imapipe.sinks.likeness import WANTED, Candidates, Likeness, digest_of
from imapipe.sinks.outgoing import Outgoing, append_limit, groups, opened
from imapipe.sinks.place import Place
from imapipe.wire.uid_set import UidSet

_log = logging.getLogger(__name__)

_OUTAGE_SECONDS: Final = 300.0


class Target(Protocol):
    """The pool of an account, as `create_pool` makes it."""

    @property
    def account(self) -> str:
        """The account, as user, host and port."""

    @property
    def connections(self) -> ConnectionPool:
        """Its connections."""


class Account:
    r"""Copies messages to another account.

    Args:
        pool: The pool of the other account.
        folders: The mailbox there for one here: a mapping, or a function; whatever it does not name keeps its name.
        state: A file that remembers what was copied, so that a run need not look at the whole target.
        outage_seconds: How long to wait for the other server while it does not work.

    The job fetches `"full"`. Mailboxes that are missing there are made, and subscribed to. `\Recent` is not copied; a
    keyword that the other server does not take is left out. What it refuses (too large, not allowed) fails, by name.
    """

    def __init__(
        self,
        pool: Target,
        folders: Mapping[str, str] | Callable[[str], str] | None = None,
        *,
        state: str | os.PathLike[str] | None = None,
        outage_seconds: float = _OUTAGE_SECONDS,
    ) -> None:
        self._pool = pool
        self._folders = folders
        self._copied = Copied(Path(state) if state is not None else None)
        self._outage_seconds = outage_seconds
        self._copy: _Copy | None = None
        self._resources = AsyncExitStack()

    def __repr__(self) -> str:
        return f"<Account {self._pool.account}>"

    def for_mailbox(self, name: str, delimiter: str | None) -> Account:
        """The sink for one mailbox of a whole account: the same state."""
        sink = Account(self._pool, self._folders, outage_seconds=self._outage_seconds)
        sink._copied = self._copied
        return sink

    async def open(self, run: Run) -> None:
        """See `Sink`: the mailbox is made where it is missing, and looked at as far as its state is not known.

        Raises:
            SinkError: The state cannot be used, or another run has the sink.
            ValueError: The job does not fetch what is to be copied, or source and target are the same mailbox.
            ImapipeError: The other server could not be asked.
        """
        if self._copy is not None:
            raise SinkError("another run has this sink; give each run one of its own", path=repr(self))
        if "BODY[]" not in run.items:
            raise ValueError('Account copies whole messages: put .fetch("full") into the job')
        target = self._name_there(run.mailbox)
        if (run.account, run.mailbox) == (self._pool.account, target):
            raise ValueError(f"{target!r} would be copied into itself; choose another mailbox with folders=")
        self._resources.callback(self._copied.close)
        await asyncio.to_thread(self._in_files, self._copied.open)
        outage = Outage(self._outage_seconds, self._pool.connections.events)
        self._copy = _Copy(self._pool, Place.of(run), target, self._copied, outage)
        await self._copy.begin()

    async def write(self, messages: Sequence[Message]) -> Mapping[int, Exception]:
        """See `Sink`. Raises SinkError where the other account is full, ImapipeError where its server is gone."""
        assert self._copy is not None
        return await self._copy.write(messages)

    async def commit(self) -> None:
        """See `Sink`. Raises SinkError."""
        assert self._copy is not None
        line = await self._copy.settle()
        if line:
            await asyncio.to_thread(self._in_files, lambda: self._copied.save(line))

    async def close(self) -> None:
        """See `Sink`. What was sent and not committed is found again by the next run."""
        self._copy = None
        await self._resources.aclose()

    def _name_there(self, mailbox: str) -> str:
        if self._folders is None:
            return mailbox
        if callable(self._folders):
            return self._folders(mailbox)
        return self._folders.get(mailbox, mailbox)

    def _in_files(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            if isinstance(error, SinkError):
                raise
            raise SinkError(error.strerror or str(error), path=str(error.filename or self)) from error


class _Copy:
    """The copying of one mailbox into another."""

    def __init__(self, pool: Target, source: Place, name: str, copied: Copied, outage: Outage) -> None:
        self._connections = pool.connections
        self._account = pool.account
        self._source = source
        self._name = name
        self._copied = copied
        self._outage = outage
        self._way = Way(source, Place(pool.account, name, 0))
        # Sent, confirmed, and not in the state yet: UIDs here and there.
        self._new: list[tuple[int, int]] = []
        self._there: set[int] = set()
        # Of those that the server took without telling where, and that were not met there so far.
        self._unplaced: list[Likeness] = []
        self._candidates = Candidates()
        self._compares_content = False
        # The highest UID there of which is known what it is.
        self._seen = 0
        self._in_doubt = False

    async def begin(self) -> None:
        """Make the mailbox where it is missing, and look at what may be ours in it."""
        uidvalidity, last = await self._outage.around(self._open_there)
        self._way = Way(self._source, Place(self._account, self._name, uidvalidity))
        settled = self._copied.settled(self._way)
        self._compares_content = settled is not None
        self._seen = settled or 0
        self._there = self._copied.taken(self._way.target)
        if last > self._seen:
            await self._outage.around(self._look)

    async def write(self, messages: Sequence[Message]) -> Mapping[int, Exception]:
        """Append what is not there yet; gives what was refused."""
        failed: dict[int, Exception] = {}
        new: list[Outgoing] = []
        for message in messages:
            if self._copied.has(self._source, message.uid):
                continue
            try:
                new.append(Outgoing(message))
            except (NotFetched, ProtocolError) as error:
                failed[message.uid] = error
        missing = await self._outage.around(lambda: self._without_found(new))
        for group in groups(missing):
            failed.update(await self._outage.around(lambda group=group: self._append(group)))  # type: ignore[misc]
        return failed

    async def settle(self) -> bytes:
        """What the state has to note; nothing where nothing is new."""
        if not self._new:
            return b""
        if any(not there for _, there in self._new):
            # A server that does not tell where a message went: all that is there by now is known.
            self._seen = max(self._seen, (await self._outage.around(self._open_there))[1])
            self._unplaced.clear()
        pairs, self._new = self._new, []
        # What may still turn out to be a copy has to be looked at again.
        lowest = self._candidates.lowest
        return self._copied.add(self._way, pairs, self._seen if lowest is None else min(self._seen, lowest - 1))

    async def _open_there(self) -> tuple[int, int]:
        """UIDVALIDITY of the target, and the highest UID that it may hold."""

        async def ask(connection: Connection) -> tuple[int, int]:
            status = await status_apart(connection, self._name, ("UIDVALIDITY", "UIDNEXT"))
            return status.uidvalidity or 0, max((status.uidnext or 1) - 1, 0)

        try:
            return await self._connections.perform(ask)
        except CommandNo:
            await self._connections.perform(self._make)
            return await self._connections.perform(ask)

    async def _make(self, connection: Connection) -> None:
        try:
            await connection.create(self._name)
            await connection.subscribe(self._name)
        except CommandNo as error:
            if error.code.upper() != "ALREADYEXISTS":
                raise

    async def _look(self) -> None:
        """Know what is in the target above what is known."""
        pipeline = self._pipeline(Specification(self._name, search=uids_between(f"{self._seen + 1}:*")))
        highest = self._seen
        found: list[tuple[Likeness, int]] = []
        async for message in pipeline.fetch(WANTED):
            # `5:*` is the last message, too, where that is below 5.
            if message.uid > self._seen and message.uid not in self._there:
                found.append((Likeness.of(message, message.size), message.uid))
            highest = max(highest, message.uid)
        self._seen = highest
        unplaced = Counter(self._unplaced)
        self._unplaced.clear()
        for likeness, uid in found:
            # Copies of what was confirmed are not those of their twins.
            if unplaced[likeness]:
                unplaced[likeness] -= 1
            else:
                self._candidates.add(likeness, uid)
        self._in_doubt = False

    async def _without_found(self, group: Sequence[Outgoing]) -> list[Outgoing]:
        """The messages of a group that are not there; the others are noted."""
        digests: dict[int, bytes] = {}
        alike = UidSet.from_numbers({uid for new in group for uid in self._candidates.like(new.likeness)})
        if alike and self._compares_content:
            digests = await self._digests(alike)
        missing: list[Outgoing] = []
        for new in group:
            uids = self._candidates.like(new.likeness)
            if uids and self._compares_content:
                with new.message.open() as file:
                    digest = await asyncio.to_thread(digest_of, file)
                uids = [uid for uid in uids if digests.get(uid) == digest]
            if uids:
                self._candidates.take(new.likeness, uids[0])
                self._note(new, uids[0])
            else:
                missing.append(new)
        return missing

    async def _digests(self, uids: UidSet) -> dict[int, bytes]:
        """The content of messages of the target."""
        digests: dict[int, bytes] = {}
        job = self._pipeline(Specification(self._name, search=uids_between(uids.text())))
        async for message in job.fetch("full"):
            with message.open() as file:
                digests[message.uid] = await asyncio.to_thread(digest_of, file)
        return digests

    def _pipeline(self, specification: Specification) -> Pipeline:
        return Pipeline(specification, self._connections, self._account, Runs())

    def _note(self, new: Outgoing, there: int) -> None:
        self._new.append((new.message.uid, there))
        if there:
            self._there.add(there)
        else:
            self._unplaced.append(new.likeness)

    async def _append(self, group: list[Outgoing]) -> dict[int, Exception]:
        """Append a group, as far as it is not there; may be called again when the connection was lost."""
        if self._in_doubt:
            await self._look()
            self._compares_content = True
            group[:] = await self._without_found(group)
        if not group:
            return {}
        self._in_doubt = True
        async with self._connections.lease() as connection:
            limit = append_limit(connection)
            failed: dict[int, Exception] = {}
            for new in [new for new in group if limit is not None and new.likeness.size > limit]:
                reason = f"message {new.message.uid} has {new.likeness.size} bytes, and the server takes {limit}"
                failed[new.message.uid] = SinkError(reason, path=f"{self._account} {self._name}")
                group.remove(new)
            together = len(group) > 1 and connection.offers("MULTIAPPEND")
            if not (together and await self._append_together(connection, group)):
                failed.update(await self._append_each(connection, group))
        self._in_doubt = False
        return failed

    async def _append_together(self, connection: Connection, group: list[Outgoing]) -> bool:
        """All in one command; whether the server took them."""
        try:
            where = await self._send(connection, group)
        except CommandError as error:
            self._check_full(error)
            if error.status not in ("NO", "BAD"):
                raise
            # One of them is refused, or a keyword is: each by itself tells which.
            return False
        for new, uid in zip(group, where, strict=True):
            self._note(new, uid)
        group.clear()
        return True

    async def _append_each(self, connection: Connection, group: list[Outgoing]) -> dict[int, Exception]:
        failed: dict[int, Exception] = {}
        while group:
            new = group[0]
            try:
                where = await self._send(connection, [new])
            except CommandError as error:
                self._check_full(error)
                if error.status not in ("NO", "BAD"):
                    raise
                if new.has_keywords:
                    _log.warning("%s takes no keywords of message %d: %s", self._name, new.message.uid, error)
                    new.leave_keywords()
                    continue
                failed[new.message.uid] = error
            else:
                self._note(new, where[0])
            del group[0]
        return failed

    async def _send(self, connection: Connection, group: Sequence[Outgoing]) -> Sequence[int]:
        """APPEND; gives the UIDs there, 0 where the server does not tell."""
        with opened(group) as messages:
            answer = await connection.append(self._name, *messages)
        if answer is None or answer.uidvalidity != self._way.target.uidvalidity or len(answer.uids) != len(group):
            return [0] * len(group)
        self._seen = max(self._seen, answer.uids.max)
        return list(answer.uids)

    def _check_full(self, error: CommandError) -> None:
        if error.code.upper().partition(" ")[0] == "OVERQUOTA":
            reason = f"the account is full ({error.text}); make room there, and run again"
            raise SinkError(reason, path=self._account) from error
