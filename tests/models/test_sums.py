"""The table of what became of the messages of many mailboxes."""

from __future__ import annotations

from dataclasses import dataclass

from imapipe.models.report import RunReport
from imapipe.models.sums import Outcomes, outcome_table


@dataclass
class Partial:
    """What has no name, and could not be done."""

    planned: int = 0
    done: int = 0
    skipped: int = 0
    vanished: int = 0
    failed: int = 0
    complete: bool = False


def test_a_line_for_each_mailbox_in_which_something_happened_and_their_sums() -> None:
    reports: dict[str, Outcomes] = {
        " é\x1b": RunReport(planned=1_234, done=1_200, skipped=30, vanished=4),
        "nothing": RunReport(),
        "": Partial(),
    }
    assert outcome_table(reports) == [
        "mailbox  planned   done  skipped  vanished  failed",
        " é\\x1b     1,234  1,200       30         4       0",
        "-              0      0        0         0       0",
        "sum        1,234  1,200       30         4       0",
    ]


def test_no_mailbox_is_no_message() -> None:
    assert outcome_table({}) == [
        "mailbox  planned  done  skipped  vanished  failed",
        "sum            0     0        0         0       0",
    ]
