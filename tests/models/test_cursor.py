"""How far a mailbox had come, and when that proves that UIDs were given to other messages."""

from __future__ import annotations

import pytest

from imapipe.models.cursor import Cursor
from imapipe.wire.uid_set import UidSet


@pytest.mark.parametrize(
    ("remembered", "now", "found", "behind"),
    [
        (Cursor(uidnext=100), Cursor(uidnext=40), "", True),
        (Cursor(uidnext=100), Cursor(uidnext=99), "1:98", True),
        (Cursor(uidnext=100), Cursor(uidnext=100), "", False),
        (Cursor(uidnext=100), Cursor(uidnext=140), "", False),
        # Messages came between EXAMINE and the search; UIDNEXT cannot be as it was.
        (Cursor(uidnext=100, highest_uid=104), Cursor(uidnext=100), "", True),
        (Cursor(uidnext=100, highest_uid=104), Cursor(uidnext=105), "", False),
        (Cursor(highest_uid=104), Cursor(uidnext=104), "1:50", True),
        # A server whose UIDNEXT is not above what it lists itself proves nothing by it.
        (Cursor(highest_uid=104), Cursor(uidnext=50), "1:104", False),
        (Cursor(highest_uid=104), Cursor(uidnext=50), "50", False),
        (Cursor(uidnext=100), Cursor(), "", False),
        (Cursor(uidnext=100), Cursor(uidnext=0), "", False),
        (Cursor(), Cursor(uidnext=1), "", False),
    ],
)
def test_what_proves_that_uids_were_reissued(remembered: Cursor, now: Cursor, found: str, behind: bool) -> None:
    assert now.is_behind(remembered, UidSet.parse(found)) is behind


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
