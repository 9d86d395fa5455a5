"""Search programs: reading one, and finding the messages it matches (RFC 3501 6.4.4).

A key is a function from candidates to matches, both index ranges into the view; so ``ALL`` and sets of a
million messages cost as much as their ranges, and only keys about content look at messages.
"""

from __future__ import annotations

import email.header
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from email.utils import parsedate_to_datetime

from .arguments import Arguments, BadCommand, Refused
from .mime import Part
from .ranges import IndexRanges, merge_ranges
from .stored import StoredMessage
from .view import MailboxView

Key = Callable[[IndexRanges], IndexRanges]
Test = Callable[[StoredMessage], bool]

_FLAG_KEYS: dict[str, tuple[str, bool]] = {
    "ANSWERED": ("\\Answered", True),
    "DELETED": ("\\Deleted", True),
    "DRAFT": ("\\Draft", True),
    "FLAGGED": ("\\Flagged", True),
    "SEEN": ("\\Seen", True),
    "RECENT": ("\\Recent", True),
    "UNANSWERED": ("\\Answered", False),
    "UNDELETED": ("\\Deleted", False),
    "UNDRAFT": ("\\Draft", False),
    "UNFLAGGED": ("\\Flagged", False),
    "UNSEEN": ("\\Seen", False),
    "OLD": ("\\Recent", False),
}
_DATE_KEYS = {"BEFORE", "ON", "SINCE", "SENTBEFORE", "SENTON", "SENTSINCE", "SAVEDBEFORE", "SAVEDON", "SAVEDSINCE"}
_HEADER_KEYS = {"BCC", "CC", "FROM", "SUBJECT", "TO"}
_MONTHS = {name: number for number, name in enumerate("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split(), 1)}
_DATE = re.compile(rb'"?(\d{1,2})-([A-Za-z]{3})-(\d{4})"?')


class SearchProgram:
    """Reads a search program for a session's view of its mailbox.

    Attributes:
        uses_modseq: Whether a MODSEQ key is in it, so that the answer tells the highest one.
    """

    def __init__(self, view: MailboxView) -> None:
        self._seen = view
        self._charset = "us-ascii" if not view.utf8 else "utf-8"
        self.uses_modseq = False

    def read(self, arguments: Arguments) -> Key:
        """Read ``[CHARSET name] key key ...`` to the end.

        Raises:
            BadCommand: The grammar is broken.
            Refused: The charset is not known.
        """
        if arguments.take(b"CHARSET "):
            name = arguments.astring().decode("latin-1").lower()
            if name not in ("utf-8", "us-ascii") or name not in self._seen.server.search_charsets:
                raise Refused("Unknown charset", "BADCHARSET (US-ASCII UTF-8)")
            self._charset = name
            arguments.space()
        keys = [self._key(arguments)]
        while not arguments.at_end:
            arguments.space()
            keys.append(self._key(arguments))
        return _all_of(keys)

    def _key(self, arguments: Arguments) -> Key:
        if arguments.take(b"("):
            keys = [self._key(arguments)]
            while not arguments.take(b")"):
                arguments.space()
                keys.append(self._key(arguments))
            return _all_of(keys)
        following = arguments.peek()
        if following.isdigit() or following in (b"*", b"$"):
            saved = following == b"$"
            return _within(self._seen.resolve(arguments.sequence_set(), saved))
        word = arguments.word()
        if word == "ALL":
            return list
        if word == "NOT":
            arguments.space()
            inner = self._key(arguments)
            return lambda candidates: subtract(candidates, inner(candidates))
        if word == "OR":
            arguments.space()
            one = self._key(arguments)
            arguments.space()
            other = self._key(arguments)
            return lambda candidates: merge_ranges(one(candidates) + other(candidates))
        if word == "NEW":
            return lambda candidates: []
        if word in _FLAG_KEYS:
            return self._flag(*_FLAG_KEYS[word])
        if word == "SAVEDATESUPPORTED":
            return list if self._seen.has("SAVEDATE") else lambda candidates: []
        arguments.space()
        return self._key_with_value(word, arguments)

    def _key_with_value(self, word: str, arguments: Arguments) -> Key:
        if word == "UID":
            return _within(self._seen.resolve(arguments.sequence_set(), True))
        if word in ("KEYWORD", "UNKEYWORD"):
            return self._flag(arguments.flag(), word == "KEYWORD")
        if word in _DATE_KEYS:
            return self._date(word, read_date(arguments))
        if word in ("LARGER", "SMALLER"):
            size = arguments.number()
            if word == "LARGER":
                return self._filter(lambda message: message.content.size > size)
            return self._filter(lambda message: message.content.size < size)
        if word in ("OLDER", "YOUNGER") and self._seen.has("WITHIN"):
            limit = self._seen.server.now() - timedelta(seconds=arguments.number())
            if word == "OLDER":
                return self._arrival(lambda when: when <= limit)
            return self._arrival(lambda when: when >= limit)
        if word == "MODSEQ" and self._seen.has("CONDSTORE"):
            self._seen.require_mod_sequences()
            if arguments.peek() == b'"':
                arguments.string()
                arguments.expect(b" ")
                arguments.word()
                arguments.space()
            modseq = arguments.number()
            self.uses_modseq = True
            return self._filter(lambda message: message.modseq >= modseq)
        return self._text_key(word, arguments)

    def _text_key(self, word: str, arguments: Arguments) -> Key:
        if word == "HEADER":
            name = arguments.astring().lower()
            arguments.space()
            wanted = self._text(arguments)
            return self._filter(lambda message: _header_contains(message.content.root, name, wanted))
        wanted = self._text(arguments)
        if word in _HEADER_KEYS:
            field = word.lower().encode("ascii")
            return self._filter(lambda message: _header_contains(message.content.root, field, wanted))
        if word == "BODY":
            return self._filter(lambda message: _body_contains(message, wanted))
        if word == "TEXT":
            return self._filter(
                lambda message: _any_header_contains(message, wanted) or _body_contains(message, wanted)
            )
        if word in ("EMAILID", "THREADID") and self._seen.has("OBJECTID"):
            if word == "EMAILID":
                return self._filter(lambda message: message.email_id.lower() == wanted)
            return self._filter(lambda message: (message.thread_id or "").lower() == wanted)
        if word.startswith("X-GM-") and self._seen.has("X-GM-EXT-1"):
            return self._gmail_key(word, wanted)
        raise BadCommand(f"Unknown search key {word}")

    def _gmail_key(self, word: str, wanted: str) -> Key:
        if word == "X-GM-RAW":
            return self._filter(
                lambda message: _any_header_contains(message, wanted) or _body_contains(message, wanted)
            )
        if word == "X-GM-MSGID":
            return self._filter(lambda message: str(message.gmail_id) == wanted)
        if word == "X-GM-THRID":
            return self._filter(lambda message: str(message.gmail_thread_id) == wanted)
        if word == "X-GM-LABELS":
            return self._filter(lambda message: wanted in (label.lower() for label in message.labels))
        raise BadCommand(f"Unknown search key {word}")

    def _text(self, arguments: Arguments) -> str:
        data = arguments.astring()
        try:
            return data.decode(self._charset).lower()
        except UnicodeDecodeError:
            raise BadCommand(f"The text is not {self._charset}") from None

    def _flag(self, flag: str, present: bool) -> Key:
        view, box = self._seen.view, self._seen.selected
        lowered = flag.lower()

        def has(index: int) -> bool:
            flags = box.flags_of(view[index])
            return flag in flags or (not flag.startswith("\\") and any(other.lower() == lowered for other in flags))

        return lambda candidates: _pick(candidates, lambda index: has(index) is present)

    def _date(self, word: str, limit: date) -> Key:
        # Dates are compared without regard to the time zone (RFC 3501 6.4.4).
        compare = _date_test(word, limit)
        if word.startswith("SENT"):
            return self._filter(lambda message: compare(_sent_on(message)))
        if word.startswith("SAVED"):
            return self._filter(lambda message: compare(message.save_date.date()))
        return self._arrival(lambda when: compare(when.date()))

    def _arrival(self, test: Callable[[datetime], bool]) -> Key:
        view, box = self._seen.view, self._seen.selected

        def matches(index: int) -> bool:
            when = box.internal_date_of(view[index])
            return when is not None and test(when)

        return lambda candidates: _pick(candidates, matches)

    def _filter(self, test: Test) -> Key:
        view, box = self._seen.view, self._seen.selected

        def matches(index: int) -> bool:
            message = box.get(view[index])
            return message is not None and test(message)

        return lambda candidates: _pick(candidates, matches)


def _all_of(keys: list[Key]) -> Key:
    def search(candidates: IndexRanges) -> IndexRanges:
        for key in keys:
            candidates = key(candidates)
        return candidates

    return search


def _pick(candidates: IndexRanges, test: Callable[[int], bool]) -> IndexRanges:
    found: IndexRanges = []
    for low, high in candidates:
        start = -1
        for index in range(low, high):
            if test(index):
                if start < 0:
                    start = index
            elif start >= 0:
                found.append((start, index))
                start = -1
        if start >= 0:
            found.append((start, high))
    return merge_ranges(found)


def _within(wanted: IndexRanges) -> Key:
    return lambda candidates: intersect(candidates, wanted)


def intersect(one: IndexRanges, other: IndexRanges) -> IndexRanges:
    """Indexes in both."""
    found: IndexRanges = []
    i = j = 0
    while i < len(one) and j < len(other):
        low, high = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if low < high:
            found.append((low, high))
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
    return found


def subtract(one: IndexRanges, other: IndexRanges) -> IndexRanges:
    """Indexes in the first and not in the second."""
    found: IndexRanges = []
    j = 0
    for low, high in one:
        at = low
        while j < len(other) and other[j][1] <= at:
            j += 1
        k = j
        while k < len(other) and other[k][0] < high:
            if other[k][0] > at:
                found.append((at, other[k][0]))
            at = max(at, other[k][1])
            k += 1
        if at < high:
            found.append((at, high))
    return found


def read_date(arguments: Arguments) -> date:
    """Read ``1-Feb-1994``, quoted or not.

    Raises:
        BadCommand: It is no date.
    """
    match = _DATE.match(arguments.text, arguments.at)
    month = _MONTHS.get(match.group(2).decode("ascii").upper()) if match else None
    if match is None or month is None:
        raise BadCommand("Expected a date")
    arguments.at = match.end()
    try:
        return date(int(match.group(3)), month, int(match.group(1)))
    except ValueError:
        raise BadCommand("No such date") from None


def _date_test(word: str, limit: date) -> Callable[[date | None], bool]:
    if word.endswith("BEFORE"):
        return lambda day: day is not None and day < limit
    if word.endswith("SINCE"):
        return lambda day: day is not None and day >= limit
    return lambda day: day == limit


def _sent_on(message: StoredMessage) -> date | None:
    value = message.content.root.header(b"date")
    try:
        return parsedate_to_datetime(value.decode("latin-1")).date() if value else None
    except ValueError:
        return None


def decode_header(value: bytes) -> str:
    """A header value in lower case with its encoded words decoded."""
    text = value.decode("utf-8", "replace")
    try:
        return str(email.header.make_header(email.header.decode_header(text))).lower()
    except (LookupError, ValueError):
        return text.lower()


def _header_contains(part: Part, name: bytes, wanted: str) -> bool:
    return any(wanted in decode_header(value) for field, value in part.headers if field == name)


def _any_header_contains(message: StoredMessage, wanted: str) -> bool:
    return any(
        wanted in f"{name.decode('latin-1')}: {decode_header(value)}" for name, value in message.content.root.headers
    )


def _body_contains(message: StoredMessage, wanted: str) -> bool:
    def search(part: Part) -> bool:
        if part.children:
            return any(search(child) for child in part.children)
        if part.maintype != b"TEXT":
            return False
        charset = next((value for name, value in part.parameters if name.lower() == b"charset"), b"us-ascii")
        data = part.decoded(message.content.raw)
        try:
            text = data.decode(charset.decode("latin-1"), "replace")
        except LookupError:
            text = data.decode("latin-1")
        return wanted in text.lower()

    return search(message.content.root)
