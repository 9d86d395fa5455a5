"""NOOP (RFC 9051 §6.1.2): has anything changed?"""

from __future__ import annotations

from imapipe.wire.command.encoder import Request


def noop() -> Request:
    """NOOP."""
    return Request("NOOP")
