"""What changed between two times, told in an order that a number can stand for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imapipe.changes.news import News
from imapipe.models.change import Arrived, Vanished
from imapipe.models.flag_table import FlagGatherer, FlagTable

FLAGS = st.frozensets(st.sampled_from(["\\Seen", "\\Flagged"]))
TABLES = st.dictionaries(st.integers(1, 15), FLAGS)


def _table(flags: dict[int, frozenset[str]]) -> FlagTable:
    gatherer = FlagGatherer()
    for uid, of_it in flags.items():
        gatherer.add(uid, of_it)
    return gatherer.table()


@given(TABLES, TABLES, st.integers(0, 40))
def test_a_number_says_how_far_it_was_told(
    before: dict[int, frozenset[str]], after: dict[int, frozenset[str]], count: int
) -> None:
    news = News.between(_table(before), _table(after))
    changes = list(news.items())
    assert len(changes) == len(news)
    told = dict(before)
    for change in changes[:count]:
        if isinstance(change, Vanished):
            assert change.uid not in after
            del told[change.uid]
        else:
            assert (change.uid not in before) is isinstance(change, Arrived)
            assert told.get(change.uid) != change.flags
            told[change.uid] = change.flags
    assert list(news.first(count).items()) == changes[:count]
    assert News.from_json(news.to_json()).first(count).applied_to(_table(before)) == _table(told)
    assert news.applied_to(_table(before)) == _table(after)
