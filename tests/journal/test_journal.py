"""The file of a journal: whose it is, what it is not, and what edited ones may say."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import orjson
import pytest

import imapipe
from imapipe.journal import journal as module
from imapipe.journal.entry import Intent, Job, Result, Story
from imapipe.journal.journal import Journal, read_journal, reading
from imapipe.wire.uid_set import UidSet

JOB = Job("ann@example.org:993", "INBOX", 7, "move", "Archive")
INTENT = Intent(1, UidSet.parse("1:3"), 9, 5, ("a", "b", "c"))
RESULT = Result(1, UidSet.parse("1:3"), ((1, 5, 3),))


def _journal(path: Path, job: Job = JOB) -> Journal:
    journal = Journal(path)
    journal.take()
    journal.begin(job)
    return journal


@pytest.mark.parametrize(
    "content", [b"my notes", b'{"a": 1}', b"<html>", b'{"journal":"else', b"notes\n", b"\xff\n"], ids=repr
)
def test_a_file_of_something_else_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    """Also one that has no line end: it is no line that a crash cut off."""
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(imapipe.JournalError, match="is no journal of a change"):
        Journal(path).take()
    assert path.read_bytes() == content


def test_a_first_line_that_a_crash_cut_off_is_begun_again(tmp_path: Path) -> None:
    line = orjson.dumps(JOB.line())
    for length in range(len(line) + 1):
        path = tmp_path / str(length)
        path.write_bytes(line[:length])
        _journal(path).close()
        assert read_journal(path).job == JOB


def test_the_name_of_a_file_is_no_empty_text() -> None:
    with pytest.raises(ValueError, match="empty"):
        Journal("")


def test_a_full_disk_at_the_end_gives_the_journal_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = _journal(tmp_path / "j")

    def fail(fd: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(imapipe.JournalError, match="no space"):
            journal.close()
    _journal(tmp_path / "j").close()


@pytest.mark.asyncio
async def test_an_intent_whose_writing_was_given_up_is_known_to_be_written(tmp_path: Path) -> None:
    """A middleware may end a batch by a timeout and call again: a second intent would spoil the file."""
    journal = _journal(tmp_path / "j")
    task = asyncio.create_task(journal.intend(INTENT))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert journal.story.pending == INTENT
    journal.close()
    assert read_journal(tmp_path / "j").pending == INTENT


def test_who_undoes_it_waits_for_no_run_and_keeps_them_out(tmp_path: Path) -> None:
    journal = _journal(tmp_path / "j")
    with pytest.raises(imapipe.JournalError, match="a run has it"), reading(str(tmp_path / "j")):
        pass
    journal.close()
    with reading(str(tmp_path / "j")) as story:
        assert story.job == JOB
        with pytest.raises(imapipe.JournalError, match="another run has it"):
            Journal(tmp_path / "j").take()
    _journal(tmp_path / "j").close()
    with pytest.raises(imapipe.JournalError, match="No such file"), reading(str(tmp_path / "none" / "j")):
        pass
    assert not (tmp_path / "none").exists()


def test_what_was_undone_is_not_gone_on_with(tmp_path: Path) -> None:
    """Its messages would pass for done. Those that were moved have other UIDs when they are back: that is no matter."""
    (tmp_path / "j.undo0").touch()
    flags = Job(JOB.account, "INBOX", 7, "add", flags=("\\Seen",))
    _journal(tmp_path / "other", flags).close()
    with pytest.raises(imapipe.JournalError, match="it was undone"):
        _journal(tmp_path / "j", flags)
    _journal(tmp_path / "moved").close()
    (tmp_path / "moved.undo").touch()
    _journal(tmp_path / "moved").close()


def _edited(**lines: object) -> bytes:
    """A journal in which something was changed."""
    job, intent, result = JOB.line(), INTENT.line(), RESULT.line()
    change = job["change"]
    assert isinstance(change, dict)
    for place, value in lines.items():
        name, _, key = place.partition("_")
        {"job": job, "change": change, "intent": intent, "result": result}[name][key] = value
    return b"".join(orjson.dumps(line) + b"\n" for line in (job, intent, result))


@pytest.mark.parametrize(
    "change",
    [
        {"change_kind": "explode"},
        {"change_target": ""},
        {"change_flags": "Seen"},
        {"change_kind": "add", "change_target": "Archive"},
        {"change_kind": "add", "change_target": "", "change_flags": ["a b"]},
        {"change_kind": "change", "change_target": "", "change_flags": ["\\Seen"]},
        {"job_uidvalidity": "7"},
        {"job_uidvalidity": 1.5},
        {"intent_uids": ""},
        {"intent_uids": "1:2"},
        {"intent_uids": "0"},
        {"intent_marks": []},
        {"intent_marks": ["a"]},
        {"intent_intent": 2},
        {"intent_before": [["\\Seen"]]},
        {"result_done": "1:4"},
        {"result_done": "1:2"},
        {"result_pairs": [[1, 5, 4_000_000_000]]},
        {"result_pairs": [[1, 5, 2], [2, 8, 2]]},
        {"result_pairs": [[1, 5, 2], [3, 6, 1]]},
        {"result_pairs": [[1, 5, 0]]},
        {"result_pairs": [[1, 5]]},
        {"result_pairs": 3},
    ],
    ids=str,
)
def test_what_cannot_have_been_written_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "j"
    path.write_bytes(_edited())
    assert read_journal(path).steps == [(INTENT, RESULT)]
    path.write_bytes(_edited(**change))
    with pytest.raises(imapipe.JournalError, match="is no journal of a change"):
        read_journal(path)
    assert path.read_bytes()[: len(module.HEAD)] == module.HEAD


def test_cut_anywhere_it_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = _edited()
    path = tmp_path / "j"
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        lines = whole[:length].count(b"\n")
        journal = _journal(path)
        assert (journal.story.job, journal.story.pending is not None, len(journal.story.steps)) == (
            JOB,
            lines == 2,
            max(0, lines - 2),
        )
        journal.close()


def test_lines_that_cannot_follow_each_other_are_none() -> None:
    intent = {**INTENT.line()}
    story = Story()
    assert story.last_number == 0
    story.add(JOB.line())
    story.add(intent)
    assert (story.last_number, story.pending) == (1, INTENT)
    with pytest.raises(ValueError, match="an intent follows one that has no result"):
        story.add(intent)


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"journal": "another"}, {"change": "move"}, {"change": {"kind": "move"}}], ids=str
)
def test_a_first_line_of_something_else_is_none(change: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        Job.read({**JOB.line(), **change})
    assert Job.read(JOB.line()) == JOB
