"""IDLE (RFC 2177): the server tells what happens until the client says `DONE`. The command itself is aioimaplib's."""

from __future__ import annotations

from typing import Final

DONE: Final = b"DONE\r\n"
"""Ends it; it has no tag."""
