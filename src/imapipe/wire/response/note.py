"""Notes: what of a response was passed over, so that the rest of it could be used.

A note is for a report. It names the kind of the fault and says in a sentence what was left out, never what the mail
says. Where a note stands, nothing was lost silently.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Final

MAX_DETAIL: Final = 160
"""Characters of a detail; what is longer is cut."""

MAX_NOTES: Final = 100
"""How many different notes are kept side by side: a server must not fill a report."""

MORE: Final = "more"
"""The kind of the note that stands for all that found no room."""


@dataclass(frozen=True, slots=True)
class Note:
    """What was passed over.

    Attributes:
        kind: A short stable word: `envelope`, `fetch-item`, `flags`, `search`, `label` …
        detail: One sentence for people, without mail content, of at most `MAX_DETAIL` characters.
    """

    kind: str
    detail: str

    def __post_init__(self) -> None:
        if len(self.detail) > MAX_DETAIL:
            object.__setattr__(self, "detail", self.detail[: MAX_DETAIL - 1] + "…")


MORE_NOTES: Final = Note(MORE, "more notes than are kept")
"""Stands for all that found no room."""


def count_notes(counts: MutableMapping[Note, int], notes: Iterable[Note]) -> None:
    """Add notes to a count of equal ones, which holds at most `MAX_NOTES` different ones and one for the rest."""
    for note in notes:
        _add(counts, note, 1)


def add_counts(counts: MutableMapping[Note, int], more: Mapping[Note, int]) -> None:
    """Add a count of notes to another, which keeps the bound of `count_notes`."""
    for note, count in more.items():
        _add(counts, note, count)


def _add(counts: MutableMapping[Note, int], note: Note, count: int) -> None:
    known = note if note in counts or len(counts) < MAX_NOTES else MORE_NOTES
    counts[known] = counts.get(known, 0) + count
