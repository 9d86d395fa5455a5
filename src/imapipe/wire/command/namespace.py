"""NAMESPACE (RFC 2342): where do mailboxes lie? Answered by `Namespace`."""

from __future__ import annotations

from imapipe.wire.command.encoder import Request


def namespace() -> Request:
    """NAMESPACE."""
    return Request("NAMESPACE")
