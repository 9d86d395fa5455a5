"""Documents: every report, snapshot and event is told as JSON, whatever it holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import get_args

import orjson
import pytest

import imapipe
from imapipe import events
from imapipe.models.document import Document, json_value
from imapipe.wire.uid_set import UidSet


def test_every_public_report_snapshot_and_event_is_a_document() -> None:
    told = [name for name in imapipe.__all__ if name.endswith(("Report", "Snapshot", "Stats", "Health"))]
    classes = [*(getattr(imapipe, name) for name in told), *get_args(events.Event)]
    assert len(classes) > 20
    assert [each for each in classes if not issubclass(each, Document)] == []


@dataclass(frozen=True, slots=True)
class _Odd(Document):
    name: str
    speed: float
    uids: UidSet
    errors: dict[str, Exception]
    flags: frozenset[str]
    raw: bytes
    when: datetime
    parts: tuple[imapipe.Failure, ...]


def test_what_json_has_no_word_for_is_told_all_the_same() -> None:
    odd = _Odd(
        "caf\udce9",
        0.5,
        UidSet.parse("3,1:2"),
        {"b\udce9": ValueError("no\udce9")},
        frozenset({"b", "a"}),
        b"* 1 \xff",
        datetime(2026, 1, 2, tzinfo=UTC),
        (imapipe.Failure(7, "malformed", "why"),),
    )
    assert orjson.loads(odd.to_json()) == {
        "name": "caf\\udce9",
        "speed": 0.5,
        "uids": "1:3",
        "errors": {"b\\udce9": {"type": "ValueError", "text": "no\\udce9"}},
        "flags": ["a", "b"],
        "raw": "* 1 \\xff",
        "when": "2026-01-02T00:00:00+00:00",
        "parts": [{"reason": "malformed", "detail": "why"}],
    }


def test_what_a_document_cannot_hold_is_an_error() -> None:
    with pytest.raises(TypeError, match="cannot hold a object"):
        json_value(object())


def test_properties_are_told_and_fields_renamed() -> None:
    report = imapipe.UndoReport(2, {"gone": 1}, (imapipe.RunReport(planned=2, done=2, elapsed_seconds=1.0),))
    told = report.to_dict()
    assert (told["complete"], told["lost"]) == (False, {"gone": 1})
    assert isinstance(told["runs"], list)
    assert isinstance(run := told["runs"][0], dict)
    assert (run["messages_per_second"], run["complete"], run["cursor"]) == (2.0, True, {})
