"""CAPABILITY (RFC 9051 §6.1.1): what does the server offer? Answered by `Capability`."""

from __future__ import annotations

from imapipe.wire.command.encoder import Request


def capability() -> Request:
    """CAPABILITY."""
    return Request("CAPABILITY")
