"""Secrets kept out of what is told: a server may echo a command it does not understand, password and all.

What the server says about a command (statuses, the greeting) and excerpts of what cannot be read pass through here
before anybody else sees them, so that no exception, log, event or report can show a secret. It is found by its value,
as it is and in the forms in which servers echo it: quoted, in base64 at any place of a longer text, percent-encoded,
in hexadecimal.

Invariants:

- What a status says to us (response codes that we read, and their numbers) stays, whatever the secret is.
- A secret that is not in a text costs that text one search, and changes nothing in it.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections import deque
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, quote_plus

from imapipe.wire.response.code import Code, parse_response_text

HIDDEN: Final = b"(hidden)"

# Tokens are new every hour; the last ones may still be echoed.
_MAX_SECRETS: Final = 16
# A shorter one may be a part of any word, so it is looked for as a whole word.
_SHORT_BYTES: Final = 4
# Fewer characters of base64 are in many a word.
_MIN_BASE64: Final = 4
# Behind the end of an excerpt there may be the rest of a secret.
_MARGIN_BYTES: Final = 4096

_STATUS: Final = re.compile(
    rb"[\0 ]*(?:\* *|(?!(?:OK|NO|BAD|BYE|PREAUTH)[ \[])[^ ]++ +)?(?:(OK|NO|BAD|BYE|PREAUTH)(?: +|\Z|(?=\[))|(?=\[))",
    re.IGNORECASE,
)
_BASE64_RUN: Final = re.compile(rb"[A-Za-z0-9+/_=-]++")

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
        self._plain: re.Pattern[bytes] | None = None
        self._encoded: re.Pattern[bytes] | None = None

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
        plain = [form for known, _ in self._known for form in _forms(known)]
        encoded = [core for known, _ in self._known for core in _base64_cores(known)]
        encoded += [line.strip() for _, lines in self._known for line in lines]
        # The longest first: one may be the beginning of another.
        self._plain = _any_of(_bounded(form) for form in sorted(set(plain), key=len, reverse=True))
        self._encoded = _any_of(re.escape(form) for form in sorted(set(encoded), key=len, reverse=True))

    def hide(self, text: bytes) -> bytes:
        """A text without the secrets."""
        if self._encoded is not None and self._encoded.search(text):
            text = _BASE64_RUN.sub(self._hide_run, text)
        return text if self._plain is None else self._plain.sub(HIDDEN, text)

    def hide_in_status(self, text: bytes) -> bytes:
        """A line with a status, tagged or not, without the secrets, and with all that we read of it."""
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
        return self._plain is not None and bool(
            self._plain.search(text) or (self._encoded is not None and self._encoded.search(text))
        )

    def _hide_run(self, run: re.Match[bytes]) -> bytes:
        """All of a text in base64 that holds a secret: its letters to the left and right hold bits of it too."""
        assert self._encoded is not None
        return HIDDEN if self._encoded.search(run[0]) else run[0]


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


def _bounded(form: bytes) -> bytes:
    escaped = re.escape(form)
    return escaped if len(form) >= _SHORT_BYTES else rb"(?<![A-Za-z0-9])" + escaped + rb"(?![A-Za-z0-9])"


def _any_of(expressions: Iterator[bytes]) -> re.Pattern[bytes] | None:
    joined = b"|".join(expressions)
    return re.compile(joined, re.IGNORECASE) if joined else None
