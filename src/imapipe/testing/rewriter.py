"""Cuts output into whole responses, so that a function can change them before they go out.

Invariant: linear in the output; a literal is never looked into.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_LITERAL = re.compile(rb"\{(\d{1,20})\}\r\n\Z")


class Rewriter:
    """Passes output through functions, one response after the other.

    Args:
        changes: Each gets a whole response and gives what goes out instead; applied in turn.
    """

    def __init__(self, changes: Sequence[Callable[[bytes], bytes]]) -> None:
        self._changes = changes
        self._held = bytearray()
        self._at = 0

    def feed(self, data: bytes) -> bytes:
        """What goes out now that these bytes were written."""
        self._held += data
        out: list[bytes] = []
        start = 0
        while (end := self._held.find(b"\r\n", self._at)) >= 0:
            end += 2
            literal = _LITERAL.search(self._held, max(end - 24, start), end)
            if literal is not None:
                self._at = end + int(literal.group(1))
                if self._at > len(self._held):
                    break
                continue
            out.append(self._change(bytes(self._held[start:end])))
            start = self._at = end
        del self._held[:start]
        self._at -= start
        return b"".join(out)

    def rest(self) -> bytes:
        """What was written and is no whole response, as it is."""
        left = bytes(self._held)
        self._held.clear()
        self._at = 0
        return left

    def _change(self, response: bytes) -> bytes:
        for change in self._changes:
            response = change(response)
        return response
