r"""The shape of the answers to a FETCH (RFC 9051 §7.5.2), as a regular expression.

`Shape` recognises, in one C call, an answer that holds exactly these items in one order: it gives the UID and the place
of every item without scanning the rest. Servers keep to an order, so the shape of the first answer fits those that
follow; an answer that does not fit is scanned item by item instead (`wire.response.fetch.scan_fetch`), with the same
result.

Invariant: a shape never matches an answer that lacks an item or holds another one. Items before the last are
matched whole; the last one may be open-ended (ENVELOPE, BODYSTRUCTURE), because framing has made sure that the
text ends where the response does.
"""

from __future__ import annotations

import re
from functools import lru_cache

from imapipe.wire.response.invented import COMMON_ENVELOPE, COMMON_LITERAL, COMMON_SIZE, NON_EMPTY_LITERAL

_SIMPLE = {
    "UID": r"(\d{1,10})",
    "FLAGS": r'(\([^()"{]*\))',
    "INTERNALDATE": r'("[^"\\]*")',
    # What servers invent for messages that are gone is looked at more closely.
    "RFC822.SIZE": f"({COMMON_SIZE})",
    "MODSEQ": r"(\(\d{1,19}\))",
    "EMAILID": r'(\([^()" ]+\))',
    "THREADID": r'(\([^()" ]+\))',
    "X-GM-MSGID": r"(\d{1,20})",
    "X-GM-THRID": r"(\d{1,20})",
}
# How the value of an item begins that may end anywhere.
_OPEN = {"ENVELOPE": f"({COMMON_ENVELOPE})", "BODYSTRUCTURE": r"(\()"}


class Shape:
    """One order of the items in an answer, as a regular expression.

    Attributes:
        match: Bound method: `match(text)` gives a match or None.
        groups: Item name to the number of its group. An open-ended item's group begins where its value does.
        uid_group: The number of the group that holds the UID.
        literal_items: Names of the items whose values are literals, in order.
        names: The names of all items.
        open_item: The name of the item that stretches to the end of the answer, or "".
    """

    __slots__ = ("groups", "literal_items", "match", "names", "open_item", "uid_group")

    def __init__(
        self, pattern: re.Pattern[bytes], groups: dict[str, int], literal_items: tuple[str, ...], open_item: str
    ) -> None:
        self.match = pattern.match
        self.groups = groups
        self.uid_group = groups["UID"]
        self.literal_items = literal_items
        self.names = frozenset((*groups, *literal_items))
        self.open_item = open_item


@lru_cache(maxsize=256)
def compile_shape(order: tuple[str, ...], *, uidfetch: bool = False) -> Shape | None:
    """The shape of answers whose items come in this order, UID among them, or None where one must be scanned.

    Args:
        order: Item names as they come back. For `uidfetch` without UID, which stands in front.
        uidfetch: The answers are UIDFETCH responses (RFC 9586 §3.3).
    """
    groups: dict[str, int] = {}
    literal_items: list[str] = []
    if uidfetch:
        groups["UID"] = 1
    patterns: list[str] = []
    for position, name in enumerate(order):
        last = position == len(order) - 1
        if name in _SIMPLE:
            value = _SIMPLE[name]
            groups[name] = len(groups) + 1
        elif name in _OPEN and last:
            value = _OPEN[name]
            groups[name] = len(groups) + 1
        elif name.startswith(("BODY[", "BINARY[")):
            value = NON_EMPTY_LITERAL if "RFC822.SIZE" in order else COMMON_LITERAL
            literal_items.append(name)
        else:
            return None
        patterns.append(re.escape(name) + " " + value)
    if "UID" not in groups:
        return None
    head = r"\* (\d{1,10}) UIDFETCH \(" if uidfetch else r"\* \d+ FETCH \("
    open_item = order[-1] if order and order[-1] in _OPEN else ""
    tail = "" if open_item else r"\)\Z"
    return Shape(re.compile((head + " ".join(patterns) + tail).encode()), groups, tuple(literal_items), open_item)
