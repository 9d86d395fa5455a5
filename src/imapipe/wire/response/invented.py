r"""What servers answer in the place of a message that somebody else has expunged (RFC 9051 §5.5, RFC 2180 §4.1).

- Dovecot: NIL for bodies and whatever else may be NIL, RFC822.SIZE 0, an ENVELOPE and a BODYSTRUCTURE of nothing, and
  in the end `OK [EXPUNGEISSUED]`. What it has in its index it tells truly (flags, a size that was asked for alone).
- Courier: the text of a message of 129 bytes, with everything that follows from it (imap/fetch.c). It lists the message
  as before until it is asked with NOOP.
- go-imap's server in memory: a body without a byte.

All of it may be a message that is there, so this only says that one is to be looked for. It is known by its size, that
of its parts, and its envelope: the shape of an answer (`wire.response.shape`) leaves these out, so that no other answer
costs anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from imapipe.wire.response.literal import Literal

UNAVAILABLE_BYTES: Final = 129
# Any size but 0 and 129, as an expression; written so that a usual one costs what any number does.
COMMON_SIZE: Final = r"\d{4,18}|[2-9]\d\d|1(?:[013-9]\d|2[0-8])|[1-9]\d?"
# No message, and no header of one, is empty; any other literal, as an expression.
NON_EMPTY_LITERAL: Final = r"~?\{0*+[1-9]\d*\+?\}\r\n"
# Courier's message, its header and its text have these many bytes; any other literal, as an expression.
COMMON_LITERAL: Final = r"~?\{(?!(?:129|77|52|0)\+?\})\d+\+?\}\r\n"
# The beginning of an ENVELOPE with a date or a subject, as an expression.
COMMON_ENVELOPE: Final = r'\((?!(?:NIL|"") (?:NIL|"") )'
# What is invented is small; more than this is a message, whatever its size is said to be.
_MOST_BYTES: Final = 4096
_UNAVAILABLE_SUBJECT: Final = b"message unavailable"
_UNAVAILABLE_TEXT: Final = b"This message is no longer available on the server."
_EMPTY_ENVELOPE: Final = re.compile(rb'\((?:NIL|"")(?: (?:NIL|"")){9} ?\)', re.IGNORECASE)
_EMPTY_STRUCTURE: Final = re.compile(rb'\("text" "plain" (?:NIL|\(\)) NIL NIL "7bit" 0 0(?: NIL)*\)', re.IGNORECASE)
_NEVER_EMPTY: Final = ("BODY[]", "BODY[HEADER]")
_NO_BYTES: Final = (b"{0}\r\n", b"{0+}\r\n", b'""')
# What is told of a message that is gone like of any other.
_TOLD_OF_GHOSTS: Final = frozenset(("UID", "FLAGS", "MODSEQ", "INTERNALDATE", "RFC822.SIZE"))


def may_be_invented(items: Mapping[str, bytes], literals: Sequence[Literal], size: int) -> bool:
    """Whether an answer may stand for a message that is gone.

    Args:
        items: The items that came, by name, as they were sent (a literal as its marker).
        literals: Their literals.
        size: The bytes of the answer.
    """
    if size > _MOST_BYTES:
        return False
    said = items.get("RFC822.SIZE")
    if said == b"0" or _is_empty(items) or any(items.get(name) in _NO_BYTES for name in _NEVER_EMPTY):
        return True
    if said != b"%d" % UNAVAILABLE_BYTES:
        return said is None and any(_is_unavailable(literal) for literal in literals)
    other = [name for name in items if name.startswith(("BODY[", "BINARY[", "ENVELOPE"))]
    return not other or any(_is_unavailable(shown) for shown in (*literals, *items.values()))


def _is_empty(items: Mapping[str, bytes]) -> bool:
    """Whether an envelope or a structure says nothing, or nothing but NIL came of what tells of the message itself."""
    if _EMPTY_ENVELOPE.fullmatch(items.get("ENVELOPE", b"")) or _EMPTY_STRUCTURE.fullmatch(
        items.get("BODYSTRUCTURE", b"")
    ):
        return True
    telling = [value for name, value in items.items() if name not in _TOLD_OF_GHOSTS]
    return bool(telling) and all(value.upper() in (b"", b"NIL") for value in telling)


def _is_unavailable(literal: Literal) -> bool:
    return isinstance(literal, bytes | bytearray) and (_UNAVAILABLE_TEXT in literal or _UNAVAILABLE_SUBJECT in literal)
