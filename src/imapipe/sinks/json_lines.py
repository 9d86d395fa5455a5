"""JSON Lines: a line for each message, with what was fetched of it.

Invariant: after a crash and the next run the file holds whole lines, and one for each message (`sinks.appended`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import orjson

from imapipe.middleware.base import Run
from imapipe.models.message import Message
from imapipe.sinks.appended import Appended
from imapipe.sinks.base import FileSink
from imapipe.sinks.place import Place
from imapipe.sinks.rows import Rows, check_columns
from imapipe.wire.uid_set import UidSet


class JsonLines(FileSink):
    """Appends a line of JSON for each message: what the job fetches, from `account` to `attachments`.

    Times are ISO 8601 in UTC, addresses `{"name", "email"}`; what could not be read of a message is null, and named in
    `unreadable`.

    Args:
        path: The file; made where it is missing.
        columns: Names of those wanted; all that the job fetches, except `html`, unless given.
        durable: Whether a line must survive a loss of power before its message counts as done.
    """

    needs_body = False

    def __init__(
        self, path: str | os.PathLike[str], *, columns: Sequence[str] | None = None, durable: bool = True
    ) -> None:
        super().__init__(path, durable=durable)
        check_columns(columns)
        self._columns = columns
        self._file = Appended(self.path, "json-lines", durable=durable)

    def for_mailbox(self, name: str, delimiter: str | None) -> JsonLines:
        """The sink for one mailbox of a whole account: the same file."""
        sink = JsonLines(self.path, columns=self._columns, durable=self._durable)
        sink._share(self)
        sink._file = self._file
        return sink

    def _open(self, run: Run) -> None:
        self._place = Place.of(run)
        self._rows = Rows(run, self._columns)
        self._file.open(self)
        self._there = self._file.known(self._place)

    def _known(self) -> UidSet:
        return self._there

    def _write_one(self, message: Message) -> None:
        if message.uid in self._there:
            return
        self._file.put(orjson.dumps(self._rows.of(message), option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z))
        self._file.note(self._place, message.uid)

    def _commit(self) -> None:
        self._file.commit()

    def _close(self) -> None:
        self._file.close(self)
