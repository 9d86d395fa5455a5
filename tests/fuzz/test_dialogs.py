"""Whole runs against a server that answers nearly right; `nox -s fuzz` has any number of them."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.middleware.fakes import run_in_fake_time

from fuzz import dialogs, inputs, targets
from imapipe.models.message import Message
from imapipe.net.holdings import Holdings

# Those that do not wait eight seconds for a server that never answers.
SEEDS = (*range(1005, 1017), *range(1033, 1057))


@pytest.mark.slow
@pytest.mark.no_cover
def test_dialogs_leave_nothing_behind() -> None:
    found = {dialog.seed: dialog.findings for dialog in dialogs.play(SEEDS) if dialog.findings}
    assert not found


@pytest.fixture
def right(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Seeds of dialogs in which nothing is changed; their waits are for made-up time, a busy machine is no defect."""
    monkeypatch.setattr(dialogs, "SILENCE_SECONDS", 10.0)
    return [seed for seed in range(60) if not dialogs.Hostile(seed).rate]


@pytest.mark.no_cover
def test_where_nothing_is_changed_all_goes_well(right: list[int]) -> None:
    assert len(right) > 5
    played = dialogs.play(right, run_in_fake_time)
    assert {dialog.seed: dialog.ended for dialog in played if dialog.ended} == {}


@pytest.mark.no_cover
def test_what_is_still_held_is_noticed(right: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Holdings, "release", lambda holdings, message: None)
    played = dialogs.play(right, run_in_fake_time)
    assert any("still held" in finding for dialog in played for finding in dialog.findings)


@pytest.mark.no_cover
def test_what_a_message_raises_is_noticed(right: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(message: Message) -> None:
        raise KeyError("flags")

    monkeypatch.setattr(Message, "flags", property(fail))
    played = dialogs.play(right, run_in_fake_time)
    assert any("KeyError" in finding for dialog in played for finding in dialog.findings)


@pytest.mark.no_cover
@settings(max_examples=100, suppress_health_check=list(HealthCheck), deadline=None)
@given(inputs.texts(), inputs.texts(), st.integers(0, 1 << 30))
def test_streams_and_messages(text: bytes, other: bytes, seed: int) -> None:
    targets.check_framer(text + b"\r\n" + other, seed)
    targets.check_message(text, other)
