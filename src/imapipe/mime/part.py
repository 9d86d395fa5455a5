"""The parts of a message (RFC 2045, RFC 2046): where each begins and ends, in one list, in the order of the message.

The bytes are searched for the boundaries that are open, and nothing is decoded or copied but the headers of the parts:
a large attachment costs one `find`.

What is broken is read as far as it goes: a multipart that names no boundary, or one that does not occur, is read by the
first line that looks like one; where there is none, all of it is one text. A multipart that does not end, ends with the
one around it. A header that runs into its text without an empty line ends at the first line that is no field. What is
behind the end of a multipart, and before its first part, is not read. A message in a message is one part.

Invariants:

- No function raises; no recursion, however deep the parts are nested; time is linear in the size of the message.
- A part stands in the list behind the multipart it is in.
"""

from __future__ import annotations

import re
from mmap import mmap
from typing import Final, TypeAlias

from imapipe.mime.field import boundary_of, content_type_of, find_field, parameters_of, text_of, word_of

Raw: TypeAlias = bytes | bytearray | mmap
"""The bytes of a message, in memory or in a file."""

# The end of a header. One search for both line ends takes less time than two calls of `find`.
_EMPTY_LINE: Final = re.compile(rb"\n\r?\n")
_CONTENT_FIELD: Final = re.compile(rb"\ncontent-", re.IGNORECASE)
# Lines that are fields, or go on with one (RFC 5322 §2.2).
_FIELDS: Final = re.compile(rb"(?:>?From [^\n]*+\n?)?(?:[!-9;-~]++[ \t]*+:[^\n]*+\n?(?:[ \t][^\n]*+\n?)*+)*+")
_FIELD_LINE: Final = re.compile(rb"[!-9;-~]++[ \t]*+:|>?From ")
_FOLDS: Final = (b" ", b"\t")
# No field begins so, but boundaries do, and what PGP encloses.
_HYPHENS_LINE: Final = b"\n--"
# Behind a boundary: the two hyphens of the last one, white space, the end of the line (RFC 2046 §5.1.1).
_LINE_END: Final = re.compile(rb"(--)?[ \t]*+(?:\r?\n|\r?\Z)")
_GUESSED: Final = re.compile(
    rb"\n--([^\s\r\n][^\r\n]{0,200}?)[ \t]*\r?\n(?=content-[a-z-]{1,40}[ \t]*:)", re.IGNORECASE
)
# So many multiparts in one another are searched for by their own boundaries, which is fastest. Deeper ones, which no
# real mail has, by every line that begins like a boundary, so that depth does not multiply the time.
_MAX_SEARCHED: Final = 8
_FAR: Final = 1 << 62
# A boundary this near is found at once; farther ones by their hyphens, until so many of them were none.
_NEAR_BYTES: Final = 4096
_HYPHENS: Final = 16
_MESSAGES: Final = frozenset({"message/rfc822", "message/global", "message/news"})


class Part:
    """One part: a multipart, or a leaf with content.

    Attributes:
        parent: The multipart it is in; None for the message itself.
        number: Its place in the parent, counted from 1.
        fields: Its header from the first field on whose name begins with `Content-`.
        start: Where its content begins in the message; -1 where only its structure is known.
        end: Where it ends.
        content_type: Such as `text/plain`.
        type_field: The value of Content-Type as it stands in the header; None where it is absent.
        is_multipart: Whether it holds other parts.
    """

    __slots__ = ("_lowered", "content_type", "end", "fields", "is_multipart", "number", "parent", "start", "type_field")

    def __init__(
        self, parent: Part | None, number: int, header: bytes, start: int, end: int, default: str = "text/plain"
    ) -> None:
        self.parent = parent
        self.number = number
        self.start = start
        self.end = end
        self.is_multipart = False
        if header[:8].lower() != b"content-":
            # What is asked for stands behind the long fields more often than before them.
            match = _CONTENT_FIELD.search(header)
            header = header[match.start() + 1 :] if match is not None else b""
        self.fields = header
        self._lowered = lowered = header.lower()
        self.type_field = value = find_field(header, lowered, b"content-type")
        self.content_type = default if value is None else content_type_of(value)

    @property
    def section(self) -> str:
        """The section to ask a server for (RFC 9051 §6.4.5.1), such as `1.2`; `TEXT` of a whole multipart."""
        if self.parent is None:
            return "TEXT" if self.is_multipart else "1"
        numbers: list[str] = []
        part = self
        while part.parent is not None:
            numbers.append(str(part.number))
            part = part.parent
        return ".".join(reversed(numbers))

    @property
    def is_message(self) -> bool:
        """Whether it is a message in a message."""
        return self.content_type in _MESSAGES

    @property
    def encoding(self) -> str:
        """Content-Transfer-Encoding in lower case, "" when absent."""
        value = find_field(self.fields, self._lowered, b"content-transfer-encoding")
        return word_of(value) if value is not None else ""

    @property
    def disposition(self) -> str:
        """`attachment`, `inline` or another Content-Disposition (RFC 2183), in lower case; "" when absent."""
        value = find_field(self.fields, self._lowered, b"content-disposition")
        return word_of(value) if value is not None else ""

    @property
    def filename(self) -> str:
        """The name its sender gave it, decoded; "" when there is none. It may hold a path: never open it as it is."""
        for field, parameter in ((b"content-disposition", "filename"), (b"content-type", "name")):
            value = find_field(self.fields, self._lowered, field)
            found = parameters_of(value).get(parameter) if value is not None and b"=" in value else None
            if found:
                return found
        return ""

    @property
    def content_id(self) -> str:
        """Content-ID with its angle brackets, "" when absent."""
        value = find_field(self.fields, self._lowered, b"content-id")
        return text_of(value) if value is not None else ""

    @property
    def location(self) -> str:
        """Content-Location, "" when absent."""
        value = find_field(self.fields, self._lowered, b"content-location")
        return text_of(value) if value is not None else ""


