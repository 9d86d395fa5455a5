"""How long a database is waited for."""

from __future__ import annotations

import time

import pytest

from imapipe.cluster.outage import Outage
from imapipe.errors import DatabaseError

AWAY = DatabaseError("it does not answer", database="shared", is_transient=True)


def test_an_outage_is_waited_for_so_long_and_each_has_its_own_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    outage = Outage("batches", 10.0)
    assert (outage.is_on, outage.lasted_seconds) == (False, 0.0)
    assert outage.failed(AWAY)
    now[0] += 9.9
    assert outage.failed(AWAY)
    now[0] += 0.1
    assert not outage.failed(AWAY)
    assert (outage.is_on, outage.lasted_seconds) == (True, 10.0)
    assert [record.getMessage() for record in caplog.records] == [
        "batches wait for database shared: it does not answer"
    ]
    outage.ended()
    assert not outage.is_on
    assert outage.failed(AWAY)
    assert outage.lasted_seconds == 0.0


def test_what_does_not_pass_is_not_waited_for() -> None:
    assert not Outage("batches", 10.0).failed(DatabaseError("there is no such table", database="shared"))


def test_pauses_grow_to_a_second_and_begin_anew() -> None:
    outage = Outage("batches", 10.0)
    outage.failed(AWAY)
    assert 0.025 <= outage.pause_seconds(AWAY) <= 0.05
    for _ in range(9):
        outage.failed(AWAY)
    assert 0.5 <= outage.pause_seconds(AWAY) <= 1.0
    outage.ended()
    outage.failed(AWAY)
    assert outage.pause_seconds(AWAY) <= 0.05
