"""Reading a search that a person wrote in the language of IMAP itself (RFC 9051 §9, `search-key`).

`SINCE 1-Jan-2024 UNSEEN`, `OR FROM ann SUBJECT "a b"`, `NOT (SEEN FLAGGED)`. What is accepted beyond the grammar:
dates as 2024-01-31, or as 30d for 30 days ago; any characters in text, with or without quotes.

Invariant: the depth of the text costs no recursion; open operators wait on a list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final, NamedTuple

from imapipe.errors import InvalidSearch
from imapipe.wire.search_key import SearchKey, combine
from imapipe.wire.search_program import Operation
from imapipe.wire.search_term import MAX_DAYS, MONTHS, TERMS, Kind, make_term
from imapipe.wire.uid_set import MAX_UID, UidSet

_WORD: Final = re.compile(r'\s*(?:(?P<mark>[()])|"(?P<quoted>(?:[^"\\]|\\["\\])*+)"(?=[\s()]|\Z)|(?P<bare>[^\s()"]+))')
_DATE: Final = re.compile(r"(\d{1,2})-([A-Za-z]{3})-(\d{4})")
_ISO_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")
_DAYS_AGO: Final = re.compile(r"(\d{1,9})[dD]")
_NUMBER: Final = re.compile(r"\d{1,19}")
_MONTH_NUMBERS: Final = {name.upper(): number for number, name in enumerate(MONTHS, 1)}
_SHOWN_CHARACTERS: Final = 40


class _Word(NamedTuple):
    """A piece of the text: `text` without quotes and escapes; `mark` is "(", ")" or ""."""

    text: str
    mark: str = ""
    quoted: bool = False


@dataclass(slots=True)
class _Open:
    """An operator, or a parenthesis, whose keys are still being read; `wanted` is 0 where any number may follow."""

    name: str
    wanted: int
    keys: list[SearchKey] = field(default_factory=list)

    def close(self) -> SearchKey:
        if self.name == "NOT":
            return ~self.keys[0]
        if len(self.keys) == 1:
            return self.keys[0]
        return combine(Operation.OR if self.name == "OR" else Operation.AND, self.keys)

    def shortage(self) -> str:
        wanted = f"{self.wanted} search key{'s' * (self.wanted > 1)}"
        return f"{self.name} takes {wanted} after it, and {len(self.keys)} came"


def parse(text: str) -> SearchKey:
    """Read a search from text, such as `UNSEEN OR FROM ann SUBJECT "a b"`. Keys beside each other must all match.

    Names are those of the RFCs, in capitals or not; text takes quotes when it has spaces or parentheses, and inside
    quotes `"` and a backslash take a backslash before them.

    Raises:
        InvalidSearch: The text is not a search; the message says what is missing or wrong.
    """
    words = _words(text)
    open_keys = [_Open("the search", 0)]
    for word in words:
        current = open_keys[-1]
        name = word.text.upper()
        if word.mark == "(":
            open_keys.append(_Open("(", 0))
            continue
        if word.mark == ")":
            if current.name != "(" or not current.keys:
                raise InvalidSearch(_misplaced_parenthesis(current))
            open_keys.pop()
            key = current.close()
        elif name in ("OR", "NOT") and not word.quoted:
            open_keys.append(_Open(name, 2 if name == "OR" else 1))
            continue
        else:
            key = _read_term(word, words)
        open_keys[-1].keys.append(key)
        # The key may be the last that one or several operators have waited for.
        while len(open_keys[-1].keys) == open_keys[-1].wanted:
            key = open_keys.pop().close()
            open_keys[-1].keys.append(key)
    if len(open_keys) > 1:
        missing = open_keys[-1]
        raise InvalidSearch(
            "close the parenthesis that was opened in the search" if missing.name == "(" else missing.shortage()
        )
    if not open_keys[0].keys:
        raise InvalidSearch("write at least one search key, such as ALL")
    return open_keys[0].close()


def _words(text: str) -> Iterator[_Word]:
    """Take the text apart."""
    position = 0
    end = len(text.rstrip())
    while position < end:
        match = _WORD.match(text, position)
        if match is None:
            raise InvalidSearch(
                f"close the quotes, and leave a space after them: {_excerpt(text[position:].lstrip())} "
                r"(inside quotes write \" for a quote and \\ for a backslash)"
            )
        position = match.end()
        quoted = match["quoted"]
        if quoted is not None:
            yield _Word(re.sub(r"\\(.)", r"\1", quoted), quoted=True)
        else:
            yield _Word(match["bare"] or "", match["mark"] or "")


def _read_term(word: _Word, words: Iterator[_Word]) -> SearchKey:
    """Read one key with its arguments."""
    name = word.text.upper()
    rule = TERMS.get(name)
    if rule is None or word.quoted:
        raise InvalidSearch(_unknown(word))
    values: list[object] = []
    for kind in rule.arguments:
        argument = next(words, None)
        if argument is None or argument.mark:
            raise InvalidSearch(f"{name} needs {kind.value}")
        values.append(_read_argument(name, kind, argument.text))
    return SearchKey(make_term(name, *values))


def _read_argument(name: str, kind: Kind, text: str) -> object:
    """Turn text into what `make_term` takes, which checks the rest."""
    if kind is Kind.DATE:
        value = _read_date(text)
        if value is None:
            raise InvalidSearch(f"{name} needs {kind.value}, not {_excerpt(text)}")
        return value
    if kind in (Kind.NUMBER, Kind.SECONDS):
        if not _NUMBER.fullmatch(text) or not text.isascii():
            raise InvalidSearch(f"{name} needs {kind.value}, not {_excerpt(text)}")
        return int(text)
    return text


def _read_date(text: str) -> date | timedelta | None:
    """Read a date or a number of days ago; None when it is neither."""
    try:
        if text.isascii() and (ago := _DAYS_AGO.fullmatch(text)):
            # More than that is too much in any case, and could be more than a timedelta holds.
            return timedelta(days=min(int(ago[1]), MAX_DAYS + 1))
        if found := _DATE.fullmatch(text):
            return date(int(found[3]), _MONTH_NUMBERS.get(found[2].upper(), 0), int(found[1]))
        return date.fromisoformat(text) if _ISO_DATE.fullmatch(text) else None
    except ValueError:
        return None


def _unknown(word: _Word) -> str:
    """Say what to do about a word that stands where a search key should."""
    name = word.text.upper()
    shown = _excerpt(word.text)
    if word.quoted:
        return f"say where to search for {shown}: put FROM, SUBJECT, TEXT or the like before it"
    if name in ("CHARSET", "RETURN"):
        return f"leave {name} out: it is added where it is needed"
    try:
        if UidSet.parse(word.text, star=MAX_UID):
            return f"write UID {shown}: plain numbers are places in the mailbox, which change all the time"
    except ValueError:
        # Not a set of numbers, so a word; there may be one like it. Only who mistypes needs the module.
        from difflib import get_close_matches  # noqa: PLC0415

        close = get_close_matches(name, (*TERMS, "OR", "NOT"), n=1)
        if close:
            return f"{shown} is no search key; write {close[0]} if that is meant"
    return f"{shown} is no search key; put FROM, SUBJECT, TEXT or the like before a text to search for"


def _misplaced_parenthesis(current: _Open) -> str:
    if current.name == "(":
        return "write a search key between the parentheses"
    if current.name in ("OR", "NOT"):
        return f"{current.shortage()} before ')'"
    return "remove the closing parenthesis that closes nothing"


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…")
