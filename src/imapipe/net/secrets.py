"""Secrets kept out of what is told: a server may echo a command it does not understand, password and all.

What the server says about a command (statuses, the greeting) and excerpts of what cannot be read pass through here
before anybody else sees them, so that no exception, log, event or report can show a secret. It is found by its value,
as it is and in the forms in which servers echo it: quoted, in base64 at any place of a longer text, percent-encoded,
in hexadecimal.

Invariants:

- What a status says to us (response codes that we read, and their numbers) stays, whatever the secret is.
- A text is gone through once for each form of each secret, by the search of the C library, and what is found adds the
  more: the time is linear in the text, whatever it is. Where no secret is in it, it is the same object afterwards.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections import deque
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, quote_plus

from imapipe.wire.response.code import Code, parse_response_text, shorten_text
from imapipe.wire.response.limits import LONG_BYTES

HIDDEN: Final = b"(hidden)"

# Tokens are new every hour; the last ones may still be echoed.
_MAX_SECRETS: Final = 4
# A shorter one may be a part of any word, so it is looked for as a whole word.
_SHORT_BYTES: Final = 4
# Fewer characters of base64 are in many a word.
_MIN_BASE64: Final = 4
# Behind the end of an excerpt there may be the rest of a secret.
_MARGIN_BYTES: Final = 4096

_STATUS: Final = re.compile(
    rb"[\0 ]*+(?:\* *|(?!(?:OK|NO|BAD|BYE|PREAUTH)[ \[])[^ ]++ +)?(?:(OK|NO|BAD|BYE|PREAUTH)(?: +|\Z|(?=\[))|(?=\[))",
    re.IGNORECASE,
)
_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_=-"
# To the left and right of a secret in base64 are letters that hold bits of it, and of what it was sent with.
_BASE64_REACH: Final = 8192

# Codes whose arguments we read, in an OK; and those with numbers that may stand in any status.
_NUMBERED: Final = frozenset(("APPENDUID", "COPYUID", "INPROGRESS", "MESSAGELIMIT", "MODIFIED"))
_FACTS: Final = _NUMBERED | frozenset(
    ("CAPABILITY", "HIGHESTMODSEQ", "MAILBOXID", "PERMANENTFLAGS", "UIDNEXT", "UIDVALIDITY", "UNSEEN")
)
_NUMBERS: Final = re.compile(rb"[0-9:, *]*+")
# By these names we decide what to do, so they stay even where one of them is the secret.
_NAMES: Final = _FACTS | frozenset(
    """ALERT ALREADYEXISTS AUTHENTICATIONFAILED AUTHORIZATIONFAILED BADCHARSET CANNOT CLIENTBUG CLOSED
    CONTACTADMIN CORRUPTION EXPIRED EXPUNGEISSUED INUSE LIMIT NONEXISTENT NOPERM NOTSAVED OVERQUOTA PARSE
    PRIVACYREQUIRED SERVERBUG THROTTLED READ-ONLY TOOBIG TRYCREATE UNAVAILABLE UNKNOWN-CTE""".split()
)


class Secrets:
    """The secrets of an account: its password, or the access tokens that were used last."""

    __slots__ = ("_encoded", "_known", "_plain")

    def __init__(self) -> None:
        self._known: deque[tuple[str, tuple[bytes, ...]]] = deque(maxlen=_MAX_SECRETS)
        # In lower case: nobody's echo is trusted to keep that.
        self._plain: frozenset[bytes] = frozenset()
        self._encoded: frozenset[bytes] = frozenset()

    def __repr__(self) -> str:
        return f"<{len(self._known)} secrets>"

    def add(self, secret: str, *sent: bytes) -> None:
        """Hide a secret from now on.

        Args:
            secret: The secret, not empty.
            sent: What was made of it to be sent, in base64.
        """
        if not secret or (secret, sent) in self._known:
            return
        self._known.append((secret, sent))
        self._plain = frozenset(form.lower() for known, _ in self._known for form in _forms(known))
        cores = [core for known, _ in self._known for core in _base64_cores(known)]
        lines = [line.strip() for _, lines in self._known for line in lines]
        self._encoded = frozenset(form.lower() for form in (*cores, *lines))

    def hide(self, text: bytes) -> bytes:
        """A text without the secrets."""
        spans = sorted(self._spans(text))
        if not spans:
            return text
        pieces: list[bytes] = []
        position = 0
        for start, end in spans:
            if start >= position:
                pieces += (text[position:start], HIDDEN)
            position = max(position, end)
        return b"".join((*pieces, text[position:]))

    def _spans(self, text: bytes) -> Iterator[tuple[int, int]]:
        """Where secrets stand in a text, in no order; they may overlap."""
        lower = text.lower()
        for form in self._plain:
            for start in _found(form, lower):
                end = start + len(form)
                beside = (lower[max(0, start - 1) : start], lower[end : end + 1])
                if len(form) >= _SHORT_BYTES or not any(map(bytes.isalnum, beside)):
                    yield start, end
        for form in self._encoded:
            past = 0
            for start in _found(form, lower):
                if start < past:
                    continue
                before = text[max(past, start - _BASE64_REACH) : start]
                after = text[start : start + len(form) + _BASE64_REACH]
                past = start + len(after) - len(after.lstrip(_BASE64))
                yield start - len(before) + len(before.rstrip(_BASE64)), past

    def hide_in_status(self, text: bytes) -> bytes:
        """A line with a status, tagged or not, without the secrets, and with all that we read of it."""
        if len(text) > LONG_BYTES:
            status = _STATUS.match(text)
            text = shorten_text(text, 0 if status is None else status.end())
        if not self._are_in(text):
            return text
        status = _STATUS.match(text)
        if status is None:
            return self.hide(text)
        head, said = text[: status.end()], text[status.end() :]
        code, _ = parse_response_text(said)
        if code is None:
            return head + self.hide(said)
        words = parse_response_text(self.hide(said))[1].encode()
        if code.name not in _NAMES and self._are_in(code.name.encode()):
            return head + words
        arguments = code.arguments
        # A code without its OK is one of an OK.
        if not self._are_read((status[1] or b"OK").upper(), code):
            arguments = self.hide(arguments)
        return head + b"[" + b" ".join(filter(None, (code.name.encode(), arguments))) + b"] " + words

    def excerpt(self, text: bytes, size: int) -> bytes:
        """The beginning of a text, without the secrets."""
        return self.hide(text[: size + _MARGIN_BYTES])[:size]

    def _are_read(self, status: bytes, code: Code) -> bool:
        """Whether the arguments of a code say something to us."""
        if status in (b"OK", b"PREAUTH"):
            return code.name in _FACTS
        return code.name in _NUMBERED and _NUMBERS.fullmatch(code.arguments) is not None

    def _are_in(self, text: bytes) -> bool:
        lower = text.lower()
        # Nearly never is any form of one there, and then no more than a search for each is needed.
        if not any(form in lower for forms in (self._plain, self._encoded) for form in forms):
            return False
        return next(self._spans(text), None) is not None


def _found(form: bytes, text: bytes) -> Iterator[int]:
    """Where a form stands in a text, one behind the other."""
    start = text.find(form)
    while start >= 0:
        yield start
        start = text.find(form, start + len(form))


def _forms(secret: str) -> Iterator[bytes]:
    """How a secret looks where it stands in a text, but for base64."""
    data = secret.encode()
    yield data
    if max(secret) <= "\xff":
        yield secret.encode("latin-1")
    yield data.replace(b'"', b'\\"')
    yield data.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    for safe in ("", "/"):
        yield quote(secret, safe=safe).encode()
        yield quote_plus(secret, safe=safe).encode()
    yield b"".join(b"%%%02X" % byte for byte in data)
    yield data.hex().encode()


def _base64_cores(secret: str) -> Iterator[bytes]:
    """The letters of base64 that come of a secret alone, wherever it begins in what is encoded."""
    data = secret.encode()
    for before, first in ((0, 0), (1, 2), (2, 3)):
        core = b64encode(bytes(before) + data)[first : (before + len(data)) * 8 // 6]
        if len(core) >= _MIN_BASE64:
            yield core
            yield core.replace(b"+", b"-").replace(b"/", b"_")
