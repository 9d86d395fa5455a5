"""How far a mailbox had come, and when that proves that UIDs were given to other messages."""

from __future__ import annotations

import pytest

from imapipe.models.cursor import Cursor, possible_uidnext, reissued
from imapipe.wire.uid_set import UidSet


@pytest.mark.parametrize(
    ("remembered", "now", "behind"),
    [
        (Cursor(uidnext=100), Cursor(uidnext=40), True),
        (Cursor(uidnext=100), Cursor(uidnext=99), True),
        (Cursor(uidnext=100), Cursor(uidnext=100), False),
        (Cursor(uidnext=100), Cursor(uidnext=140), False),
        # Messages came between EXAMINE and the search; UIDNEXT cannot be as it was.
        (Cursor(uidnext=100, highest_uid=104), Cursor(uidnext=100), True),
        (Cursor(uidnext=100, highest_uid=104), Cursor(uidnext=105), False),
        (Cursor(highest_uid=104), Cursor(uidnext=104), True),
        (Cursor(uidnext=100), Cursor(), False),
        (Cursor(), Cursor(uidnext=1), False),
        # Another mailbox that has got the same name and the same UIDVALIDITY.
        (Cursor(uidnext=100, mailboxid="F1"), Cursor(uidnext=140, mailboxid="F2"), True),
        (Cursor(uidnext=100, mailboxid="F1"), Cursor(uidnext=140, mailboxid="F1"), False),
        (Cursor(uidnext=100, mailboxid="F1"), Cursor(uidnext=140), False),
        (Cursor(uidnext=100), Cursor(uidnext=140, mailboxid="F1"), False),
    ],
)
def test_what_proves_that_uids_were_reissued(remembered: Cursor, now: Cursor, behind: bool) -> None:
    assert now.is_behind(remembered) is behind


@pytest.mark.parametrize(
    ("remembered", "now", "is_open"),
    [
        (Cursor(uidnext=100), Cursor(uidnext=100), False),
        (Cursor(uidnext=100), Cursor(uidnext=99), True),
        (Cursor(highest_uid=100), Cursor(), True),
        (Cursor(), Cursor(), False),
        (Cursor(uidnext=100, mailboxid="F1"), Cursor(uidnext=99, mailboxid="F2"), False),
    ],
)
def test_what_the_server_is_asked_for_once_more(remembered: Cursor, now: Cursor, is_open: bool) -> None:
    assert now.leaves_open(remembered) is is_open


@pytest.mark.parametrize(
    ("told", "exists", "possible"),
    [
        (None, 0, None),
        (0, 0, None),
        (1, 0, 1),
        (1, 1, None),
        (7, 6, 7),
        (6, 6, None),
        (2**31 - 1, 6, None),
        (2**32 - 1, 6, None),
        (2**32 - 2, 6, 2**32 - 2),
    ],
)
def test_a_uidnext_that_cannot_be_one_is_as_if_not_told(told: int | None, exists: int, possible: int | None) -> None:
    assert possible_uidnext(told, exists) == possible


def test_what_is_raised_says_what_proves_it() -> None:
    advice = "search again"
    then = Cursor(uidnext=100, mailboxid="F1")
    changed = reissued("INBOX", (7, then), (8, Cursor()), advice)
    assert "UIDVALIDITY of 'INBOX' changed from 7 to 8" in str(changed)
    fell = reissued("INBOX", (7, then), (7, Cursor(uidnext=40)), advice)
    assert "UIDNEXT of 'INBOX' fell from 100 to 40 under the same UIDVALIDITY 7" in str(fell)
    other = reissued("INBOX", (7, then), (7, Cursor(uidnext=140, mailboxid="F2")), advice)
    assert other is not None
    assert "another mailbox with the same UIDVALIDITY 7: MAILBOXID changed from F1 to F2" in str(other)
    assert (other.expected_mailboxid, other.found_mailboxid) == ("F1", "F2")
    assert reissued("INBOX", (7, then), (7, Cursor()), advice) is None
    assert reissued("INBOX", (7, None), (7, Cursor(uidnext=1)), advice) is None


def test_it_only_goes_forward_and_what_is_not_told_stays_known() -> None:
    first = Cursor(uidnext=100, highest_uid=90, highestmodseq=7, mailboxid="F1", exists=50)
    assert first.advanced(Cursor()) == first
    later = Cursor(uidnext=120, highest_uid=80, highestmodseq=9, mailboxid="F2", exists=40)
    assert first.advanced(later) == Cursor(120, 90, 9, "F2", 40)
    assert Cursor().advanced(first) == first


def test_what_was_met_raises_the_highest_uid() -> None:
    cursor = Cursor(uidnext=100)
    assert cursor.met(UidSet()) == cursor
    assert cursor.met(UidSet.parse("3:7")) == Cursor(uidnext=100, highest_uid=7)
    assert cursor.met(UidSet.parse("3:7")).met(UidSet.parse("5")).highest_uid == 7


def test_the_lowest_uidnext_that_is_possible() -> None:
    assert Cursor().lowest_uidnext() is None
    assert Cursor(uidnext=100).lowest_uidnext() == 100
    assert Cursor(highest_uid=100).lowest_uidnext() == 101
    assert Cursor(uidnext=100, highest_uid=104).lowest_uidnext() == 105
