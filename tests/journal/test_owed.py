"""What is owed to messages, kept and read back, and taken into a new numbering."""

from __future__ import annotations

import pytest

from imapipe.errors import CheckpointCorrupt
from imapipe.journal.entry import Intent, Job, Result, each_pair
from imapipe.journal.owed import COMMANDS, LOST, OWED, Owed, kept, read_owed
from imapipe.models.json_value import JSON
from imapipe.wire.uid_set import MAX_UID, UidSet

JOB = Job("ann@example.org:993", "INBOX", 7, "move", "Archive")
WORK = frozenset({"$Work"})


def _uids(*numbers: int) -> UidSet:
    return UidSet.from_numbers(numbers)


def test_it_is_read_back_as_it_was_kept() -> None:
    owed = Owed("done", JOB, _uids(1, 2, 3), Intent(4, _uids(1, 2), 9, 5, ("10", "20")), Result(4, _uids(1)))
    other = Owed("failed", Job("a", "INBOX", 7, "add", flags=("$Failed",)), _uids(9))
    assert read_owed(kept([owed, other])) == [owed, other]
    assert kept([Owed("done", JOB, _uids())]) == {OWED: None, COMMANDS: None}
    damaged: list[JSON] = [3, [3], [{"outcome": "done", "job": {}, "owed": "1"}]]
    for wrong in damaged:
        with pytest.raises(CheckpointCorrupt):
            read_owed({OWED: wrong})
    with pytest.raises(CheckpointCorrupt):
        read_owed({**kept([owed]), COMMANDS: {owed.name: 3}})


def test_a_command_under_way_goes_with_its_messages_in_their_new_order() -> None:
    """Who was not found again is looked for in the target, as one that is not here: it may have gone there."""
    intent = Intent(4, _uids(1, 2, 3), 9, 5, ("10", "20", "30"), ((WORK, _uids(1, 2)), (frozenset(), _uids(3))))
    copied = Result(4, _uids(1, 2, 3), ((1, 5, 3),))
    owed = Owed("done", JOB, _uids(1, 2, 3, 8, 9), intent, copied)
    found, lost = owed.renumbered(7, 8, {1: 30, 3: 20, 8: 5})
    assert (found.job.uidvalidity, found.uids) == (8, _uids(5, 20, 30, MAX_UID))
    assert found.intent is not None
    assert (found.intent.uids, found.intent.marks) == (_uids(20, 30, MAX_UID), ("30", "10", "20"))
    assert found.intent.before == ((WORK, _uids(30, MAX_UID)), (frozenset(), _uids(20)))
    assert found.copied is not None
    assert dict(each_pair(found.copied.pairs)) == {20: 7, 30: 5, MAX_UID: 6}
    assert (lost.job.uidvalidity, lost.uids, lost.intent) == (LOST, _uids(9), None)
    # What was lost once stays so, whatever has its numbers now.
    assert list(lost.renumbered(8, 9, {9: 1})) == [lost]


def test_flags_are_owed_only_to_those_that_were_found_again() -> None:
    job = Job("a", "INBOX", 7, "add", flags=("$Failed",))
    owed = Owed("failed", job, _uids(1, 2), Intent(1, _uids(1, 2), before=((frozenset(), _uids(1, 2)),)))
    found, lost = owed.renumbered(7, 8, {2: 1})
    assert (found.uids, found.intent) == (_uids(1), Intent(1, _uids(1), before=((frozenset(), _uids(1)),)))
    assert lost.uids == _uids(1)
    (all_lost,) = owed.renumbered(7, 8, {})
    assert (all_lost.uids, all_lost.intent) == (_uids(1, 2), None)
