r"""mbox, in the form that loses nothing: mboxrd.

Each message stands behind a line `From <sender> <time of arrival>` and before an empty line (RFC 4155, appendix A).
Where a line of it begins with `From ` behind any number of `>`, one more `>` is put before it; a reader takes one away.

Invariants:

- Taking away one `>` of each such line gives the bytes of the message; one that does not end with a line end gets one.
- A group is appended as a whole; after a crash the file is cut back to the last whole one (`sinks.record`).
- While a group is written, the file is locked as other mail programs lock it; what they append between groups stays.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from typing import Final

from imapipe.errors import SinkError
from imapipe.middleware.base import Run
from imapipe.models.attributes import arrival_of
from imapipe.models.message import Message
from imapipe.sinks.appended import Appended
from imapipe.sinks.base import FileSink
from imapipe.sinks.content import chunks_of_body
from imapipe.sinks.place import Place, folder_names
from imapipe.wire.uid_set import UidSet

try:
    import fcntl
except ImportError:  # Windows: no mail program there shares the file.
    fcntl = None  # type: ignore[assignment]

_FROM: Final = re.compile(rb"^>*+From ", re.MULTILINE)
_ENDING: Final = re.compile(r"\.(mbox)", re.IGNORECASE)
_FROM_AT_LAST: Final = b"From "
# A line longer than this is handed on in pieces.
_LONG_LINE: Final = 1024 * 1024
_LOCK_SECONDS: Final = 30.0
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Mbox(FileSink):
    """Appends messages to an mbox file (mboxrd). Flags are not kept.

    Args:
        path: The file; made where it is missing. For a whole account a folder, with a file for each mailbox.
        durable: Whether a message must survive a loss of power before it counts as done.
    """

    def __init__(self, path: str | os.PathLike[str], *, durable: bool = True) -> None:
        super().__init__(path, durable=durable)
        self._file = Appended(self.path, "mbox", durable=durable, shared=True)
        self._is_locked = False
        self._is_in_group = False
        self._needs_line_end = False

    def for_mailbox(self, name: str, delimiter: str | None) -> Mbox:
        """The sink for one mailbox of a whole account: a file below this folder."""
        *folders, last = folder_names(name, delimiter)
        # No folder is called as the file of another mailbox is, or its record.
        above = [_ENDING.sub(r"%2E\1", folder) for folder in folders]
        return Mbox(self.path.joinpath(*above, f"{last}.mbox"), durable=self._durable)

    def _open(self, run: Run) -> None:
        self._place = Place.of(run)
        self._file.open(self)
        self._is_in_group = False

    def _known(self) -> UidSet:
        return self._file.known(self._place)

    def _write_one(self, message: Message) -> None:
        if self._file.has(self._place, message.uid):
            return
        if not self._is_in_group:
            self._begin_group()
        mark = self._file.mark()
        try:
            if self._needs_line_end:
                # Somebody else has written the message before.
                self._file.put(b"\n")
            self._file.put(from_line(message))
            last = b"\n"
            for piece in escaped_lines(chunks_of_body(message)):
                self._file.put(piece)
                last = piece[-1:]
            self._file.put(b"\n" if last == b"\n" else b"\n\n")
        except BaseException:
            self._file.undo(mark)
            raise
        self._needs_line_end = False
        self._file.note(self._place, message.uid)

    def _begin_group(self) -> None:
        self._lock()
        size = self._file.begin_group()
        self._is_in_group = True
        tail = os.pread(self._file.fd, 2, max(0, size - 2)) if size and hasattr(os, "pread") else b"\n\n"
        self._needs_line_end = tail != b"\n\n"

    def _commit(self) -> None:
        self._file.commit()
        self._is_in_group = False
        self._unlock()

    def _close(self) -> None:
        # The lock goes with the descriptor: not before what is unfinished is taken back.
        self._is_locked = False
        self._file.close(self)

    def _lock(self) -> None:
        if self._is_locked or fcntl is None:
            return
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.lockf(self._file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                if time.monotonic() > deadline:
                    reason = f"another program has held its lock for {_LOCK_SECONDS:g} seconds; close that, run again"
                    raise SinkError(reason, path=str(self.path)) from None
                time.sleep(0.1)
            else:
                self._is_locked = True
                return

    def _unlock(self) -> None:
        if self._is_locked and fcntl is not None:
            self._is_locked = False
            fcntl.lockf(self._file.fd, fcntl.LOCK_UN)


def from_line(message: Message) -> bytes:
    """The line before a message: who sent it and when it came, in UTC, whatever the locale."""
    sender = message.sender
    address = sender.email if sender is not None else ""
    name = "".join(c for c in address if "!" <= c <= "~") or "MAILER-DAEMON"
    moment = arrival_of(message)
    seconds = moment.timestamp() if moment is not None else 0.0
    year, month, day, hour, minute, second, weekday, *_ = time.gmtime(seconds)
    return (
        f"From {name} {_DAYS[weekday]} {_MONTHS[month - 1]} {day:2} {hour:02}:{minute:02}:{second:02} {year}\n".encode()
    )


def escaped_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes of a message with one more `>` where a line could be taken for the beginning of the next message."""
    rest = b""
    inside = False
    for chunk in chunks:
        data = rest + chunk
        end = data.rfind(b"\n") + 1
        if not end and len(data) < _LONG_LINE:
            rest = data
        elif not end and not inside and _FROM_AT_LAST.startswith(data.lstrip(b">")):
            # Whether one more is put before it can be told later: it may stand anywhere among them.
            rest = data.lstrip(b">")
            yield data[: len(data) - len(rest)]
        elif not end:
            yield _escape(data, inside=inside)
            rest, inside = b"", True
        else:
            yield _escape(data[:end], inside=inside)
            rest, inside = data[end:], False
    if rest:
        yield _escape(rest, inside=inside)


def _escape(data: bytes, *, inside: bool) -> bytes:
    """Escape lines; `inside` says that the first one has begun before."""
    end = data.find(b"\n") + 1 or len(data)
    return data[:end] + _FROM.sub(rb">\g<0>", data[end:]) if inside else _FROM.sub(rb">\g<0>", data)
