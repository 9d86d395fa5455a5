"""Finding the messages of a move or a copy in the mailbox where they were to go, because nobody told of them.

A message is *recognised* by its mark: EMAILID, or RFC822.SIZE, the one thing that servers know without looking for it;
and *identified* by its size, INTERNALDATE and Message-ID, which costs a look into each message.

Invariants:

- A message that is still here has arrived only if one of the same identity did: it may be removed here because of that.
- A message that went is one that arrived with its mark; where more of these arrived than went, somebody else put some
  there, and it stays open which one is ours.
- Those that went come first: of two that are alike, the one that is here was not moved.
- Where the target was numbered anew meanwhile, nothing tells what arrived since: all that is in it counts, but for a
  message that is still here only what has every byte of it. Where in the target messages are stays open then.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Set
from typing import NamedTuple

from imapipe.journal.entry import Intent, Job
from imapipe.models.message import Message
from imapipe.net.connection import Connection
from imapipe.pipeline.digest import digest_of_message
from imapipe.pipeline.operation.step import Step
from imapipe.pipeline.source.find import find
from imapipe.pipeline.source.values import fetch_values
from imapipe.search import ALL
from imapipe.search import uid as with_uid
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.uid_set import MAX_UID, UidSet


class Seen(NamedTuple):
    """What is known of a message.

    Attributes:
        mark: What it is recognised by.
        identity: What it is identified by.
    """

    mark: str
    identity: str


class Arrival(NamedTuple):
    """What was found.

    Attributes:
        there: The messages that are still here.
        pairs: UIDs of messages, and what they are in the target.
        unplaced: Messages that went and arrived, of which it stays open where.
    """

    there: UidSet
    pairs: dict[int, int]
    unplaced: UidSet

    @property
    def done(self) -> UidSet:
        """The messages that are in the target."""
        return UidSet.from_numbers(self.pairs) | self.unplaced


async def read_marks(connection: Connection, uids: UidSet) -> dict[int, str]:
    """What messages of the open mailbox are recognised by, wherever they go; raises as `fetch_values` does."""
    if connection.offers("OBJECTID"):
        return await fetch_values(connection, uids, Fetch("email_id"), lambda message: message.email_id)
    return await fetch_values(connection, uids, Fetch("size"), lambda message: str(message.size))


async def find_arrivals(step: Step, job: Job, intent: Intent, known: Mapping[int, int] | None = None) -> Arrival:
    """Look into both mailboxes; the mailbox is open for writing again when this returns.

    Args:
        step: Where.
        job: What was to be done.
        intent: For which messages.
        known: Those of which it is known where they are; they are left out.

    Raises:
        ImapipeError: As the commands do.
    """
    connection = step.connection
    known = known or {}
    uids = intent.uids - UidSet.from_numbers(known)
    await connection.noop()
    there = await step.there(uids)
    here = await _read(connection, there)
    target = await connection.examine(job.target)
    marks = dict(zip(intent.uids, intent.marks, strict=True))
    gone = {uid: marks[uid] for uid in uids - there}
    if target.uidvalidity != intent.uidvalidity:
        return await _find_everywhere(step, gone, there, here, target.exists)
    above = with_uid(UidSet.from_ranges([(max(1, intent.uidnext), MAX_UID)]))
    arrived = await find(connection, above, target.exists, step.today) - UidSet.from_numbers(known.values())
    seen = await _read(connection, arrived)
    await step.access.reopen(connection)
    return _match(gone, there, here, seen)


async def _find_everywhere(
    step: Step, gone: Mapping[int, str], there: UidSet, here: Mapping[int, Seen], exists: int
) -> Arrival:
    """Look into a target that was numbered anew, and is open; arguments as of `_match`, and how much it holds."""
    connection = step.connection
    marks = await read_marks(connection, await find(connection, ALL, exists, step.today))
    arrived = Counter(marks.values())
    wanted = {each.mark for each in here.values()}
    seen = await _read(connection, UidSet.from_numbers(uid for uid, mark in marks.items() if mark in wanted))
    identities = {each.identity for each in here.values()} & {each.identity for each in seen.values()}
    copies = Counter((await _digests(connection, seen, identities)).values())
    await step.access.reopen(connection)
    done: list[int] = []
    for uid, digest in (await _digests(connection, here, identities)).items():
        if copies[digest]:
            copies[digest] -= 1
            arrived[here[uid].mark] -= 1
            done.append(uid)
    for uid, mark in gone.items():
        if arrived[mark] > 0:
            arrived[mark] -= 1
            done.append(uid)
    return Arrival(there, {}, UidSet.from_numbers(done))


async def _digests(connection: Connection, seen: Mapping[int, Seen], identities: Set[str]) -> dict[int, bytes]:
    """The contents of the messages that are one of some."""
    uids = UidSet.from_numbers(uid for uid, each in seen.items() if each.identity in identities)
    return await fetch_values(connection, uids, Fetch("full"), digest_of_message) if uids else {}


def _match(gone: Mapping[int, str], there: UidSet, here: Mapping[int, Seen], seen: Mapping[int, Seen]) -> Arrival:
    """Which message is which.

    Args:
        gone: The marks of those that are not here any more.
        there: Those that are here.
        here: What they are.
        seen: What arrived.
    """
    pairs: dict[int, int] = {}
    unplaced: list[int] = []
    wanted = {each.identity for each in here.values()}
    by_mark: dict[str, list[int]] = defaultdict(list)
    for number in sorted(seen, key=lambda number: (seen[number].identity in wanted, number)):
        by_mark[seen[number].mark].append(number)
    alike: dict[str, list[int]] = defaultdict(list)
    for uid, mark in gone.items():
        alike[mark].append(uid)
    for mark, uids in alike.items():
        numbers = by_mark[mark]
        if sum(seen[number].identity not in wanted for number in numbers) > len(uids):
            unplaced += uids
            continue
        taken, by_mark[mark] = numbers[: len(uids)], numbers[len(uids) :]
        # Servers number them in the order in which they were.
        pairs.update(zip(uids, sorted(taken), strict=False))
    by_identity: dict[str, list[int]] = defaultdict(list)
    for number in sorted((number for numbers in by_mark.values() for number in numbers), reverse=True):
        by_identity[seen[number].identity].append(number)
    for uid in there:
        if uid in here and (found := by_identity[here[uid].identity]):
            pairs[uid] = found.pop()
    return Arrival(there, pairs, UidSet.from_numbers(unplaced))


async def _read(connection: Connection, uids: UidSet) -> dict[int, Seen]:
    if connection.offers("OBJECTID"):
        marks = await read_marks(connection, uids) if uids else {}
        return {uid: Seen(mark, mark) for uid, mark in marks.items()}
    return await fetch_values(connection, uids, Fetch("internal_date", "size", header_fields=("Message-ID",)), _seen)


def _seen(message: Message) -> Seen:
    mark, date = str(message.size), message.internal_date
    seconds = int(date.timestamp()) if date is not None else 0
    return Seen(mark, f"{mark} {seconds} {b' '.join(message.headers.raw.split()).decode('latin-1')}")
