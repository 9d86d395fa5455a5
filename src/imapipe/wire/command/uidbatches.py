"""UIDBATCHES (RFC 10022): ranges of UIDs that hold equally many messages. Answered by `UidBatches`."""

from __future__ import annotations

from imapipe.wire.command.encoder import Request, number


def uidbatches(size: int) -> Request:
    """UIDBATCHES, for batches of `size` messages.

    Raises:
        ValueError: The size is no whole number from 1.
    """
    return Request("UIDBATCHES", number(size, "the size of a batch", low=1))
