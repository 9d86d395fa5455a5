"""A memory for searches: it saves the SEARCH while the server says that nothing changed.

When an answer holds is proved in `pipeline.source.search_store`; here stands which searches the proof is good for.

Invariants:

- A search that looks at flags is kept only with HIGHESTMODSEQ. Any other one does not care for changes of flags.
- A search whose result can change while the mailbox stays as it is, or of which that is not known, is never kept.
- The numbers that a mailbox had last are kept too. Where UIDNEXT or HIGHESTMODSEQ is lower than that, or UIDVALIDITY or
  MAILBOXID another, every answer of the mailbox is dropped; an answer is kept only under the numbers seen last.
- The cache holds at most `max_entries` answers, knows at most as many mailboxes, and holds
  `max_bytes` bytes; what was used last stays longest.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from imapipe.models.document import Document
from imapipe.pipeline.source.search_store import MailboxState, SearchQuestion
from imapipe.wire.search_key import SearchKey
from imapipe.wire.search_term import RAW
from imapipe.wire.uid_set import UidSet

_NEVER_KEPT: Final = frozenset(
    (
        *("OLDER", "YOUNGER"),  # they change from one second to the next
        *("NEW", "OLD", "RECENT"),  # they are about the session
        *("THREADID", "X-GM-THRID"),  # a server may join threads
        *(RAW, "X-GM-RAW", "X-GM-LABELS"),  # nothing is known of what changes them
    )
)
# An estimate: the objects of an entry, and 12 bytes a range (with its rank, which is computed when it is needed).
_ENTRY_BYTES: Final = 1_000
_RANGE_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class SearchCacheStats(Document):
    """What a cache did so far.

    Attributes:
        entries: Answers that it holds.
        bytes: About how much memory they take.
        hits: Searches answered from memory.
        misses: Searches that it did not know.
        outdated: Searches whose answer was dropped, because the mailbox had changed.
        expired: Searches whose answer was dropped because of its age.
    """

    entries: int
    bytes: int
    hits: int
    misses: int
    outdated: int
    expired: int


class _Entry(NamedTuple):
    state: MailboxState
    uids: UidSet
    expires_at: float
    size: int


@dataclass(slots=True)
class _Place:
    """A mailbox of which there are answers.

    Attributes:
        state: What the server said of it last.
        questions: What is answered.
    """

    state: MailboxState
    questions: set[SearchQuestion] = field(default_factory=set)


class SearchCache:
    """Remembers what searches found: `create_pool(..., search_cache=imapipe.SearchCache())`.

    All searches of the pool go through it. A run opens its mailbox in any case (EXAMINE), and that tells whether
    anything changed since; if not, there is no SEARCH. One cache may serve the pools of many accounts, in one event
    loop.

    Args:
        max_entries: The most answers kept.
        max_bytes: The most memory for them, as an estimate; a million UIDs without gaps take a kilobyte, with a gap
            after each 12 MB.
        ttl_seconds: How long an answer is kept at most, whatever the server says; None is for ever.
        clock: Seconds, ascending.

    Raises:
        ValueError: A bound that leaves no room.
    """

    __slots__ = (
        "_bytes",
        "_clock",
        "_entries",
        "_expired",
        "_hits",
        "_misses",
        "_outdated",
        "_places",
        "max_bytes",
        "max_entries",
        "ttl_seconds",
    )

    def __init__(
        self,
        *,
        max_entries: int = 1_000,
        max_bytes: int = 64 * 1024 * 1024,
        ttl_seconds: float | None = 3600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_entries < 1 or max_bytes < 1:
            raise ValueError("max_entries and max_bytes must be 1 or more")
        if ttl_seconds is not None and ttl_seconds <= 0:
            raise ValueError(f"ttl_seconds must be above 0, or None, not {ttl_seconds}")
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.ttl_seconds = ttl_seconds
        self._clock = clock
        self._entries: OrderedDict[SearchQuestion, _Entry] = OrderedDict()
        self._places: OrderedDict[tuple[str, str], _Place] = OrderedDict()
        self._bytes = 0
        self._hits = self._misses = self._outdated = self._expired = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<SearchCache of {len(self._entries)} answers>"

    @property
    def stats(self) -> SearchCacheStats:
        """What it did so far."""
        return SearchCacheStats(
            len(self._entries), self._bytes, self._hits, self._misses, self._outdated, self._expired
        )

    def clear(self) -> None:
        """Forget every answer."""
        self._entries.clear()
        self._places.clear()
        self._bytes = 0

    # -- what a run calls ------------------------------------------------------------------------

    def recall(self, question: SearchQuestion, state: MailboxState) -> UidSet | None:
        """See `SearchStore`."""
        was_known = question in self._entries
        self._notice(question, state)
        entry = self._entries.get(question)
        if entry is None:
            self._misses += not was_known
            return None
        if self._clock() >= entry.expires_at:
            self._drop(question)
            self._expired += 1
            return None
        if not _still_holds(question.criteria, entry.state, state):
            self._drop(question)
            self._outdated += 1
            return None
        self._entries.move_to_end(question)
        self._hits += 1
        return entry.uids

    def remember(self, question: SearchQuestion, state: MailboxState, uids: UidSet) -> None:
        """See `SearchStore`."""
        if not _can_be_kept(question.criteria, state):
            return
        place = self._places.get(_place_of(question)) or self._notice(question, state)
        if _numbers(place.state) != _numbers(state):
            # Others have seen the mailbox since: what is older holds no more, or belongs to messages that are gone.
            return
        size = _ENTRY_BYTES + _RANGE_BYTES * uids.range_count + _size_of(question.criteria)
        if question in self._entries:
            self._drop(question)
        if size > self.max_bytes:
            return
        expires_at = self._clock() + self.ttl_seconds if self.ttl_seconds is not None else float("inf")
        self._entries[question] = _Entry(state, uids, expires_at, size)
        self._bytes += size
        place.questions.add(question)
        while len(self._entries) > self.max_entries or self._bytes > self.max_bytes:
            self._drop(next(iter(self._entries)))

    def _notice(self, question: SearchQuestion, state: MailboxState) -> _Place:
        """A mailbox has these numbers now: drop its answers where it went back."""
        name = _place_of(question)
        place = self._places.setdefault(name, _Place(state))
        self._places.move_to_end(name)
        if _went_back(place.state, state):
            self._outdated += len(place.questions)
            self._empty(place)
        place.state = state
        if len(self._places) > self.max_entries:
            _, oldest = self._places.popitem(last=False)
            self._empty(oldest)
        return place

    def _empty(self, place: _Place) -> None:
        for question in place.questions:
            self._bytes -= self._entries.pop(question).size
        place.questions.clear()

    def _drop(self, question: SearchQuestion) -> None:
        self._bytes -= self._entries.pop(question).size
        self._places[_place_of(question)].questions.discard(question)


def _place_of(question: SearchQuestion) -> tuple[str, str]:
    return question.account, question.mailbox


def _numbers(state: MailboxState) -> tuple[int, int, str]:
    return state.uidvalidity, state.uidnext, state.mailbox_id


def _went_back(then: MailboxState, now: MailboxState) -> bool:
    """Whether the mailbox cannot have come from one state to the other by what happens to mailboxes."""
    if (then.uidvalidity, then.mailbox_id) != (now.uidvalidity, now.mailbox_id) or now.uidnext < then.uidnext:
        return True
    return (
        then.highest_modseq is not None and now.highest_modseq is not None and now.highest_modseq < then.highest_modseq
    )


def _can_be_kept(criteria: SearchKey, state: MailboxState) -> bool:
    if any(term.name in _NEVER_KEPT for term in criteria.terms):
        return False
    return state.highest_modseq is not None or not criteria.uses_flags


def _still_holds(criteria: SearchKey, then: MailboxState, now: MailboxState) -> bool:
    if (then.uidvalidity, then.uidnext, then.exists) != (now.uidvalidity, now.uidnext, now.exists):
        return False
    return not criteria.uses_flags or then.highest_modseq == now.highest_modseq


def _size_of(criteria: SearchKey) -> int:
    """About how many bytes a search takes: its texts and its sets of UIDs."""
    return sum(
        _RANGE_BYTES * argument.range_count if isinstance(argument, UidSet) else 2 * len(str(argument))
        for term in criteria.terms
        for argument in term.arguments
    )
