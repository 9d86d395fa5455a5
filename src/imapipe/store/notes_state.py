"""What layers want to remember about an account, as a file keeps it.

Invariant: as with `CheckpointState`, a change counts once, by its number, in its own series only. In a journal a change
of notes is a `CheckpointChange` that has nothing but `extra`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import orjson

from imapipe.models.json_value import JSON
from imapipe.store.checkpoint_state import CheckpointChange, new_series, writable


@dataclass(frozen=True, slots=True)
class NotesState:
    """The notes of one account.

    Attributes:
        values: The notes, by name.
        series: The history they belong to.
        sequence: The number of the last change they contain.
    """

    values: Mapping[str, JSON] = field(default_factory=dict)
    series: str = field(default_factory=new_series)
    sequence: int = 0

    def change(self, name: str, value: JSON) -> CheckpointChange:
        """The next change: a note gets a value."""
        return CheckpointChange(series=self.series, sequence=self.sequence + 1, extra={name: value})

    def apply(self, changes: Iterable[CheckpointChange]) -> NotesState:
        """The notes after these changes; those of another series, or contained already, do nothing."""
        values, sequence = dict(self.values), self.sequence
        for change in sorted(changes, key=lambda change: change.sequence):
            if change.series == self.series and change.sequence > sequence:
                values.update(change.extra)
                sequence = change.sequence
        return replace(self, values=values, sequence=sequence)

    def to_json(self) -> bytes:
        """Write the notes as one JSON object."""
        return orjson.dumps({"series": self.series, "sequence": self.sequence, "values": dict(self.values)})

    @classmethod
    def from_fields(cls, value: object) -> NotesState:
        """Read what a JSON parser made of `to_json`.

        Raises:
            ValueError: It is something else.
        """
        match value:
            case {"series": str(series), "sequence": int(sequence), "values": dict(values)}:
                return cls(writable(values), series, sequence)
            case _:
                raise ValueError("notes are not whole")
