"""JSON Lines: a line for each message, with what was fetched of it.

Invariant: after a crash and the next run the file holds whole lines, and one for each message (`sinks.appended`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from imapipe.middleware.base import Run
from imapipe.models.message import Message
from imapipe.sinks.appended import Appended
from imapipe.sinks.base import FileSink
from imapipe.sinks.place import Place
from imapipe.sinks.rows import Rows, check_columns
from imapipe.wire.uid_set import UidSet

_OPTIONS: Final = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
_TOGETHER_BYTES: Final = 256 * 1024


class JsonLines(FileSink):
    """Appends a line of JSON for each message: what the job fetches, from `account` to `attachments`.

    Times are ISO 8601 with the offset that their sender wrote, addresses `{"name", "email"}`; what could not be read of
    a message is null, and named in `unreadable`.

    Args:
        path: The file; made where it is missing.
        columns: Names of those wanted; all that the job fetches, except `html`, unless given.
        durable: Whether a line must survive a loss of power before its message counts as done.
    """

    needs_body = False
    # A line is little, and two syncs take as long as some hundred of them; a second is the bound in any case.
    commit_every_messages: int = 5_000

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
        self._is_new = not self._there
        self._lines: list[bytes] = []
        self._uids: list[int] = []
        self._bytes = 0

    def _known(self) -> UidSet:
        return self._there

    def _write(self, messages: Sequence[Message]) -> Mapping[int, Exception]:
        failed = super()._write(messages)
        self._hand_over()
        return failed

    def _write_one(self, message: Message) -> None:
        uid = message.uid
        if self._is_new or uid not in self._there:
            line = orjson.dumps(self._rows.of(message), option=_OPTIONS)
            # Handed over many at a time: what is done for each message counts here.
            self._lines.append(line)
            self._uids.append(uid)
            self._bytes += len(line)
            if self._bytes >= _TOGETHER_BYTES:
                self._hand_over()

    def _hand_over(self) -> None:
        if self._lines:
            self._file.put(b"".join(self._lines))
            self._file.note(self._place, *self._uids)
        self._lines, self._uids, self._bytes = [], [], 0

    def _commit(self) -> None:
        self._file.commit()

    def _close(self) -> None:
        self._file.close(self)