def parse_parts(raw: Raw) -> list[Part]:
    """Find the parts of a message; the first one is the message itself."""
    size = len(raw)
    head, start = _split_header(raw, 0, size)
    root = Part(None, 1, bytes(raw[:head]), start, size)
    if not root.content_type.startswith("multipart/"):
        return [root]
    parts = [root]
    reader = _Reader(raw)
    if not reader.open(root):
        return parts
    default = _default_of(root)
    leaf: Part | None = None
    while True:
        found = reader.next_delimiter()
        at = reader.at
        if leaf is not None:
            end = at if found is not None else size
            # The line end before a boundary belongs to it.
            if found is not None and raw[end - 1 : end] == b"\r":
                end -= 1
            leaf.end = max(end, leaf.start)
            leaf = None
        if found is None:
            return parts
        if reader.is_last:
            reader.close(found)
            if not reader.stack:
                return parts
            continue
        reader.close_inside(found)
        found.count += 1
        begin = reader.pos + 1
        limit = reader.limit()
        head, start = _split_header(raw, begin, limit)
        if found.default is None:
            found.default = default if found.part is root else _default_of(found.part)
        leaf = Part(found.part, found.count, bytes(raw[begin:head]), start, size, found.default)
        parts.append(leaf)
        if leaf.content_type.startswith("multipart/") and reader.open(leaf):
            leaf = None


def _default_of(multipart: Part) -> str:
    """What a part without Content-Type is (RFC 2046 §5.1.5)."""
    return "message/rfc822" if multipart.content_type == "multipart/digest" else "text/plain"


def _split_header(raw: Raw, start: int, limit: int) -> tuple[int, int]:
    """Where the header ends that begins at `start`, and where the content begins.

    Args:
        raw: The message.
        start: Where the header begins.
        limit: Where its part ends at the latest: the line end before a boundary, or the end of the message.
    """
    first = raw[start : start + 2]
    if first == b"\r\n":
        return start, start + 2
    if first[:1] == b"\n":
        return start, start + 1
    # The line end before a boundary may be the empty line.
    limit = min(limit + 1, len(raw))
    match = _EMPTY_LINE.search(raw, start, limit)
    end, content = (match.start() + 1, match.end()) if match is not None else (limit, limit)
    last = max(raw.rfind(b"\n", start, end - 1) + 1, start)
    if raw[last : last + 1] in _FOLDS:
        # It goes on with a field if there was one: no header, and its first paragraph is text.
        last = start
    if _FIELD_LINE.match(raw, last, end) is not None and raw.find(_HYPHENS_LINE, start, end) < 0 and first != b"--":
        return end, content
    # A line that is no field stands before the empty line: there is none where it should be.
    match = _FIELDS.match(raw, start, end)
    end = match.end() if match is not None else start
    return end, end


def _find(raw: Raw, needle: bytes, pos: int, limit: int) -> int:
    """As `raw.find` for a needle that begins with a line end and two hyphens, but ten times as fast over base64.

    There are no hyphens in it, and one character is searched for much faster than several.
    """
    near = max(pos + _NEAR_BYTES, pos + len(needle))
    at = raw.find(needle, pos, min(near, limit))
    if at >= 0 or limit <= near:
        return at
    pos = near - len(needle)
    for _ in range(_HYPHENS):
        at = raw.find(b"-", pos + 1, limit)
        if at < 0:
            return -1
        if raw[at - 1 : at - 1 + len(needle)] == needle:
            return at - 1 if at - 1 + len(needle) <= limit else -1
        pos = at
    return raw.find(needle, pos, limit)


class _Open:
    """A multipart whose end was not seen yet."""

    __slots__ = ("boundary", "count", "default", "needle", "next", "next_end", "next_is_last", "part", "shadowed")

    def __init__(self, part: Part, boundary: bytes) -> None:
        self.part = part
        self.boundary = boundary
        self.needle = b"\n--" + boundary
        self.count = 0
        self.default: str | None = None
        # The next of its boundaries: the line end before it, the last byte of its line, whether it is the last one.
        self.next = -1
        self.next_end = 0
        self.next_is_last = False
        # One with the same boundary is open inside.
        self.shadowed = False


