"""STARTTLS (RFC 9051 §6.2.1): what follows its OK is the handshake."""

from __future__ import annotations

from imapipe.wire.command.encoder import Request


def starttls() -> Request:
    """STARTTLS."""
    return Request("STARTTLS")
