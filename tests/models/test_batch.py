"""What results of batches add up to."""

from __future__ import annotations

import pytest

from imapipe.models.batch import Batch, BatchResult
from imapipe.wire.uid_set import UidSet

BATCH = Batch(1, UidSet.parse("1:10"))


@pytest.mark.parametrize(("one", "other", "both"), [(None, None, None), (None, 2.0, 2.0), (3.0, None, 3.0), (1, 2, 2)])
def test_the_slowest_reply_of_all_calls_counts(one: float | None, other: float | None, both: float | None) -> None:
    merged = BatchResult(BATCH, reply_seconds=one).merge(BatchResult(BATCH, reply_seconds=other))
    assert merged.reply_seconds == both


def test_what_is_settled_later_is_not_missing_any_more() -> None:
    first = BatchResult(BATCH, done=UidSet.parse("1:3"), missing=UidSet.parse("4:10"), bytes_received=5)
    second = BatchResult(BATCH, vanished=UidSet.parse("4"), missing=UidSet.parse("5:10"), bytes_received=7)
    merged = first.merge(second)
    assert (merged.done, merged.vanished, merged.missing) == (
        UidSet.parse("1:3"),
        UidSet.parse("4"),
        UidSet.parse("5:10"),
    )
    assert merged.bytes_received == 12
