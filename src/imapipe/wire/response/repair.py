r"""Quoted strings that a server forgot to escape (QQ, iCloud): where they end, and how they should have been written.

A quote closes a string only if what follows looks like the next value of a list. With that rule
`("5" disk" NIL)` has a string and a NIL. A backslash is first taken as an escape, as the grammar says, and in a
second try as a plain character (`"C:\" NIL`). This is guesswork, so it begins only after the strict reading
failed, and its result is read strictly again.

Invariants:
    Linear: a quote is looked at once, and what decides about it is the few bytes behind it.
    A guess never moves a literal: markers stay in place and in order.
"""

from __future__ import annotations

import re
from functools import cache

from imapipe.wire.response.token import QUOTED, UNENDED, list_end, malformed, unquote

# What may follow the closing quote: the end, a list ending and more of the response behind it, the next value.
_CLOSED = rb'\Z|\)++(?:\Z|\(| [\w("{\\$])| (?:"|\((?:["(){]|NIL[ )])|~?\{\d|NIL[ )]|-?\d++[ )])'
_ESCAPING = rb'"(?:[^"\\\r]++|\\[^\r]|\r(?!\n)|"(?!' + _CLOSED + rb'))*+"(?=' + _CLOSED + rb")"
_PLAIN = rb'"(?:[^"\r]++|\r(?!\n)|"(?!' + _CLOSED + rb'))*+"(?=' + _CLOSED + rb")"

# A quote that begins no string ends the reading: to look for its end again from the next quote would be quadratic.
_STRINGS = (_ESCAPING + rb"|" + UNENDED, _PLAIN + rb"|" + UNENDED)
_STRUCTURES = (_ESCAPING + rb"|[()]|" + UNENDED, _PLAIN + rb"|[()]|" + UNENDED)
# Compiled when first needed: most servers never make it so.
_compiled = cache(re.compile)
_SPECIAL = re.compile(rb'["\\]')

_WELL_QUOTED = re.compile(rb'(?:[^"]*+(?<=[ (])' + QUOTED + rb'(?=[ ()]|\Z))*[^"]*+')

MAX_REPAIRED_BYTES = 256 * 1024
"""Longer values are not guessed at: it takes memory for each quote."""

READINGS = (0, 1)
"""The ways of reading, in the order of trust: a backslash escapes; a backslash is a character."""


def is_well_quoted(text: bytes) -> bool:
    """Whether every quoted string of a list stands alone: if not, a quote in one of them was not escaped."""
    return _WELL_QUOTED.fullmatch(text) is not None


def loose_list_end(text: bytes, offset: int, reading: int) -> int:
    """The offset after the list at `offset`, its strings read in the given way.

    Raises:
        ProtocolError: The list or a string in it does not end, or there is too much of it.
    """
    if len(text) - offset > MAX_REPAIRED_BYTES:
        raise malformed("a quoted string is not escaped, in too much text to guess", text, offset)
    return list_end(text, offset, _compiled(_STRUCTURES[reading]))


def requote(text: bytes, reading: int) -> bytes:
    """The same values with every quoted string escaped as RFC 9051 §4.3 asks.

    Raises:
        ProtocolError: A string does not end, or there is too much text.
    """
    if len(text) > MAX_REPAIRED_BYTES:
        raise malformed("a quoted string is not escaped, in too much text to guess", text, 0)

    def write(match: re.Match[bytes]) -> bytes:
        if match.lastgroup is not None:
            raise malformed("a quoted string does not end", text, match.start())
        inner = unquote(match[0]) if reading == 0 else match[0][1:-1]
        return b'"' + _SPECIAL.sub(rb"\\\g<0>", inner) + b'"'

    return _compiled(_STRINGS[reading]).sub(write, text)
