"""The bytes of a message, piece by piece where they are in a file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from imapipe.durable_file import open_to_read
from imapipe.models.message import Message

_CHUNK_BYTES: Final = 1024 * 1024


def chunks_of_body(message: Message) -> Iterator[bytes]:
    """The whole message. Raises NotFetched."""
    if not message.is_spooled:
        yield message.body
        return
    with message.open() as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def body_size(message: Message) -> int:
    """How many bytes the whole message has. Raises NotFetched."""
    if not message.is_spooled:
        return len(message.body)
    with message.open() as file:
        return file.seek(0, os.SEEK_END)


def has_content(path: Path, size: int, chunks: Iterable[bytes]) -> bool:
    """Whether what has a name is a file with this very content. Raises OSError: it cannot be read."""
    if not path.is_file():
        # A pipe would be waited for.
        return False
    with open_to_read(os.fspath(path), through_links=True) as file:
        return os.fstat(file.fileno()).st_size == size and all(file.read(len(chunk)) == chunk for chunk in chunks)
