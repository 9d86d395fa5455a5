r"""Which flags messages have before some are changed: by searches where that is enough, else by FETCH.

A search answers with ranges of UIDs, so that what is known of 50,000 messages is a few lines. It tells of the flags
that were asked for, which is all that matters where flags are added or removed. It is believed where the server has
ESEARCH: those that have not are often those whose searches lag behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from imapipe import search as q
from imapipe.models.message import Message
from imapipe.pipeline.operation.step import Step
from imapipe.pipeline.source.values import fetch_values
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.search_key import SearchKey
from imapipe.wire.uid_set import UidSet

Groups = tuple[tuple[frozenset[str], UidSet], ...]

_SYSTEM = {
    "\\seen": q.SEEN,
    "\\flagged": q.FLAGGED,
    "\\answered": q.ANSWERED,
    "\\deleted": q.DELETED,
    "\\draft": q.DRAFT,
}


class Flagged(NamedTuple):
    """What is known of messages.

    Attributes:
        groups: Sets of flags, and the messages that have just these; those that are not there are in none.
        highest_modseq: The highest mod-sequence among them, or 0.
    """

    groups: Groups
    highest_modseq: int = 0

    @property
    def uids(self) -> UidSet:
        """The messages that are there."""
        return union(uids for _, uids in self.groups)


def union(sets: Iterable[UidSet]) -> UidSet:
    """All that is in one of some sets."""
    joined = UidSet()
    for uids in sets:
        joined |= uids
    return joined


async def search_flags(step: Step, uids: UidSet, flags: Iterable[str]) -> Flagged | None:
    """Which of some flags messages have, or None where that must be read; raises as `Connection.uid_search` does."""
    connection = step.connection
    keys = {flag: _key(flag) for flag in flags}
    if not connection.offers("ESEARCH") or None in keys.values():
        return None
    programs = [key.program(today=step.today) for key in (q.ALL, *keys.values()) if key is not None]
    answers = await asyncio.gather(*(connection.uid_search(program, within=uids) for program in programs))
    if any(answer.notes or answer.limited_below is not None for answer in answers):
        return None
    there, *having = (answer.uids & uids for answer in answers)
    groups: list[tuple[frozenset[str], UidSet]] = [(frozenset(), there)]
    for flag, have in zip(keys, having, strict=True):
        groups = [
            part for had, group in groups for part in ((had, group - have), (had | {flag}, group & have)) if part[1]
        ]
    return Flagged(tuple(groups))


async def fetch_flags(step: Step, uids: UidSet, *, with_modseq: bool = False) -> Flagged:
    r"""All flags of messages but `\Recent`, which is nobody's; raises as `fetch_values` does."""

    def read(message: Message) -> tuple[frozenset[str], int]:
        modseq = message.modseq if with_modseq else 0
        return frozenset(flag for flag in message.flags if flag.lower() != "\\recent"), modseq or 0

    fetch = Fetch("flags", "modseq") if with_modseq else Fetch("flags")
    found = await fetch_values(step.connection, uids, fetch, read)
    highest = max((modseq for _, modseq in found.values()), default=0)
    return Flagged(grouped((uid, had) for uid, (had, _) in found.items()), highest)


def grouped(flags: Iterable[tuple[int, frozenset[str]]]) -> Groups:
    """Messages by their flags."""
    numbers: dict[frozenset[str], list[int]] = {}
    for uid, had in flags:
        numbers.setdefault(had, []).append(uid)
    return tuple((had, UidSet.from_numbers(each)) for had, each in numbers.items())


def _key(flag: str) -> SearchKey | None:
    return _SYSTEM.get(flag.lower()) if flag.startswith("\\") else q.keyword(flag)
