"""What commands that write must look at first."""

from __future__ import annotations

from collections.abc import Sequence

from ..arguments import Refused
from ..mailbox import Mailbox
from ..session import Session


def require_writable(session: Session) -> Mailbox:
    """The selected mailbox.

    Raises:
        Refused: It was opened for reading.
    """
    box = session.selected
    if session.read_only:
        raise Refused("Mailbox is read-only", "READ-ONLY")
    return box


def permitted_flags(box: Mailbox, flags: Sequence[str]) -> list[str]:
    """Of flags that shall be set those that may be; other keywords are ignored (RFC 3501 7.1, PERMANENTFLAGS).

    Raises:
        Refused: The mailbox takes no further keyword.
    """
    known = {keyword.lower() for keyword in box.keywords}
    permitted = None if box.permanent_keywords is None else {keyword.lower() for keyword in box.permanent_keywords}
    kept = [flag for flag in flags if flag.startswith("\\") or permitted is None or flag.lower() in permitted]
    fresh = {flag.lower() for flag in kept if not flag.startswith("\\")} - known
    if box.max_keywords is not None and len(known) + len(fresh) > box.max_keywords:
        raise Refused("Too many keywords in this mailbox", "LIMIT")
    return kept
