"""Notes: bounded, whatever a server does."""

from __future__ import annotations

from imapipe.wire.response.note import MAX_DETAIL, MAX_NOTES, MORE, Note, count_notes


def test_notes_are_bounded_and_none_is_uncounted() -> None:
    counts: dict[Note, int] = {}
    for number in range(1000):
        count_notes(counts, [Note("kind", f"{number} " + "x" * 1000), Note("kind", "0 again")])
    assert len(counts) == MAX_NOTES + 1
    assert counts[Note("kind", "0 again")] == 1000
    assert sum(counts.values()) == 2000
    assert max(len(note.detail) for note in counts) == MAX_DETAIL
    assert any(note.kind == MORE for note in counts)
