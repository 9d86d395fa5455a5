"""A folder of `.eml` files, named by a pattern.

Invariants:

- Every name holds the UID, so no two messages of a mailbox share one; where another message has taken it all the same
  (another UIDVALIDITY, a file system without regard to case), UIDVALIDITY is put into the name.
- A file that is there already, with the same content, is not written again.
- Whatever a mail says of itself, its file lies in the folder, or in those below that the pattern names.
"""

from __future__ import annotations

import os
import string
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from imapipe.errors import SinkError
from imapipe.middleware.base import Run
from imapipe.mime.filename import safe_name
from imapipe.models.attributes import arrival_of
from imapipe.models.message import Message
from imapipe.runtime.lock_file import LockFile
from imapipe.sinks.base import FileSink
from imapipe.sinks.content import body_size, chunks_of_body, has_content
from imapipe.sinks.hold import hold
from imapipe.sinks.place import folder_names
from imapipe.sinks.staged import Staged, make_folder, remove_leftovers

PATTERN: Final = "{uid:010d} {subject}.eml"
_MAX_TEXT: Final = 60
_SAMPLE: Final[Mapping[str, object]] = {
    "uid": 1,
    "uidvalidity": 1,
    "date": datetime(2000, 1, 1, tzinfo=UTC),
    **dict.fromkeys(("mailbox", "subject", "sender", "message_id"), "text"),
}


class EmlFolder(FileSink):
    """Writes each message to a file of its own, as it came.

    Args:
        path: The folder; made where it is missing.
        pattern: The name of a file below it, with `{uid}` in it and as you like `{uidvalidity} {mailbox} {subject}
            {sender} {date:%Y-%m} {message_id}`; `/` makes folders.
        durable: Whether a file must survive a loss of power before its message counts as done.

    Raises:
        ValueError: A pattern without `{uid}`, with another name, or one that leads out of the folder.
    """

    def __init__(self, path: str | os.PathLike[str], *, pattern: str = PATTERN, durable: bool = True) -> None:
        super().__init__(path, durable=durable)
        _check(pattern)
        self._pattern = pattern
        self._staged = Staged(durable=durable)
        self._lock: LockFile | None = None

    def for_mailbox(self, name: str, delimiter: str | None) -> EmlFolder:
        """The sink for one mailbox of a whole account: a folder below this one."""
        path = self.path.joinpath(*folder_names(name, delimiter))
        return EmlFolder(path, pattern=self._pattern, durable=self._durable)

    def _open(self, run: Run) -> None:
        make_folder(self.path, durable=self._durable)
        self._lock = hold(self.path / ".imapipe.lock", self.path, "folder")
        remove_leftovers(self.path)

    def _write_one(self, message: Message) -> None:
        for path in self._names(message):
            if path in self._staged:
                if _is(self._staged.partial(path), message):
                    return
            elif not path.exists():
                # Written beside the lock, where leftovers are looked for; the same file system.
                make_folder(path.parent, durable=self._durable)
                self._staged.write(path, chunks_of_body(message), staging=self.path, mtime=arrival_of(message))
                return
            elif _is(path, message):
                # Of an earlier run that was cut off: its name may not be safe yet.
                self._staged.sync_later(path.parent)
                return
        raise SinkError("a file of that name holds something else; move it away", path=str(path))

    def _names(self, message: Message) -> tuple[Path, Path]:
        """The name of a message's file, and the one for when it is taken."""
        *folders, name = _format(self._pattern, message).split("/")
        parent = self.path.joinpath(*(safe_name(folder, "_") for folder in folders))
        safe = safe_name(name, "message.eml")
        if str(message.uid) not in safe:
            # What a mail says of itself was so long that the name had to be cut.
            safe = f"{message.uid}.eml"
        stem, ending = os.path.splitext(safe)  # noqa: PTH122  # a text, not a path
        return parent / safe, parent / f"{stem} ({message.uidvalidity}-{message.uid}){ending}"

    def _commit(self) -> None:
        self._staged.publish()

    def _close(self) -> None:
        self._staged.discard()
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()


class _Undated:
    """Stands for a date that a message does not have."""

    def __format__(self, specification: str) -> str:
        return "undated"


def _format(pattern: str, message: Message) -> str:
    fields: Mapping[str, object] = {
        "uid": message.uid,
        "uidvalidity": message.uidvalidity,
        "mailbox": _text(message.mailbox),
        "subject": _text(message.subject) or "no subject",
        "sender": _text(message.sender.email if message.sender is not None else "") or "nobody",
        "date": message.date or _Undated(),
        "message_id": _text(message.headers.get("Message-ID", "")).strip("<>"),
    }
    return pattern.format_map(fields)


def _text(value: str) -> str:
    """What a mail says, without what would make folders, and not too long."""
    return " ".join(value.replace("/", "_").replace("\\", "_").split())[:_MAX_TEXT]


def _check(pattern: str) -> None:
    try:
        fields = [(name, spec or "") for _, name, spec, _ in string.Formatter().parse(pattern) if name is not None]
        names = [name for name, _ in fields]
        if any("{" in spec for _, spec in fields):
            raise ValueError("a field within a field")
        for name in names:
            if name not in _SAMPLE:
                raise ValueError(f"{{{name}}} is none of {', '.join(sorted(_SAMPLE))}")
        if "uid" not in names:
            raise ValueError("it needs {uid}, since two messages may be alike in everything else")
        parts = pattern.split("/")
        if any(part.strip() in ("", ".", "..") for part in parts) or os.path.isabs(pattern):  # noqa: PTH117
            raise ValueError("its folders are below the folder, each with a name")
        if "{uid" not in parts[-1].replace("{uidvalidity", ""):
            raise ValueError("{uid} belongs into the name of the file")
        pattern.format_map(_SAMPLE)
    except ValueError as error:
        raise ValueError(f"pattern {pattern!r} cannot be used: {error}") from None


def _is(path: Path, message: Message) -> bool:
    """Whether a file holds this very message."""
    return has_content(path, body_size(message), chunks_of_body(message))
