"""What a message is worth."""

from __future__ import annotations

import pytest

from imapipe.limits.worth import Worth, smoothed
from imapipe.models.batch import Batch
from imapipe.wire.uid_set import UidSet


def batch_of(messages: int, size_bytes: int | None = None) -> Batch:
    return Batch(1, UidSet.from_ranges([(1, messages)]), size_bytes=size_bytes)


def test_a_known_size_is_the_price_and_teaches_nothing() -> None:
    worth = Worth()
    assert worth.price(batch_of(10, 500)) == 500
    assert worth.price(batch_of(10)) is None
    assert not worth.is_known


def test_the_newest_weighs_three_tenths() -> None:
    worth = Worth()
    worth.learn(1_000, 10)
    assert worth.is_known
    assert worth.price(batch_of(3)) == 300
    worth.learn(2_000, 10)
    assert worth.price(batch_of(1)) == pytest.approx(130)
    assert worth.price(batch_of(1, 7)) == 7
    assert smoothed(None, 5.0) == 5.0
    assert smoothed(10.0, 20.0) == pytest.approx(13)


@pytest.mark.parametrize(("received", "messages"), [(0, 10), (100, 0), (-1, 1)])
def test_nothing_tells_nothing(received: int, messages: int) -> None:
    worth = Worth()
    worth.learn(received, messages)
    assert not worth.is_known
