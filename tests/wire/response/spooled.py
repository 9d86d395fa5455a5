"""A literal outside memory, for tests of what takes one."""

from __future__ import annotations

import io
from typing import BinaryIO


class Spooled:
    """A literal that counts how often it is read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.reads = 0

    def __len__(self) -> int:
        return len(self.data)

    def open(self) -> BinaryIO:
        return io.BytesIO(self.data)

    def read(self) -> bytes:
        self.reads += 1
        return self.data

    def close(self) -> None:
        raise NotImplementedError
