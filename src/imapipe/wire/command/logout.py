"""LOGOUT (RFC 9051 §6.1.3): answered by BYE and OK."""

from __future__ import annotations

from imapipe.wire.command.encoder import Request


def logout() -> Request:
    """LOGOUT."""
    return Request("LOGOUT")
