"""The report of a run: sums, ratios, JSON and text."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from datetime import UTC, datetime

import orjson
import pytest

from imapipe.models.batch import Failure
from imapipe.models.distribution import Distribution
from imapipe.models.report import MAX_FAILURE_DETAILS, RunReport
from imapipe.wire.response.note import Note
from imapipe.wire.uid_set import UidSet

STARTED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def partial_report() -> RunReport:
    return RunReport(
        account="ann@imap.example.org:993",
        mailbox="Entwürfe",
        uidvalidity=42,
        planned=1_000,
        done=700,
        skipped=200,
        vanished=40,
        failed=60,
        failures={7: Failure(7, "ValueError", "no such day"), 9: Failure(9, "malformed", "", b"* 9 FETCH \xff")},
        failed_uids=UidSet.parse("7,9,100:157"),
        started_at=STARTED,
        elapsed_seconds=3.5,
        bytes_received=12_345,
        wire_bytes=2_345,
        batch_sizes=Distribution(100.0, 50.0, 200.0, 100.0, 195.0, 10),
        retries=3,
        done_all_runs=900,
    )


def test_an_empty_mailbox_is_a_complete_report_of_zeros() -> None:
    report = RunReport(started_at=STARTED)
    assert report.complete
    document = orjson.loads(report.to_json())
    assert document.pop("complete") is True
    assert document.pop("started_at") == "2026-03-01T12:00:00+00:00"
    texts = {name: document.pop(name) for name in ("account", "mailbox", "failed_uids")}
    assert set(texts.values()) == {""}
    assert document.pop("failures") == document.pop("change_failures") == {}
    assert document.pop("cursor") == {}
    assert document.pop("missing_items") == {}
    assert document.pop("notes") == []
    assert document.pop("retry_at") is None
    for name in ("batch_seconds", "batch_sizes", "loop_lag_seconds"):
        assert set(document.pop(name).values()) == {0}
    assert set(document.values()) == {0}
    assert report.table().splitlines()[2] == "complete          yes"


def test_ratios() -> None:
    report = partial_report()
    assert report.messages_per_second == 200.0
    assert report.error_rate == 60 / 800
    assert report.unsettled == 0
    assert not report.complete


@pytest.mark.parametrize(
    ("report", "complete"),
    [
        (RunReport(planned=10, done=5, skipped=4, vanished=1), True),
        (RunReport(planned=10, skipped=10), True),
        (RunReport(planned=10, done=5, skipped=3, vanished=1, failed=1), False),
        (RunReport(planned=10, done=5, skipped=4, vanished=1, unaccounted=1), False),
        (RunReport(planned=10, done=5, skipped=3, vanished=1), False),
        (RunReport(planned=9, done=9, changes_due=9, changed=8, change_vanished=1), True),
        (RunReport(planned=9, done=9, changes_due=9, changed=8, change_failed=1), False),
        (RunReport(planned=9, done=9, changes_due=9, changed=8), False),
    ],
)
def test_complete_means_nothing_failed_and_nothing_is_open(report: RunReport, complete: bool) -> None:
    assert report.complete is complete


def test_to_json_holds_every_field_and_the_derived_ones() -> None:
    report = partial_report()
    document = orjson.loads(report.to_json())
    derived = {"complete", "messages_per_second", "error_rate", "unsettled", "changes_owed"}
    assert set(document) == {field.name for field in fields(report)} | derived
    assert document["planned"] == 1_000
    assert document["mailbox"] == "Entwürfe"
    assert document["failed_uids"] == "7,9,100:157"
    assert document["failures"] == {
        "7": {"reason": "ValueError", "detail": "no such day"},
        "9": {"reason": "malformed", "detail": "", "excerpt": "* 9 FETCH \\xff"},
    }
    assert document["batch_sizes"]["p95"] == 195.0


def test_text_that_utf_8_cannot_hold_is_written_out() -> None:
    report = RunReport(mailbox="a\udcffb", failures={1: Failure(1, "E\udc80", "\udc81")}, failed=1, planned=1)
    document = orjson.loads(report.to_json())
    assert document["mailbox"] == "a\\udcffb"
    assert document["failures"]["1"] == {"reason": "E\\udc80", "detail": "\\udc81"}
    report.table().encode()


def test_details_of_failures_are_capped_and_the_uids_are_not() -> None:
    failures = {uid: Failure(uid, "ValueError") for uid in range(1, MAX_FAILURE_DETAILS + 500)}
    report = RunReport(
        planned=len(failures), failed=len(failures), failures=failures, failed_uids=UidSet.from_numbers(failures)
    )
    assert list(report.failures) == list(range(1, MAX_FAILURE_DETAILS + 1))
    assert len(report.failed_uids) == report.failed == MAX_FAILURE_DETAILS + 499


def test_table_names_what_people_ask_for() -> None:
    lines = partial_report().table().splitlines()
    rows = dict(line.split("  ", 1) for line in lines)
    values = {name: value.strip() for name, value in rows.items()}
    assert values["mailbox"] == "Entwürfe (UIDVALIDITY 42)"
    assert values["planned"] == "1,000"
    assert values["throughput"] == "200.0 messages/s"
    assert values["error rate"] == "7.50%"
    assert values["batch seconds"] == "none"
    assert values["batch sizes"] == "mean 100, min 50, max 200, p50 100, p95 195"
    assert values["failed: ValueError"] == "1"
    assert "unaccounted" not in values
    assert "unaccounted" in RunReport(unaccounted=5).table()
    assert "unsettled" in RunReport(planned=5).table()


def test_a_report_is_frozen_and_knows_its_time_zone() -> None:
    report = RunReport()
    with pytest.raises(FrozenInstanceError):
        report.done = 1  # type: ignore[misc]
    assert not hasattr(report, "__dict__")
    assert report.started_at.tzinfo is not None
    with pytest.raises(ValueError, match="time zone"):
        RunReport(started_at=datetime(2026, 3, 1))  # noqa: DTZ001


def test_the_table_writes_nothing_to_a_terminal_but_text() -> None:
    attack = "\x1b[2J\x9b31m\x07\u202e\x7f\ud800"
    report = RunReport(
        account=attack,
        mailbox=attack,
        failed=1,
        failures={1: Failure(1, attack, attack)},
        missing_items={attack: 1},
        notes={Note("flags", attack): 1},
    )
    table = report.table()
    assert all(character.isprintable() or character == "\n" for character in table)
    assert table.count("\\x1b[2J") == 5
