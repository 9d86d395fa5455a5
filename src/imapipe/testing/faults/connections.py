"""Faults of a connection as a whole.

Of the conditions only ``connection``, ``nth``, ``times`` and ``when`` have a meaning, and ``nth`` counts connections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .base import Bytes, CutKind, Fault


@dataclass(eq=False)
class RefuseConnection(Fault):
    """Close a connection at once, or after other words than the greeting.

    Attributes:
        text: Say ``* BYE text``.
        raw: Say these bytes, CRLF included (``421 busy``).
        kind: Without words: ``reset`` aborts it, ``close`` ends it in order, as a proxy does that finds nobody.
    """

    text: str = ""
    raw: bytes = b""
    kind: Literal["close", "reset"] = "reset"

    @property
    def greeting(self) -> bytes:
        """What is said instead of the greeting, empty for nothing."""
        if self.raw or not self.text:
            return self.raw
        return f"* BYE {self.text}\r\n".encode("latin-1", "replace")


@dataclass(eq=False)
class CutConnection(Fault):
    """End a connection after so many bytes of its whole output, greeting included.

    Attributes:
        after_bytes: Bytes still sent, counted before TLS and compression; a function chooses anew for each.
        kind: ``close`` ends it in order, ``reset`` aborts it, ``stall`` goes silent and keeps it open.
    """

    after_bytes: Bytes
    kind: CutKind = "close"

    def choose_bytes(self) -> int:
        """How many bytes it is this time."""
        return self.after_bytes if isinstance(self.after_bytes, int) else self.after_bytes()
