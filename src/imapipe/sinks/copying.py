"""Copying messages of one mailbox into one of another account.

Invariants:

- Where an answer is missing (the connection was lost, the process killed), the target is looked at before anything is
  sent again: what has the Message-ID, the time of arrival, the size and the content of a message is its copy.
- With the state lost, all that is in the target is compared by Message-ID, time and size: it is not sent again.
- A message of the target is the copy of one message at most, whichever mailboxes are copied into it at the same time.
  (Gmail keeps one of several that are the same; there it is the copy of all of them.)
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from functools import partial
from typing import Final

from imapipe.errors import (
    CommandError,
    CommandTimeout,
    ConnectionLost,
    ImapipeError,
    NotFetched,
    ServerBye,
    SinkError,
)
from imapipe.models.identity import Identity
from imapipe.net.connection import Connection
from imapipe.net.signals import is_full
from imapipe.pipeline.delivery.stream import Runs
from imapipe.pipeline.delivery.tasks import end_tasks
from imapipe.pipeline.digest import digest_of_file
from imapipe.pipeline.pipeline import Pipeline
from imapipe.pipeline.specification import Specification
from imapipe.search import uid as uids_between
from imapipe.sinks.awaiting import Awaiting, is_refusal
from imapipe.sinks.copied import MAX_PAIRS, Claims, Copied, Way
from imapipe.sinks.folder_map import Folder
from imapipe.sinks.likeness import WANTED, Candidates, Likeness, content_of
from imapipe.sinks.outgoing import Outgoing, groups, opened
from imapipe.sinks.place import Place
from imapipe.sinks.rejected import Rejected
from imapipe.sinks.survey import Target
from imapipe.sinks.target_mailbox import TargetMailbox, open_target, where_told
from imapipe.wire.uid_set import MAX_UID, UidSet

_log = logging.getLogger(__name__)

_MESSAGES_PER_TURN: Final = 500
# How a connection ends; a server may do so each time it is given some message.
_DEATHS: Final = (ConnectionLost, CommandTimeout, ServerBye)


class MailboxCopy:
    """The copying of one mailbox into another.

    Args:
        pool: The pool of the other account.
        source: Where the messages are from.
        folder: Where they go.
        copied: What has been copied.
        awaiting: How long to wait for the other server.

    Attributes:
        compares_content: Copies are told by their content, too: only the last ones are in doubt.
    """

    def __init__(self, pool: Target, source: Place, folder: Folder, copied: Copied, awaiting: Awaiting) -> None:
        self._connections = pool.connections
        self._account = pool.account
        self._source = source
        self._folder = folder
        self._name = folder.name
        self._there = TargetMailbox(folder.name)
        self._copied = copied
        self._awaiting = awaiting
        self._way, self._claims = self._ways(0)
        # Confirmed, and not in the state yet: UIDs here and there.
        self._new: list[tuple[int, int]] = []
        # Confirmed by a server that does not tell where they are, and not met there so far.
        self._unplaced: dict[int, Likeness] = {}
        self._candidates = Candidates()
        self.compares_content = False
        # The highest UID there of which is known what it is.
        self._seen = 0
        self._confirmed = 0
        self._in_doubt = False
        # Until messages were taken only without theirs.
        self._takes_keywords = True

    @property
    def has_candidates(self) -> bool:
        """Whether the target holds messages of which is not known what they are."""
        return self._candidates.lowest is not None

    async def begin(self) -> None:
        """Make the mailbox where it is missing, and look at what may be ours in it."""
        there = await self._awaiting.around(partial(open_target, self._connections, self._folder))
        self._there, self._name = there, there.name
        self._candidates.are_shared = there.keeps_one
        self._way, self._claims = self._ways(there.uidvalidity)
        settled = self._copied.settled(self._way)
        self.compares_content = settled is not None
        self._seen = settled or 0
        if there.last_uid > self._seen:
            async with self._claims.turn:
                await self._awaiting.around(self._look)

    async def match(self, identities: Mapping[int, Identity]) -> UidSet:
        """Find the copies of messages by what the source's server tells of them; gives those that have one.

        Of twins it says nothing, unless there are as many here as there: which is whose is seen when they are written.
        """
        alike: dict[bytes, list[int]] = {}
        for count, (uid, identity) in enumerate(identities.items()):
            if not count % _MESSAGES_PER_TURN:
                await asyncio.sleep(0)
            if identity.content is not None:
                alike.setdefault(identity.content, []).append(uid)
        matched: list[int] = []
        for count, (content, uids) in enumerate(alike.items()):
            if not count % _MESSAGES_PER_TURN:
                await asyncio.sleep(0)
            there = self._candidates.with_content(content)
            if there and self._candidates.are_shared:
                there = [there[0]] * len(uids)
            if len(there) == len(uids):
                for uid, copy in zip(sorted(uids), there, strict=True):
                    self._candidates.take(copy)
                    self._note(uid, copy)
                matched += uids
        return UidSet.from_numbers(matched)

    async def write(self, messages: Sequence[Outgoing]) -> Mapping[int, Exception]:
        """Append what is not there yet; gives what was refused.

        Raises:
            SinkError: The account is full.
            ImapipeError: Its server is gone.
        """
        rejected = Rejected()
        new = [each for each in messages if not self._copied.has(self._way, each.message.uid)]
        async with self._claims.turn:
            missing = await self._awaiting.around(lambda: self._without_found(new))
            for group in groups(missing):
                await self._awaiting.around(partial(self._append, group, rejected))
        return rejected.failed

    async def settle(self) -> bytes:
        """What the state has to note; nothing where nothing is new."""
        if not (self._new or self._unplaced):
            return b""
        if self._unplaced:
            async with self._claims.turn:
                await self._awaiting.around(self._look)
            # Changed on its way in, or taken away by somebody else since: that it arrived is all that is known.
            self._new += [(here, 0) for here in self._unplaced]
            self._forget_unplaced()
        # What may still turn out to be a copy has to be looked at again.
        lowest = self._candidates.lowest
        settled = self._seen if lowest is None else min(self._seen, lowest - 1)
        count = len(self._new)
        lines: list[bytes] = []
        for first in range(0, count, MAX_PAIRS):
            pairs = self._new[first : min(first + MAX_PAIRS, count)]
            is_last = first + len(pairs) == count
            # A crash may leave some of the lines, and settled is only what the last of them says.
            lines.append(
                self._copied.add(self._way, pairs, settled if is_last else self._copied.settled(self._way) or 0)
            )
            if not is_last:
                await asyncio.sleep(0)
        del self._new[:count]
        return b"".join(lines)

    def _ways(self, uidvalidity: int) -> tuple[Way, Claims]:
        way = Way(self._source, Place(self._account, self._name, uidvalidity))
        return way, self._copied.claims(way.target)

    async def _look(self) -> None:
        """Know what is in the target above what is known."""
        highest = self._seen
        found: list[tuple[Likeness, bytes | None, int]] = []
        job = self._pipeline(Specification(self._name, search=uids_between(f"{min(self._seen + 1, MAX_UID)}:*")))
        async for message in job.fetch(WANTED):
            # `5:*` is the last message, too, where that is below 5.
            if message.uid > self._seen and message.uid not in self._claims.uids:
                with suppress(NotFetched):
                    # One of which no size is told is like no other.
                    found.append((Likeness.of(message, message.size), content_of(message), message.uid))
            highest = max(highest, message.uid)
        for count, (likeness, content, uid) in enumerate(found):
            if not count % _MESSAGES_PER_TURN:
                await asyncio.sleep(0)
            # Copies of what was confirmed are not those of their twins.
            if not self._claims.place(likeness, uid):
                self._candidates.add(uid, likeness, content)
        # Not before: whoever is cancelled in between has not seen them.
        self._seen = highest
        self._in_doubt = False

    async def _without_found(self, group: Sequence[Outgoing]) -> list[Outgoing]:
        """The messages of a group that are not there; the others are noted."""
        digests: dict[int, bytes] = {}
        alike = UidSet.from_numbers(
            {uid for new in group if self._is_doubtful(new) for uid in self._free(new.likeness)}
        )
        if alike:
            digests = await self._digests(alike)
        missing: list[Outgoing] = []
        for new in group:
            uids = self._free(new.likeness)
            if uids and self._is_doubtful(new):
                with new.message.open() as file:
                    digest = await asyncio.to_thread(digest_of_file, file)
                uids = [uid for uid in uids if digests.get(uid) == digest]
            if uids:
                self._candidates.take(uids[0])
                self._note(new.message.uid, uids[0])
            else:
                missing.append(new)
        return missing

    def _is_doubtful(self, new: Outgoing) -> bool:
        """Whether being alike is not enough: without a Message-ID it is no more than a size and a second."""
        return self.compares_content or not new.likeness.message_id

    def _free(self, likeness: Likeness) -> list[int]:
        """Candidates that are alike, without what was found to be the copy of another mailbox's message."""
        claimed = () if self._candidates.are_shared else self._claims.uids
        return [uid for uid in self._candidates.like(likeness) if uid not in claimed]

    async def _digests(self, uids: UidSet) -> dict[int, bytes]:
        """The content of messages of the target."""
        digests: dict[int, bytes] = {}
        job = self._pipeline(Specification(self._name, search=uids_between(uids.text())))
        async for message in job.fetch("full"):
            with message.open() as file:
                digests[message.uid] = await asyncio.to_thread(digest_of_file, file)
        return digests

    def _pipeline(self, specification: Specification) -> Pipeline:
        return Pipeline(specification, self._connections, self._account, Runs())

    def _note(self, here: int, there: int) -> None:
        self._new.append((here, there))
        self._claims.uids.add(there)

    async def _append(self, group: list[Outgoing], rejected: Rejected, *, together: bool = True) -> None:
        """Append a group, as far as it is not there; may be called again when the connection was lost."""
        if self._in_doubt:
            await self._look()
            self.compares_content = True
            missing = await self._without_found(group)
            for new in set(group).difference(missing):
                rejected.is_there(new)
            group[:] = missing
            rejected.sort_out(group)
            if rejected.take_progress():
                self._awaiting.heard()
        if not group:
            return
        self._in_doubt = True
        async with self._connections.lease() as connection:
            rejected.leave_out(group, connection.append_limit, f"{self._account} {self._name}")
            together = together and len(group) > 1 and connection.offers("MULTIAPPEND") and rejected.may_go_together
            was_refused = together and not await self._append_together(connection, group, rejected)
            if not was_refused:
                await self._append_each(connection, group, rejected)
        if was_refused:
            # All or none of them are there (RFC 3502 §6.3.11), if the server keeps to it: they are in doubt.
            await self._append(group, rejected, together=False)
            return
        # Not before: of several commands in flight a later one may be answered first.
        self._seen = max(self._seen, self._confirmed)
        self._in_doubt = False

    async def _append_together(self, connection: Connection, group: list[Outgoing], rejected: Rejected) -> bool:
        """All in one command; whether the server took them."""
        try:
            where = await self._send(connection, group)
        except _DEATHS:
            rejected.died_together()
            raise
        except CommandError as error:
            # All or none of them (RFC 3502): of a full account some may still fit.
            if not is_refusal(error):
                raise
            # One of them is refused, or a keyword is: each by itself tells which.
            return False
        for new, uid in zip(group, where, strict=True):
            self._placed(new, uid)
        group.clear()
        return True

    async def _append_each(self, connection: Connection, group: list[Outgoing], rejected: Rejected) -> None:
        """One command for each, on as many connections as there are: else each would cost a round trip or two."""
        waiting = deque(group)
        at_work: set[asyncio.Task[None]] = set()

        async def work(connection: Connection) -> None:
            while waiting:
                new = waiting.popleft()
                try:
                    error = await self._append_one(connection, new)
                except _DEATHS as lost:
                    rejected.died_at(new, lost)
                    raise
                if error is not None:
                    rejected.refuse(new, error)
                else:
                    rejected.answered()
                group.remove(new)

        async def help_(lease: AbstractAsyncContextManager[Connection]) -> None:
            async with AsyncExitStack() as stack:
                try:
                    other = await stack.enter_async_context(lease)
                except ImapipeError:
                    # There may be no more connections; this one is enough.
                    return
                task = asyncio.current_task()
                assert task is not None
                at_work.add(task)
                await work(other)

        # One after the other, where a connection may end with any of them.
        count = sum(not rejected.is_suspect(new) for new in group[: self._connections.max_size]) - 1
        helpers = [asyncio.create_task(help_(self._connections.lease())) for _ in range(count)]
        try:
            await work(connection)
            await asyncio.gather(*at_work)
        finally:
            # Those that wait for a connection still; where one has failed all, since its message is in doubt.
            await end_tasks(helpers)
            for task in helpers:
                # asyncio complains of an exception that nobody has seen; the first one is raised.
                if not task.cancelled():
                    task.exception()

    async def _append_one(self, connection: Connection, new: Outgoing) -> Exception | None:
        """Append a message; gives what it was refused for."""
        left_out: Exception | None = None
        may_pass = self._takes_keywords
        while True:
            try:
                where = await self._send(connection, [new])
            except CommandError as error:
                self._check_full(error)
                if not is_refusal(error):
                    raise
                if not new.has_keywords:
                    return error
                if may_pass:
                    # It may be of this moment, and is then no reason to leave anything out.
                    may_pass = False
                    continue
                left_out = error
                new.leave_keywords()
            else:
                if left_out is not None:
                    self._takes_keywords = False
                    _log.warning("%s takes no keywords of message %d: %s", self._name, new.message.uid, left_out)
                self._placed(new, where[0])
                return None

    def _placed(self, new: Outgoing, there: int) -> None:
        if there:
            self._note(new.message.uid, there)
            return
        here = new.message.uid
        self._unplaced[here] = new.likeness

        def met(uid: int) -> None:
            del self._unplaced[here]
            self._note(here, uid)

        self._claims.expect(new.likeness, self, met)

    def _forget_unplaced(self) -> None:
        self._unplaced.clear()
        self._claims.forget(self)

    async def _send(self, connection: Connection, group: Sequence[Outgoing]) -> Sequence[int]:
        """APPEND; gives the UIDs there, 0 where the server does not tell."""
        with opened(group) as messages:
            answer = await connection.append(self._name, *messages)
        uids = where_told(answer, self._there, len(group), self._claims.uids)
        self._confirmed = max(self._confirmed, *uids)
        return uids

    def _check_full(self, error: CommandError) -> None:
        if is_full("APPEND", error.code):
            reason = f"the account is full ({error.text}); make room there, and run again"
            raise SinkError(reason, path=self._account) from error
