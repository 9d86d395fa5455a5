"""Long lists of messages, taken in pieces: a list of a million UIDs is as many responses as one likes.

`* SEARCH 1 2 3 4` says the same as `* SEARCH 1 2` and `* SEARCH 3 4`, and so do ESEARCH and VANISHED (RFC 9051 §7.3.3,
RFC 7162 §3.2.10) with the ranges of their sets. So the text of a list never has to stand whole, and what a turn of the
event loop reads of it is small.

Invariant: the pieces have every number of the list once, in their order, and its other words (MODSEQ, COUNT) once.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

# A tag and a few words may stand in front of the set of an ESEARCH; a list of anything else is none of these.
_HEAD: Final = re.compile(
    rb"\* *+(?:(?P<search>SEARCH) ++|(?P<gone>VANISHED(?: *+\(EARLIER\))?+) ++"
    rb"|ESEARCH(?: *+(?P<tag>\([^()\r\n]{0,200}+\)))?+"
    rb"(?P<words>(?: ++(?!ALL )[A-Z]++(?: ++\d++)?+){0,8}+) ++ALL ++)(?=\d)",
    re.IGNORECASE,
)
_HEAD_BYTES: Final = 1024
_UID: Final = re.compile(rb"(?<![A-Z])UID(?![A-Z])", re.IGNORECASE)


class Piece(NamedTuple):
    """The beginning of a list.

    Attributes:
        text: It, as a response of its own.
        head: What is to stand in front of the rest, so that it is one, too.
        after: Where in the list the rest begins; at least the length of `head`.
    """

    text: bytes
    head: bytes
    after: int


def first_piece(window: bytes | bytearray | memoryview) -> Piece | None:
    """Cut off the beginning of a list behind the last number that is whole.

    Args:
        window: What is looked at: the list goes on behind it.

    Returns:
        None where it is no such list, or not only numbers are in the window.
    """
    found = _HEAD.match(bytes(window[:_HEAD_BYTES]))
    if found is None:
        return None
    body = bytes(window[found.end() :])
    separator, others = (b" ", b"") if found["search"] else (b",", b":*")
    cut = body.rfind(separator)
    if cut <= 0 or body.translate(None, b"0123456789" + separator + others):
        return None
    after = found.end() + cut + 1
    head = _head_of_rest(found)
    return Piece(found[0] + body[:cut], head, after) if len(head) <= after else None


def _head_of_rest(found: re.Match[bytes]) -> bytes:
    if found["search"]:
        return b"* SEARCH "
    if found["gone"]:
        return b"* " + found["gone"] + b" "
    # COUNT, MODSEQ and their like were told with the first piece.
    uid = b" UID" if _UID.search(found["words"]) else b""
    return b"* ESEARCH " + (found["tag"] or b"") + uid + b" ALL "