class _Reader:
    """Goes from boundary to boundary.

    Attributes:
        stack: The multiparts that are open, each in the one before.
        pos: Where the search goes on: at a line end.
        at: The line end before the boundary that was found.
        is_last: Whether it is the last one of its multipart.
    """

    __slots__ = ("_deep", "_raw", "_size", "at", "is_last", "pos", "stack")

    def __init__(self, raw: Raw) -> None:
        self._raw = raw
        self._size = len(raw)
        self.stack: list[_Open] = []
        # The boundaries of the multiparts beyond `_MAX_SEARCHED`, and at which place of the stack each is.
        self._deep: dict[bytes, list[int]] = {}
        self.pos = 0
        self.at = 0
        self.is_last = False

    def open(self, part: Part) -> bool:
        """Open a multipart; False where no boundary of it is found: then it is one text."""
        pos = part.start - 1
        if pos < 0:
            # A message without a header never comes here; there is no line end before its first line.
            return False
        boundary = boundary_of(part.type_field) if part.type_field is not None else b""
        level = _Open(part, boundary)
        # One of the same boundary around it has to wait, or it would end this one where it begins.
        outer = [each for each in self.stack[:_MAX_SEARCHED] if each.boundary == boundary and not each.shadowed]
        for each in outer:
            each.shadowed = True
        limit = self.limit()
        if not boundary or not self._search(level, pos, limit):
            for each in outer:
                each.shadowed = False
            guessed = _GUESSED.search(self._raw, pos, self.limit())
            if guessed is None:
                return False
            level = _Open(part, guessed[1])
            if not self._search(level, pos, limit):
                return False
        part.is_multipart = True
        self.pos = pos
        if len(self.stack) >= _MAX_SEARCHED:
            self._deep.setdefault(level.boundary, []).append(len(self.stack))
        self.stack.append(level)
        return True

    def close(self, level: _Open) -> None:
        """A multipart has ended."""
        self.close_inside(level)
        self._pop()

    def close_inside(self, level: _Open) -> None:
        """All multiparts in this one have ended, though they did not say so."""
        while self.stack[-1] is not level:
            self._pop()

    def _pop(self) -> None:
        level = self.stack.pop()
        depth = len(self.stack)
        if depth >= _MAX_SEARCHED:
            places = self._deep[level.boundary]
            places.pop()
            if not places:
                del self._deep[level.boundary]
        for outer in reversed(self.stack[:_MAX_SEARCHED]):
            if outer.shadowed and outer.boundary == level.boundary:
                outer.shadowed = False
                outer.next = -1
                break

    def limit(self) -> int:
        """Where a part that begins here ends at the latest."""
        return min(self._next_searched()[1], self._size)

    def next_delimiter(self) -> _Open | None:
        """Go to the next boundary of a multipart that is open; None where there is none."""
        level, bound = self._next_searched()
        if len(self.stack) > _MAX_SEARCHED:
            deep = self._next_deep(min(bound, self._size))
            if deep is not None:
                return deep
        if level is None:
            return None
        self.at, self.pos, self.is_last = level.next, level.next_end, level.next_is_last
        return level

    def _next_searched(self) -> tuple[_Open | None, int]:
        """The multipart whose boundary comes next, and where; of the first ones only."""
        if len(self.stack) == 1 and not self.stack[0].shadowed:
            level = self.stack[0]
            if level.next < self.pos:
                self._search(level, self.pos, _FAR)
            bound = level.next
            return (level if bound < _FAR else None), bound
        found: _Open | None = None
        bound = _FAR
        for level in self.stack[:_MAX_SEARCHED]:
            if level.shadowed:
                continue
            if level.next < self.pos:
                self._search(level, self.pos, bound)
            if level.next < bound:
                found, bound = level, level.next
        return found, bound

    def _search(self, level: _Open, pos: int, limit: int) -> bool:
        """Find the next boundary of one multipart."""
        raw, needle = self._raw, level.needle
        at = _find(raw, needle, pos, limit)
        while at >= 0:
            # A longer boundary may begin like this one.
            match = _LINE_END.match(raw, at + len(needle))
            if match is not None:
                level.next, level.next_is_last = at, match[1] is not None
                level.next_end = match.end() - 1
                return True
            at = _find(raw, needle, at + len(needle), limit)
        level.next = _FAR
        return False

    def _next_deep(self, limit: int) -> _Open | None:
        """Find the next boundary of the multiparts that are too many to be searched for one by one."""
        raw, deep = self._raw, self._deep
        at = raw.find(b"\n--", self.pos, limit)
        while at >= 0:
            end = raw.find(b"\n", at + 3)
            end = len(raw) if end < 0 else end
            line = raw[at + 3 : end].rstrip(b" \t\r")
            places = deep.get(bytes(line))
            is_last = False
            if places is None and line[-2:] == b"--":
                places = deep.get(bytes(line[:-2]))
                is_last = True
            if places is not None:
                self.at, self.pos, self.is_last = at, min(end, len(raw) - 1), is_last
                return self.stack[places[-1]]
            at = raw.find(b"\n--", end, limit)
        return None
