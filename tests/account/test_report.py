"""The report of an account, for people: one line for each thing, and only text."""

from __future__ import annotations

from datetime import UTC, datetime

from imapipe.account.report import AccountReport, Details
from imapipe.errors import CommandNo
from imapipe.models.batch import Failure
from imapipe.models.report import RunReport
from imapipe.wire.response.note import MORE_NOTES, Note
from imapipe.wire.uid_set import UidSet

ATTACK = "\x1b[2J\x9b31m\x07\u202e\n\x7f\ud800"


def test_the_table_writes_nothing_to_a_terminal_but_text() -> None:
    report = AccountReport(
        account=ATTACK,
        reports={ATTACK: RunReport(mailbox=ATTACK, planned=1, failed=1)},
        errors={f"{ATTACK} 2": CommandNo("EXAMINE", "", ATTACK)},
        unchanged=(),
        started_at=datetime.now(UTC),
        elapsed_seconds=1.0,
    )
    lines = report.table().split("\n")
    assert all(line.isprintable() for line in lines)
    assert [line.count("\\x1b[2J") for line in lines] == [0, 1, 0, 2, 0]


def _report(failures: int, change_failures: int = 0, notes: int = 0, more: int = 0) -> RunReport:
    said = {Note("flags", str(number)): 2 for number in range(notes)}
    return RunReport(
        planned=failures,
        failed=failures,
        failures={uid: Failure(uid, "malformed", "x" * 900) for uid in range(1, failures + 1)},
        failed_uids=UidSet.from_numbers(range(1, failures + 1)),
        change_failures={uid: Failure(uid, "CANNOT") for uid in range(1, change_failures + 1)},
        notes={**said, MORE_NOTES: more} if more else said,
    )


def test_the_details_of_all_mailboxes_together_are_bounded() -> None:
    """A server may have every message fail, of thousands of mailboxes, and say as much as it likes of each."""
    details = Details()
    first = details.of(_report(9_000, 500, notes=5, more=3))
    assert (len(first.failures), len(first.change_failures), first.notes[MORE_NOTES]) == (9_000, 500, 3)
    second = details.of(_report(2_000, 10))
    assert ([*second.failures], len(second.change_failures)) == ([*range(1, 501)], 0)
    # What counts is whole.
    assert (second.failed, len(second.failed_uids)) == (2_000, 2_000)
    assert details.of(_report(5)).failures == {}


def test_the_notes_of_all_mailboxes_together_are_bounded() -> None:
    details = Details()
    for _ in range(9):
        assert len(details.of(_report(0, notes=100, more=1)).notes) == 101
    tenth = details.of(_report(0, notes=100, more=1)).notes
    assert (len(tenth), tenth[MORE_NOTES]) == (92, 19)
    assert details.of(_report(0, notes=100, more=1)).notes == {MORE_NOTES: 201}
    assert details.of(_report(0)).notes == {}
