"""What is in a checkpoint file: `{"format", "version", "name", "crc32", "entries": [...], "notes": {account: ...}}`.

Its name is a new one each time it is written; states in the journal name the document that they are to be read with.

Invariant: nothing is believed of a document whose checksum does not fit its content, or whose version is another.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import orjson

from imapipe.errors import CheckpointCorrupt, CheckpointVersion
from imapipe.store.checkpoint_state import FORMAT_VERSION, CheckpointState
from imapipe.store.notes_state import NotesState

_FORMAT: Final = "imapipe-checkpoint"


class Document(NamedTuple):
    """What a document says.

    Attributes:
        name: Its name.
        states: The states.
        notes: The notes by account.
    """

    name: str
    states: list[CheckpointState]
    notes: dict[str, NotesState]


def write_document(name: str, entries: Iterable[bytes], notes: Mapping[str, NotesState]) -> bytes:
    """Write the whole document, from entries and accounts that are JSON already."""
    body = b"[%b]" % b",".join(entries)
    noted = b"{%b}" % b",".join(b"%b:%b" % (orjson.dumps(account), each.to_json()) for account, each in notes.items())
    checksum = _checksum(name, body, noted)
    head = orjson.dumps({"format": _FORMAT, "version": FORMAT_VERSION, "name": name, "crc32": checksum})
    return b'%b,"entries":%b,"notes":%b}\n' % (head[:-1], body, noted)


def read_document(data: bytes, path: str) -> Document:
    """Read a document; `path` is for the text of errors.

    Raises:
        CheckpointCorrupt: It is not a whole checkpoint.
        CheckpointVersion: It has another version.
    """
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise CheckpointCorrupt(f"it is no whole JSON document ({error})", path=path) from error
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise CheckpointCorrupt("it is some other JSON file", path=path)
    version = document.get("version")
    if not isinstance(version, int):
        raise CheckpointCorrupt("it does not tell its version", path=path)
    if version != FORMAT_VERSION:
        raise CheckpointVersion(
            f"it has format version {version} and this imapipe reads version {FORMAT_VERSION} only: end the job with "
            "the imapipe that began it, or move the file away to begin anew",
            path=path,
        )
    name, entries, notes = document.get("name", ""), document.get("entries"), document.get("notes")
    if not isinstance(name, str) or not isinstance(entries, list) or not isinstance(notes, dict):
        raise CheckpointCorrupt("its name, entries or notes are missing", path=path)
    try:
        content = orjson.dumps(entries), orjson.dumps(notes)
    except TypeError:
        # It reads what is nested deeper than it writes.
        raise CheckpointCorrupt("it is nested too deeply", path=path) from None
    if document.get("crc32") != _checksum(name, *content):
        raise CheckpointCorrupt("its checksum does not fit its content", path=path)
    try:
        states = [CheckpointState.from_fields(entry) for entry in entries]
        noted = {account: NotesState.from_fields(value) for account, value in notes.items()}
    except ValueError as error:
        raise CheckpointCorrupt(f"an entry is not whole: {error}", path=path) from error
    if len({state.key.printable() for state in states}) != len(states):
        raise CheckpointCorrupt("a job is in it twice", path=path)
    return Document(name, states, noted)


def _checksum(name: str, entries: bytes, notes: bytes) -> str:
    return f"{zlib.crc32(name.encode(), zlib.crc32(notes, zlib.crc32(entries))):08x}"
