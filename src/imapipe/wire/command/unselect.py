"""Leaving a mailbox without expunging anything: UNSELECT (RFC 3691), or what does the same where it is missing.

CLOSE cannot be written: it expunges.
"""

from __future__ import annotations

from imapipe.wire.command.encoder import Dialect, Request
from imapipe.wire.command.select import select


def unselect() -> Request:
    """UNSELECT."""
    return Request("UNSELECT")


def examine_nothing() -> Request:
    """EXAMINE of a mailbox that does not exist, which leaves none selected (RFC 3501 §6.3.1)."""
    return select("imapipe-no-such-mailbox", Dialect(), read_only=True)
