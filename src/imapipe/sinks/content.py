"""The bytes of a message, piece by piece where they are in a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

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
