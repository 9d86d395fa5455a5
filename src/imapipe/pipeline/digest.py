"""Names for the bytes of messages, by which two of them are the same for certain."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import BinaryIO, Final

from imapipe.models.message import Message

_CHUNK: Final = 256 * 1024


def digest_of(chunks: Iterable[bytes]) -> bytes:
    """Names some bytes."""
    digest = hashlib.blake2b()
    for chunk in chunks:
        digest.update(chunk)
    return digest.digest()


def digest_of_file(file: BinaryIO) -> bytes:
    """Names the content of a file. Blocking."""
    return digest_of(iter(lambda: file.read(_CHUNK), b""))


def digest_of_message(message: Message) -> bytes:
    """Names the whole of a message that was fetched; raises NotFetched, and what reading it raises."""
    with message.open() as file:
        return digest_of_file(file)
