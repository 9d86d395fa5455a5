"""Which parts of a message are its text, and which are attachments.

A part is text when it is text/plain or text/html and not declared an attachment, nor in something that is. Of a
multipart/alternative the first alternative counts that has text of the kind asked for; of a multipart/related the
root, and others only where nothing refers to them. A part is an attachment when it is declared one, has a name, or is
no text of these kinds; an attached message is one, and what is in it is not part of this message.

Invariants: no recursion; time is linear in the number of parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

PLAIN: Final = "text/plain"
HTML: Final = "text/html"
_TEXT: Final = frozenset({PLAIN, HTML})
_ATTACHMENT: Final = "attachment"
_FEW_PARTS: Final = 16


class PartLike(Protocol):
    """What is known of a part, whether from its message or from BODYSTRUCTURE."""

    @property
    def parent(self) -> PartLike | None:
        """The multipart it is in."""

    @property
    def section(self) -> str:
        """What to ask a server for."""

    @property
    def content_type(self) -> str:
        """Such as `text/plain`."""

    @property
    def is_multipart(self) -> bool:
        """Whether it holds other parts."""

    @property
    def disposition(self) -> str:
        """Content-Disposition in lower case."""

    @property
    def filename(self) -> str:
        """The name its sender gave it."""

    @property
    def content_id(self) -> str:
        """Content-ID."""

    @property
    def location(self) -> str:
        """Content-Location."""


_Part = TypeVar("_Part", bound=PartLike)


def text_parts(parts: Sequence[_Part], kind: str) -> list[_Part]:
    """The parts that are the text of a message, in order.

    Args:
        parts: All parts, each behind the multipart it is in.
        kind: PLAIN or HTML.
    """
    if len(parts) == 1:
        only = parts[0]
        return [only] if _kind_of(only) == kind and only.disposition != _ATTACHMENT else []
    root = parts[0]
    if len(parts) <= _FEW_PARTS and root.content_type != "multipart/related" and not _is_nested(parts, root):
        # The usual shape, and the same rules.
        if root.disposition == _ATTACHMENT:
            return []
        found = [part for part in parts[1:] if part.content_type == kind and part.disposition != _ATTACHMENT]
        return found[:1] if root.content_type == "multipart/alternative" else found
    shown = _shown(parts)
    places = {id(part): place for place, part in enumerate(parts)}
    parents = [places[id(part.parent)] if part.parent is not None else 0 for part in parts]
    # Whether a part, or one in it, is such text.
    has = [seen and not part.is_multipart and _kind_of(part) == kind for part, seen in zip(parts, shown, strict=True)]
    for place in range(len(parts) - 1, 0, -1):
        if has[place]:
            has[parents[place]] = True
    chosen: dict[int, int] = {}
    counts = [False] * len(parts)
    counts[0] = has[0]
    found = []
    for place, part in enumerate(parts):
        parent = parents[place]
        if not has[place] or not counts[parent]:
            continue
        if place and parts[parent].content_type == "multipart/alternative":
            counts[place] = chosen.setdefault(parent, place) == place
        else:
            counts[place] = True
        if counts[place] and not part.is_multipart:
            found.append(part)
    return found


def _is_nested(parts: Sequence[PartLike], root: PartLike) -> bool:
    for part in parts:
        if part is not root and (part.parent is not root or part.content_type.startswith("multipart/")):
            return True
    return False


def attachment_parts(parts: Sequence[_Part]) -> list[_Part]:
    """The parts that are attachments, in order."""
    shown = _shown(parts)
    return [
        part
        for part, seen in zip(parts, shown, strict=True)
        if not part.is_multipart and (not seen or _kind_of(part) == "" or part.filename)
    ]


def _kind_of(part: PartLike) -> str:
    """PLAIN or HTML, "" for what is neither. A multipart in which no parts were found is read as plain text."""
    content_type = part.content_type
    if content_type in _TEXT:
        return content_type
    return PLAIN if content_type.startswith("multipart/") and not part.is_multipart else ""


def _shown(parts: Sequence[PartLike]) -> list[bool]:
    """Whether each part is shown with the message: not an attachment, not in one, and not what others refer to."""
    shown: list[bool] = []
    hidden: set[int] = set()
    related: set[int] = set()
    for part in parts:
        parent = part.parent
        seen = parent is None or id(parent) not in hidden
        if seen and (part.is_multipart or _kind_of(part)):
            seen = part.disposition != _ATTACHMENT
            if seen and parent is not None and parent.content_type == "multipart/related":
                # The first one is the root (RFC 2387 §3.2), whatever `start` says: no mail is known where it is not.
                if id(parent) in related:
                    seen = not (part.content_id or part.location or part.filename)
                related.add(id(parent))
        if not seen and part.is_multipart:
            hidden.add(id(part))
        shown.append(seen)
    return shown
