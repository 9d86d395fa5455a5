"""How much of what a server sends is kept at a time: the limits of a connection, by what it is doing.

Invariants:

- Before login nobody has a reason to send much: all of them are small.
- After it lists of messages are taken in pieces, and no other line of ours is long; a user's own commands, which
  aioimaplib collects whole, may bring lines as long as `limits=` allows, but for IDLE, which only tells news.
- There is one limit for all that a connection keeps (`kept_bytes`), and `net.holdings` is the account. The others end a
  response sooner, where it is not worth waiting for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from imapipe.net.command import Command, Owner
from imapipe.wire.response.limits import Limits

_BEFORE_LOGIN_BYTES = 64 * 1024

# The longest line that is no list of messages: an ENVELOPE with thousands of addresses, a deep BODYSTRUCTURE.
_LINE_BYTES = 4 * 1024 * 1024


def bounds_now(limits: Limits, owner: Owner, flight: Iterable[Command]) -> Limits:
    """The limits for what comes next.

    Args:
        limits: The largest ones there may be.
        owner: Knows whether this is before login.
        flight: The commands in flight.
    """
    if not owner.logged_in:
        return _before_login(limits)
    if any(command.is_collected and not command.is_endless for command in flight):
        return _collected(limits)
    return _after_login(limits)


# Asked for twice for each command, and seldom with anything new.
@lru_cache(maxsize=64)
def _before_login(limits: Limits) -> Limits:
    small = _BEFORE_LOGIN_BYTES
    return Limits(
        line_bytes=min(limits.line_bytes, small),
        piece_bytes=small,
        literal_bytes=min(limits.literal_bytes, small),
        kept_bytes=min(limits.kept_bytes, small),
        literals=min(limits.literals, 16),
    )


@lru_cache(maxsize=64)
def _collected(limits: Limits) -> Limits:
    return replace(limits, piece_bytes=sys.maxsize, kept_bytes=max(limits.kept_bytes, limits.line_bytes))


@lru_cache(maxsize=64)
def _after_login(limits: Limits) -> Limits:
    return replace(limits, line_bytes=min(limits.line_bytes, _LINE_BYTES))
