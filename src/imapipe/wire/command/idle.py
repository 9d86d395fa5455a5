"""IDLE (RFC 2177): the server tells what happens until the client says `DONE`."""

from __future__ import annotations

from typing import Final

from imapipe.wire.command.encoder import Request

DONE: Final = b"DONE\r\n"
"""Ends it; it has no tag."""


def idle() -> Request:
    """IDLE."""
    return Request("IDLE")
