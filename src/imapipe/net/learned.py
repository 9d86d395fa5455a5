"""What the connections of a pool have found out about their server, and the next one need not find out again."""

from __future__ import annotations

import logging

from imapipe.wire.response.note import Note, count_notes

_log = logging.getLogger(__name__)


class Learned:
    """What is known of a server by experience.

    Attributes:
        notes: What of answers outside of runs was passed over, and how often; at most as many as `count_notes` keeps.
    """

    __slots__ = ("notes",)

    def __init__(self) -> None:
        self.notes: dict[Note, int] = {}

    def passed_over(self, kind: str, detail: str) -> None:
        """Something of an answer could not be read, or was not given: it is counted, and logged the first time."""
        note = Note(kind, detail)
        if note not in self.notes:
            _log.warning("passed over: %s", note.detail)
        count_notes(self.notes, [note])
