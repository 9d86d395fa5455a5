"""FETCH responses that break the grammar: what of them is beyond doubt.

This begins where `scan_fetch` gives up, so it costs nothing where a server keeps to the grammar. Met are: parentheses
around an item (Domino), flags with parentheses in them, items that no RFC knows with values of several words, an
answer that ends behind its body and goes on in the next line (Xeams), a string that does not end.

What is beyond doubt: everything before the first thing that cannot be read; and behind it a body whose label stands
directly before its literal, because no string of a mail can write a line end. From there on all is certain again.

Invariants:
    A literal whose end is followed by anything but an item or a parenthesis was counted short: then nothing of the
    answer is used, since the rest of a body can look like items.
    An answer that names two UIDs has none.
    Linear: each byte is looked at a constant number of times, whatever nests in what.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from imapipe.errors import ProtocolError
from imapipe.wire.response.fetch import FetchScan, canonical_name, parse_uid, scan_fetch, split_head
from imapipe.wire.response.literal import Literal
from imapipe.wire.response.note import Note
from imapipe.wire.response.repair import READINGS, loose_list_end
from imapipe.wire.response.token import MARKER, QUOTED, ItemSpan, value_end

_WORDS: Final = (
    rb"UID|FLAGS|INTERNALDATE|RFC822(?:\.SIZE|\.HEADER|\.TEXT)?|ENVELOPE|BODYSTRUCTURE|MODSEQ|X-GM-MSGID|X-GM-THRID"
    rb"|X-GM-LABELS|EMAILID|THREADID|SAVEDATE|PREVIEW"
)
_SECTIONS: Final = (
    rb"(?:BODY|BINARY)(?:\.PEEK|\.SIZE)?\[[^\]\[(\"\r\n]*+(?:\([^()\r\n]*+\))?[ ]*+\](?:<\d++(?:\.\d++)?>)?"
)
_NAME: Final = re.compile(rb"(" + _SECTIONS + rb"|(?:" + _WORDS + rb"|BODY)(?=[ \n)]|\Z))", re.IGNORECASE)
_NAME_AHEAD: Final = re.compile(rb"(?<=[ \n)])" + _NAME.pattern, re.IGNORECASE)
_ONLY_NAME: Final = re.compile(rb"(?:" + _WORDS + rb")\Z", re.IGNORECASE)
_BODY_AHEAD: Final = re.compile(
    rb"(?<=[ (])(?:" + _SECTIONS + rb"|RFC822(?:\.HEADER|\.TEXT)?) ~?" + MARKER, re.IGNORECASE
)
# Each search for the next body may go to the end, so there are few of them.
_MAX_BROKEN: Final = 8
# Where an answer may go on in the next line, the end of this one says nothing.
_CUT_SECTION_VALUE: Final = re.compile(QUOTED + rb"|~?" + MARKER + rb"(?=[ \n)]|\Z)|(?:(?i:NIL)|\d++)(?=[ )]|\Z)")
_WORD: Final = re.compile(rb'[^ ()"\r\n]++')


class Salvage(NamedTuple):
    """What could be saved of an answer.

    Attributes:
        scan: Its items.
        finished: Whether its last parenthesis was there; if not, the rest may stand on the next line.
        broken: Whether something in it could not be read, and is lost.
        notes: What was passed over.
    """

    scan: FetchScan
    finished: bool
    broken: bool
    notes: tuple[Note, ...]


def salvage_fetch(text: bytes, literals: Sequence[Literal]) -> Salvage | None:
    """Read a FETCH or UIDFETCH response that `scan_fetch` refused; None where nothing of it can be trusted."""
    head = split_head(text)
    if head is None:
        return None
    reader = _Reader(text, literals, head.end, 1)
    if not reader.read():
        return None
    uids = reader.uids if head.uid is None else [head.uid, *reader.uids]
    uid = uids[0] if uids and len(set(uids)) == 1 else None
    return Salvage(FetchScan(head.seq, uid, reader.items), reader.finished, reader.is_broken, tuple(reader.notes))


def salvage_rest(text: bytes, literals: Sequence[Literal]) -> Salvage | None:
    """Read a line that goes on with the answer before it: known items and parentheses, and nothing else.

    None where it is anything else. `finished` says whether the parenthesis of the answer is in it.
    """
    reader = _Reader(text, literals, 0, 0)
    if not reader.read() or reader.notes or not (reader.items or b")" in text):
        return None
    return Salvage(FetchScan(0, reader.uids[0] if reader.uids else None, reader.items), reader.finished, False, ())


class Answer(NamedTuple):
    """A FETCH response as it was read, in one way or the other.

    Attributes:
        scan: Its items; None where nothing of it can be trusted, or it names no UID.
        salvage: How they were saved, where it breaks the grammar.
        error: Where it breaks the grammar.
    """

    scan: FetchScan | None
    salvage: Salvage | None = None
    error: ProtocolError | None = None


def read_fetch(text: bytes, literals: Sequence[Literal]) -> Answer:
    """Read a FETCH or UIDFETCH response by the grammar, else what of it is beyond doubt."""
    try:
        return Answer(scan_fetch(text, literals))
    except ProtocolError as raised:
        salvage = salvage_fetch(text, literals)
        # Its traceback would keep the text and the files of its literals, in a circle that waits for the collector.
        error = raised.with_traceback(None)
        if salvage is None or salvage.scan.uid is None:
            return Answer(None, None, error)
        return Answer(salvage.scan, salvage, error)


class _Reader:
    """Goes through an answer item by item and passes over what cannot be read."""

    __slots__ = (
        "_broken",
        "_depth",
        "_end",
        "_index",
        "_literals",
        "_pos",
        "_text",
        "finished",
        "items",
        "notes",
        "uids",
    )

    def __init__(self, text: bytes, literals: Sequence[Literal], position: int, depth: int) -> None:
        self._text = text
        self._literals = literals
        self._pos = position
        self._index = self._broken = 0
        # How many parentheses are open; 0 in a line that goes on with another one.
        self._depth = depth
        self._end = len(text.rstrip(b" \n"))
        self.items: dict[str, ItemSpan] = {}
        self.uids: list[int] = []
        self.notes: list[Note] = []
        self.finished = False

    @property
    def is_broken(self) -> bool:
        """Whether something could not be read."""
        return self._broken > 0

    def read(self) -> bool:
        """Read to the end; False when a literal was counted short."""
        text = self._text
        while True:
            self._move(self._behind_spaces(self._pos))
            if self._pos >= len(text):
                return True
            first = text[self._pos]
            if first == 0x29:
                self._move(self._pos + 1)
                self._depth -= 1
                if self._depth <= 0:
                    return self._ends()
            elif first == 0x28:
                # Domino: `(ENVELOPE (…))`.
                self._move(self._pos + 1)
                self._depth += 1
                self._note("parentheses around an item")
            elif (name := _NAME.match(text, self._pos)) is not None:
                if not self._item(name[1]):
                    return False
            else:
                self._pass_over()

    def _ends(self) -> bool:
        """Whether nothing but parentheses stands behind the end: else a body was counted short."""
        self.finished = True
        return not self._text[self._pos :].strip(b" \n)")

    def _item(self, raw: bytes) -> bool:
        """Take an item with its value; False when it is a body that was counted short."""
        text = self._text
        name = canonical_name(raw, self._literals, self._index)
        start = self._behind_spaces(self._pos + len(raw))
        if _is_section_name(name):
            end = _section_value(text, start)
            if end is None:
                return False
        elif name == "FLAGS":
            end = self._flags_end(start)
        else:
            end = self._value_end(start)
        if end < 0:
            self._note(f"{name[:40]} cannot be read")
            self._go_on_with_a_body()
            return True
        self._move(start)
        self.items[name] = ItemSpan(start, end, self._index)
        if name == "UID" and (uid := parse_uid(text[start:end])) is not None:
            self.uids.append(uid)
        self._move(end)
        return True

    def _value_end(self, start: int) -> int:
        """Where a value ends, -1 when that cannot be told; a value left out ends where it begins."""
        text = self._text
        if start >= self._end or text[start] == 0x29:
            return start
        try:
            end = value_end(text, start)
        except ProtocolError:
            return self._loose_end(start) if text[start] == 0x28 else -1
        return start if _ONLY_NAME.match(text[start:end]) else end

    def _loose_end(self, start: int) -> int:
        """Where a list ends whose strings are not escaped."""
        for reading in READINGS:
            try:
                return loose_list_end(self._text, start, reading)
            except ProtocolError:
                continue
        return -1

    def _flags_end(self, start: int) -> int:
        """Where a list of flags with parentheses in them ends: before the next item, or before the end."""
        text = self._text
        if text[start : start + 1] != b"(":
            return self._value_end(start)
        ahead = _NAME_AHEAD.search(text, start)
        region = text[start : self._end if ahead is None else ahead.start()].rstrip(b" \n")
        # The parentheses around this item, or around the whole answer, are no part of it.
        others = self._depth - 1 if ahead is not None else max(self._depth, 1)
        try:
            end = value_end(region, 0)
        except ProtocolError:
            end = len(region)
        if end < len(region) and region.count(b")", end) - region.count(b"(", end) <= others:
            return start + end
        closed = len(region) - len(region.rstrip(b")"))
        return start + len(region) - min(others, closed - 1) if closed else -1

    def _pass_over(self) -> None:
        """Pass over an item that nobody knows, or over what is none."""
        word = _WORD.match(self._text, self._pos)
        if word is None:
            self._note("what stands between two items cannot be read")
            self._go_on_with_a_body()
            return
        self._note("an item that is not known")
        start = self._behind_spaces(word.end())
        end = self._value_end(start) if self._text[start : start + 1] in (b"(", b'"', b"{", b"~") else start
        if end < 0:
            self._go_on_with_a_body()
        else:
            self._move(end)

    def _go_on_with_a_body(self) -> None:
        """Go to the next body whose label stands directly before its literal, or to the end."""
        self._broken += 1
        ahead = _BODY_AHEAD.search(self._text, self._pos) if self._broken <= _MAX_BROKEN else None
        self._move(len(self._text) if ahead is None else ahead.start())
        # Nobody knows how many parentheses are open; the last one is the answer's.
        self._depth = 1
        self.finished = self.finished or ahead is None

    def _behind_spaces(self, position: int) -> int:
        text = self._text
        while text[position : position + 1] in (b" ", b"\n"):
            position += 1
        return position

    def _move(self, position: int) -> None:
        """Go on to a place, counting the literals up to it; the line end of a marker is never left behind."""
        if self._text.startswith(b"\r\n", position):
            position += 2
        if self._literals:
            self._index += self._text.count(b"}\r\n", self._pos, position)
        self._pos = position

    def _note(self, detail: str) -> None:
        note = Note("fetch-item", detail)
        if note not in self.notes:
            self.notes.append(note)


def _is_section_name(name: str) -> bool:
    """Whether an item is a part of the message itself, in any of its names."""
    return "[" in name or name in ("RFC822", "RFC822.HEADER", "RFC822.TEXT")


def _section_value(text: bytes, start: int) -> int | None:
    """Where the value of such an item ends; None for a literal with something behind it that is no item.

    A value left out ends where it begins; one that is no string ends at -1.
    """
    value = _CUT_SECTION_VALUE.match(text, start)
    if value is not None:
        return value.end()
    if text.startswith((b"{", b"~"), start):
        return None
    return -1 if text.startswith((b'"', b"("), start) else start
