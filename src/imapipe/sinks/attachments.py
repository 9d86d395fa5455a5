"""The attachments of messages as files, each content once, and a list of what belongs to which message.

    FOLDER/ab/ab12cd34ef56ab78-invoice.pdf
    FOLDER/attachments.jsonl                   {"uid": 7, "filename": "invoice.pdf", "path": "ab/ab12…", …}

Invariants:

- A file is named after the beginning of the digest of its content. One that is there already and holds that is not
  written again; where something else has the name, which a sender can bring about, the whole digest is the name.
- The files of a group are safe before its lines are, and the lines before its messages count.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

import orjson

from imapipe.errors import SinkError
from imapipe.middleware.base import Run
from imapipe.models.message import Attachment, Message
from imapipe.sinks.appended import Appended
from imapipe.sinks.base import FileSink
from imapipe.sinks.content import has_content
from imapipe.sinks.place import Place
from imapipe.sinks.staged import Staged, make_folder, names_in, remove_leftovers
from imapipe.wire.uid_set import UidSet

LIST: Final = "attachments.jsonl"
_MAX_NAME_BYTES: Final = 200
# Of the digest in a name.
_DIGITS: Final = 16
# Of the name of an attachment, behind a whole digest.
_SHORT_NAME_BYTES: Final = 150


class Attachments(FileSink):
    """Writes what is attached to messages, without the messages: each content once, whoever sent it how often.

    Args:
        path: The folder; made where it is missing. `attachments.jsonl` in it tells what belongs to which message.
        durable: Whether all files of a message must survive a loss of power before it counts as done.
    """

    def __init__(self, path: str | os.PathLike[str], *, durable: bool = True) -> None:
        super().__init__(path, durable=durable)
        self._list = Appended(self.path / LIST, "attachments", durable=durable)
        self._staged = Staged(durable=durable)
        # Those of the group, by their digest.
        self._new: dict[str, Path] = {}

    def for_mailbox(self, name: str, delimiter: str | None) -> Attachments:
        """The sink for one mailbox of a whole account: the same folder."""
        sink = Attachments(self.path, durable=self._durable)
        sink._share(self)
        sink._list, sink._staged, sink._new = self._list, self._staged, self._new
        return sink

    def _open(self, run: Run) -> None:
        self._place = Place.of(run)
        make_folder(self.path, durable=self._durable)
        self._list.open(self)
        if self._list.is_alone:
            remove_leftovers(self.path)

    def _known(self) -> UidSet:
        return self._list.known(self._place)

    def _write_one(self, message: Message) -> None:
        if self._list.has(self._place, message.uid):
            return
        lines = [self._write_attachment(message, attachment) for attachment in message.attachments]
        for line in lines:
            self._list.put(line)
        self._list.note(self._place, message.uid)

    def _write_attachment(self, message: Message, attachment: Attachment) -> bytes:
        content = attachment.content
        digest = hashlib.sha256(content).hexdigest()
        path = self._new.get(digest) or self._find(digest, content)
        if path is None:
            path = self._free_path(digest, attachment)
            make_folder(path.parent, durable=self._durable)
            self._staged.write(path, (content,), staging=self.path)
            self._new[digest] = path
        else:
            self._staged.sync_later(path.parent)
        return orjson.dumps(
            {
                "account": self._place.account,
                "mailbox": self._place.mailbox,
                "uidvalidity": self._place.uidvalidity,
                "uid": message.uid,
                "section": attachment.section,
                "filename": attachment.filename,
                "content_type": attachment.content_type,
                "size": len(content),
                "sha256": digest,
                "path": path.relative_to(self.path).as_posix(),
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )

    def _find(self, digest: str, content: bytes) -> Path | None:
        """The file that has this content."""
        folder = self.path / digest[:2]
        if not folder.is_dir():
            return None
        beginnings = (f"{digest[:_DIGITS]}-", f"{digest}-")
        named = (folder / name for name in names_in(folder) if name.startswith(beginnings))
        return next((path for path in named if has_content(path, len(content), (content,))), None)

    def _free_path(self, digest: str, attachment: Attachment) -> Path:
        stem, dot, ending = attachment.safe_filename.rpartition(".")
        ending = f"{dot}{ending}" if stem and len(ending.encode()) <= 16 else ""
        stem = attachment.safe_filename.removesuffix(ending) if ending else attachment.safe_filename
        folder = self.path / digest[:2]
        for digits, most in ((digest[:_DIGITS], _MAX_NAME_BYTES), (digest, _SHORT_NAME_BYTES)):
            cut = stem.encode()[:most].decode("utf-8", "ignore")
            path = folder / f"{digits}-{cut}{ending}"
            if path not in self._staged and not os.path.lexists(path):
                return path
        raise SinkError(
            f"what has the name of attachment {digest[:_DIGITS]} is another; move it away", path=str(folder)
        )

    def _commit(self) -> None:
        self._staged.publish()
        self._new.clear()
        self._list.commit()

    def _close(self) -> None:
        if self._list.close(self):
            self._staged.discard()
            self._new.clear()
