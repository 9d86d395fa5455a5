"""COMPRESS (RFC 4978): behind its OK everything is compressed, in both directions."""

from __future__ import annotations

from imapipe.wire.command.encoder import Request


def compress() -> Request:
    """COMPRESS DEFLATE, the one mechanism there is."""
    return Request("COMPRESS", b"DEFLATE")
