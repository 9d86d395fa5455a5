"""The report of an account, for people: one line for each thing, and only text."""

from __future__ import annotations

from datetime import UTC, datetime

from imapipe.account.report import AccountReport
from imapipe.errors import CommandNo
from imapipe.models.report import RunReport

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
