"""The search cache by itself: when an answer holds, what is never kept, how much is kept."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imapipe import search as q
from imapipe.catalog.search_cache import SearchCache
from imapipe.pipeline.source.search_store import MailboxState, SearchQuestion
from imapipe.wire.search_key import SearchKey
from imapipe.wire.uid_set import UidSet

STATE = MailboxState(uidvalidity=7, uidnext=101, exists=50, highest_modseq=900)
UIDS = UidSet.parse("1:50")


def ask(criteria: SearchKey, *, account: str = "ann@host:993", mailbox: str = "INBOX") -> SearchQuestion:
    return SearchQuestion(account, mailbox, criteria)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    "criteria", [q.ALL, q.UNSEEN, q.since(datetime.date(2024, 1, 1)) & q.from_("ann"), q.modseq(5)]
)
@pytest.mark.parametrize(
    "change", [{"uidvalidity": 8}, {"uidnext": 102}, {"exists": 49}, {"uidnext": 102, "exists": 49}]
)
def test_s10_an_answer_holds_while_the_mailbox_is_the_same(criteria: SearchKey, change: dict[str, int]) -> None:
    cache = SearchCache()
    assert cache.recall(ask(criteria), STATE) is None
    cache.remember(ask(criteria), STATE, UIDS)
    assert cache.recall(ask(criteria), STATE) == UIDS
    assert cache.recall(ask(criteria), replace(STATE, **change)) is None  # type: ignore[arg-type]
    # It is gone, not only passed over.
    assert cache.recall(ask(criteria), STATE) is None
    stats = cache.stats
    assert (stats.entries, stats.bytes, stats.hits, stats.misses, stats.outdated) == (0, 0, 1, 2, 1)


@pytest.mark.parametrize("criteria", [q.UNSEEN, ~q.FLAGGED & q.ALL, q.keyword("$Junk"), q.modseq(5)])
def test_s10_a_change_of_flags_ends_an_answer_about_flags(criteria: SearchKey) -> None:
    cache = SearchCache()
    cache.remember(ask(criteria), STATE, UIDS)
    assert cache.recall(ask(criteria), replace(STATE, highest_modseq=901)) is None


@pytest.mark.parametrize("criteria", [q.ALL, q.subject("x"), q.larger(5), q.since(days=3)])
def test_a_change_of_flags_is_nothing_to_other_answers(criteria: SearchKey) -> None:
    cache = SearchCache()
    cache.remember(ask(criteria), STATE, UIDS)
    assert cache.recall(ask(criteria), replace(STATE, highest_modseq=901)) == UIDS
    assert cache.recall(ask(criteria), replace(STATE, highest_modseq=None)) == UIDS


def test_s10_without_mod_sequences_nothing_about_flags_is_kept() -> None:
    cache = SearchCache()
    blind = replace(STATE, highest_modseq=None)
    cache.remember(ask(q.UNSEEN), blind, UIDS)
    assert len(cache) == 0
    cache.remember(ask(q.UNSEEN), STATE, UIDS)
    assert cache.recall(ask(q.UNSEEN), blind) is None


@pytest.mark.parametrize(
    "criteria",
    [
        q.raw("SUBJECT x"),
        q.gmail("newer_than:2d"),
        q.older_than(seconds=60),
        q.younger_than(seconds=60),
        q.NEW,
        q.OLD,
        q.RECENT,
        q.ALL & ~(q.SEEN | q.RECENT),
        q.parse("THREADID Tabc"),
    ],
)
def test_what_may_change_unseen_is_never_kept(criteria: SearchKey) -> None:
    cache = SearchCache()
    cache.remember(ask(criteria), STATE, UIDS)
    assert len(cache) == 0


def test_answers_are_told_apart_by_account_mailbox_criteria_and_day() -> None:
    cache = SearchCache()
    today = datetime.date(2024, 6, 1)
    questions = [
        ask(q.ALL),
        ask(q.ALL, account="bob@host:993"),
        ask(q.ALL, mailbox="Sent"),
        ask(q.subject("a")),
        ask(q.subject("A")),
        replace(ask(q.since(days=3)), day=today),
        replace(ask(q.since(days=3)), day=today + datetime.timedelta(days=1)),
    ]
    for number, question in enumerate(questions, 1):
        cache.remember(question, STATE, UidSet.from_numbers([number]))
    assert [cache.recall(question, STATE) for question in questions] == [
        UidSet.from_numbers([number]) for number in range(1, 8)
    ]


def test_an_answer_gets_no_older_than_its_time_however_often_it_is_used() -> None:
    clock = Clock()
    cache = SearchCache(ttl_seconds=300, clock=clock)
    cache.remember(ask(q.ALL), STATE, UIDS)
    for clock.now in (100.0, 200.0, 299.9):
        assert cache.recall(ask(q.ALL), STATE) == UIDS
    clock.now = 300.0
    assert cache.recall(ask(q.ALL), STATE) is None
    assert (cache.stats.expired, cache.stats.entries, cache.stats.bytes) == (1, 0, 0)

    for_ever = SearchCache(ttl_seconds=None, clock=clock)
    for_ever.remember(ask(q.ALL), STATE, UIDS)
    clock.now = 1e12
    assert for_ever.recall(ask(q.ALL), STATE) == UIDS


def test_the_least_used_answers_make_room() -> None:
    cache = SearchCache(max_entries=3)
    for name in "abc":
        cache.remember(ask(q.subject(name)), STATE, UIDS)
    cache.recall(ask(q.subject("a")), STATE)
    cache.remember(ask(q.subject("d")), STATE, UIDS)
    kept = [name for name in "abcd" if cache.recall(ask(q.subject(name)), STATE) is not None]
    assert kept == ["a", "c", "d"]
    cache.clear()
    assert (len(cache), cache.stats.bytes) == (0, 0)


def test_memory_is_bounded() -> None:
    scattered = UidSet.from_numbers(range(1, 20_000, 2))
    cache = SearchCache(max_bytes=400_000)
    for name in "abcdef":
        cache.remember(ask(q.subject(name)), STATE, scattered)
        assert cache.stats.bytes <= 400_000
    assert len(cache) == 3
    # What is too large alone is not kept, and throws nothing out; a large question counts too.
    cache.remember(ask(q.ALL), STATE, UidSet.from_numbers(range(1, 200_000, 2)))
    cache.remember(ask(q.uid(UidSet.from_numbers(range(1, 200_000, 2)))), STATE, UIDS)
    assert len(cache) == 3
    cache.remember(ask(q.subject("f")), STATE, UIDS)
    assert len(cache) == 3
    assert cache.recall(ask(q.subject("f")), STATE) == UIDS


def test_bounds_without_room_are_refused() -> None:
    with pytest.raises(ValueError, match="max_entries"):
        SearchCache(max_entries=0)
    with pytest.raises(ValueError, match="max_bytes"):
        SearchCache(max_bytes=0)
    with pytest.raises(ValueError, match="ttl_seconds"):
        SearchCache(ttl_seconds=0)


CRITERIA = (q.ALL, q.UNSEEN, q.uid("3:*"))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(("append", "append unseen"))),
        st.tuples(st.sampled_from(("expunge", "flag", "look", "search")), st.integers(0, 5)),
    ),
    max_size=40,
)


@given(STEPS, st.booleans())
def test_s10_whatever_happens_an_answer_from_memory_is_the_right_one(
    steps: list[tuple[str, ...]], condstore: bool
) -> None:
    """A mailbox edited at random, searched by a client whose knowledge of its state may be old."""
    cache = SearchCache()
    seen: dict[int, bool] = {}
    uidnext, modseq = 1, 1

    def state() -> MailboxState:
        return MailboxState(7, uidnext, len(seen), modseq if condstore else None)

    def search(criteria: SearchKey) -> UidSet:
        if criteria == q.UNSEEN:
            return UidSet.from_numbers(uid for uid in seen if not seen[uid])
        if criteria == q.ALL:
            return UidSet.from_numbers(seen)
        last = max(seen, default=0)
        return UidSet.from_numbers(uid for uid in seen if uid >= min(3, last))

    known = state()
    for step, *number in steps:
        index = int(number[0]) if number else 0
        uid = list(seen)[index] if index < len(seen) else None
        if step.startswith("append"):
            seen[uidnext] = step == "append"
            uidnext += 1
            modseq += 1
        elif step == "expunge" and uid is not None:
            # Without QRESYNC an expunge need not touch HIGHESTMODSEQ.
            del seen[uid]
        elif step == "flag" and uid is not None:
            seen[uid] = not seen[uid]
            modseq += 1
        elif step == "look":
            # The mailbox is opened: only now is its state known.
            known = state()
            for criteria in CRITERIA:
                assert cache.recall(ask(criteria), known) in (None, search(criteria))
        elif step == "search":
            criteria = CRITERIA[index % len(CRITERIA)]
            cache.remember(ask(criteria), known, search(criteria))
