"""States, changes, and how they are added up and written."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.growth import superlinear
from imapipe.models.cursor import Cursor
from imapipe.models.json_value import JSON
from imapipe.store.checkpoint_state import CheckpointChange, CheckpointState, Counters, new_series
from imapipe.store.job_key import JobKey
from imapipe.store.notes_state import NotesState
from imapipe.wire.uid_set import UidSet

UIDS = st.frozensets(st.integers(1, 60), max_size=20).map(UidSet.from_numbers)
REASONS = st.sampled_from(["ValueError", "malformed", "UNAVAILABLE"])
JSON_VALUES: st.SearchStrategy[JSON] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


NUMBERS = ("runs", "done", "failed", "vanished", "bytes_received")


def nested(depth: int) -> JSON:
    value: JSON = 1
    for _ in range(depth):
        value = [value]
    return value


@st.composite
def changes(draw: st.DrawFn) -> list[CheckpointChange]:
    """Some changes of one series; a message has one outcome in each."""
    made = []
    for sequence in range(1, draw(st.integers(0, 6)) + 1):
        done, vanished, first, second = (draw(UIDS) for _ in range(4))
        vanished -= done
        first = first - done - vanished
        second = second - done - vanished - first
        failed = {draw(REASONS): first, "other": second}
        made.append(
            CheckpointChange(
                series="s",
                sequence=sequence,
                done=done,
                failed={reason: uids for reason, uids in failed.items() if uids},
                vanished=vanished,
                bytes_received=draw(st.integers(0, 1_000)),
                extra=draw(st.dictionaries(st.sampled_from("ab"), JSON_VALUES, max_size=2)),
            )
        )
    return made


NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def state(**values: object) -> CheckpointState:
    made = CheckpointState(
        account="ann@host:993",
        mailbox="INBOX",
        uidvalidity=7,
        fingerprint="f",
        series="s",
        started_at=NOON,
        saved_at=NOON,
    )
    return replace(made, **values)  # type: ignore[arg-type]


def model(made: list[CheckpointChange]) -> tuple[set[int], dict[int, str]]:
    """The same with a Python dictionary, one message at a time."""
    done: set[int] = set()
    failed: dict[int, str] = {}
    for change in made:
        done |= set(change.done)
        for reason, uids in change.failed.items():
            failed.update(dict.fromkeys(uids, reason))
        for uid in (*change.vanished, *done):
            failed.pop(uid, None)
    return done, failed


@given(changes())
def test_apply_is_what_a_dictionary_says(made: list[CheckpointChange]) -> None:
    after = state().apply(made)
    done, failed = model(made)
    assert set(after.done) == done
    assert {uid: reason for reason, uids in after.failed.items() for uid in uids} == failed
    assert all(after.failed.values())
    assert set(after.failed_uids) == set(failed)
    assert after.sequence == len(made)
    extra: dict[str, JSON] = {}
    for change in made:
        extra.update(change.extra)
    assert after.extra == extra


@pytest.mark.no_cover
@given(changes(), st.data())
def test_apply_is_the_same_in_any_pieces_and_order_and_twice(made: list[CheckpointChange], data: st.DataObject) -> None:
    at_once = state().apply(made)
    one_by_one = state()
    for change in made:
        one_by_one = one_by_one.apply([change])
    assert one_by_one == at_once
    assert state().apply(data.draw(st.permutations(made))) == at_once
    assert at_once.apply(made) == at_once
    cut = data.draw(st.integers(0, len(made)))
    assert state().apply(made[:cut]).apply(made) == at_once


def test_apply_counts_and_ignores_what_is_old_or_of_another_series() -> None:
    before = state(sequence=5, counters=Counters(runs=3, done=10, failed=1, vanished=2, bytes_received=100))
    news = [
        CheckpointChange(series="s", sequence=5, done=UidSet.parse("1:100")),
        CheckpointChange(series="x", sequence=9, done=UidSet.parse("1:100")),
        CheckpointChange(series="s", sequence=6, done=UidSet.parse("1:3"), bytes_received=50),
        CheckpointChange(series="s", sequence=8, failed={"E": UidSet.parse("4,5")}, vanished=UidSet.parse("6")),
    ]
    after = before.apply(news)
    assert after.done == UidSet.parse("1:3")
    assert after.failed == {"E": UidSet.parse("4:5")}
    assert after.sequence == 8
    assert after.counters == Counters(runs=3, done=13, failed=3, vanished=3, bytes_received=150)


def test_a_failed_message_that_is_done_later_leaves_failed() -> None:
    before = state(failed={"E": UidSet.parse("1:3"), "F": UidSet.parse("4")})
    after = before.apply(
        [CheckpointChange(series="s", sequence=1, done=UidSet.parse("1,4"), failed={"F": UidSet.parse("2")})]
    )
    assert after.failed == {"F": UidSet.parse("2"), "E": UidSet.parse("3")}


@given(changes(), st.dictionaries(st.text(), JSON_VALUES, max_size=4), st.text(), st.floats(0, 1e9))
def test_a_state_survives_json(made: list[CheckpointChange], extra: dict[str, JSON], name: str, elapsed: float) -> None:
    cursor = Cursor(uidnext=100, highestmodseq=2**62, mailboxid="F2212ea87-6097-4256-9d51-71338625")
    counters = Counters(runs=2, elapsed_seconds=elapsed)
    before = state(name=name, shard="3/8", extra=extra, cursor=cursor, counters=counters).apply(made)
    again = CheckpointState.from_fields(orjson.loads(before.to_json()))
    assert again == before
    assert again.to_json() == before.to_json()


@pytest.mark.no_cover
@given(changes())
def test_a_change_survives_json_on_one_line(made: list[CheckpointChange]) -> None:
    for change in made:
        data = change.to_json()
        assert b"\n" not in data
        assert CheckpointChange.from_json(data) == change


def test_the_cursor_follows_what_was_done() -> None:
    before = state(cursor=Cursor(uidnext=50))
    after = before.apply(
        [
            CheckpointChange(series="s", sequence=1, done=UidSet.parse("7:9")),
            CheckpointChange(series="s", sequence=2, done=UidSet.parse("1:3"), failed={"E": UidSet.parse("40")}),
        ]
    )
    assert after.cursor == Cursor(uidnext=50, highest_uid=9)


def test_names_that_utf_8_cannot_hold_are_written_out() -> None:
    odd = state(mailbox="a\udcff", failed={"E\udc80": UidSet.parse("1")})
    again = CheckpointState.from_fields(orjson.loads(odd.to_json()))
    assert again.mailbox == "a\\udcff"
    assert set(again.failed) == {"E\\udc80"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("account", 5),
        ("uidvalidity", "7"),
        ("uidvalidity", -1),
        ("sequence", True),
        ("sequence", 1.5),
        ("done", "5:x"),
        ("done", "1:0"),
        ("done", None),
        ("failed", []),
        ("failed", {"E": 5}),
        ("failed", {"E": "3"}),
        ("failed", {"E": "9", "F": "8:9"}),
        ("cursor", None),
        ("cursor", {"uidnext": "5"}),
        ("cursor", {"mailboxid": 5}),
        ("shard", None),
        ("counters", {}),
        ("counters", None),
        ("started_at", "yesterday"),
        ("saved_at", "2026-03-01T12:00:00"),
        ("extra", "x"),
        # What could be read and not be written again would end the run that writes it.
        ("sequence", 2**63),
        ("sequence", 2**64 - 1),
        ("counters", {**dict.fromkeys(("runs", "done", "failed", "vanished"), 1), "bytes_received": 2**64 - 1}),
        ("counters", {**dict.fromkeys(NUMBERS, 1), "elapsed_seconds": 1e308}),
        ("cursor", {"uidnext": 2**64 - 1}),
        ("extra", {"a": nested(252)}),
        ("failed", {"E": "9", "F": "9"}),
        ("failed", {f"E{number}": str(number + 10) for number in range(20_000)}),
    ],
    ids=range(29),
)
def test_a_state_that_is_not_one_is_refused(name: str, value: JSON) -> None:
    fields = orjson.loads(state(done=UidSet.parse("1:5"), failed={}).to_json())
    assert CheckpointState.from_fields(fields).done == UidSet.parse("1:5")
    with pytest.raises(ValueError):
        CheckpointState.from_fields({**fields, name: value})
    del fields[name]
    with pytest.raises(ValueError):
        CheckpointState.from_fields(fields)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"5",
        b"{}",
        b'{"series":"s","sequence":1}',
        b'{"series":1,"sequence":1,"done":""}',
        b'{"series":"s","sequence":18446744073709551615,"done":""}',
        b'{"series":"s","sequence":1,"done":"","failed":{"E":"5","F":"5"}}',
        b'{"series":"s","sequence":1,"done":"","extra":{"a":%b%b}}' % (b"[" * 300, b"]" * 300),
    ],
    ids=range(8),
)
def test_a_change_that_is_not_one_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        CheckpointChange.from_json(data)


def again_and_again(size: int) -> tuple[CheckpointState, list[CheckpointChange]]:
    """A state as large as there are changes that all tell of the same message."""
    uids = UidSet.from_numbers(range(2, 2 * size, 2))
    failed = {"E": UidSet.parse("4294967295")}
    return state(done=uids), [
        CheckpointChange(series="s", sequence=number, failed=failed) for number in range(1, size + 1)
    ]


@pytest.mark.no_cover
def test_changes_that_tell_of_the_same_message_take_time_in_proportion() -> None:
    """A journal that somebody made holds up whoever opens it no longer than it is."""

    def apply(given: tuple[CheckpointState, list[CheckpointChange]]) -> CheckpointState:
        return given[0].apply(given[1])

    known, made = again_and_again(64)
    assert known.apply(made).failed == {"E": UidSet.parse("4294967295")}
    assert known.apply(made).counters.failed == 64
    assert superlinear(apply, again_and_again, (8, 64, 512, 4096)) is None


@pytest.mark.no_cover
def test_notes_take_time_in_proportion() -> None:
    def make(size: int) -> list[CheckpointChange]:
        return [CheckpointChange(series="s", sequence=number, extra={str(number): 1}) for number in range(size)]

    notes = NotesState(series="s", sequence=-1)
    assert notes.apply(make(3)).values == {"0": 1, "1": 1, "2": 1}
    assert superlinear(notes.apply, make, (64, 512, 4096)) is None


def test_defaults() -> None:
    made = CheckpointState(account="a", mailbox="m", uidvalidity=1, fingerprint="f")
    other = CheckpointState(account="a", mailbox="m", uidvalidity=1, fingerprint="f")
    assert made.series != other.series
    assert new_series() != new_series()
    assert made.version == 2
    assert made.key == JobKey("a", "m", name="", shard="")
    assert made.cursor == Cursor()
    assert (datetime.now(UTC) - made.started_at).total_seconds() >= 0
    assert UidSet.union([]) == UidSet()
