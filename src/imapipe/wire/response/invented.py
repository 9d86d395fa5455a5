r"""What servers answer in the place of a message that somebody else has expunged (RFC 9051 §5.5, RFC 2180 §4.1).

- Dovecot: NIL for bodies, RFC822.SIZE 0, an ENVELOPE of ten NILs, and in the end `OK [EXPUNGEISSUED]`.
- Courier: the text of a message of 129 bytes, with everything that follows from it (imap/fetch.c). It lists the message
  as before until it is asked with NOOP.

Both may be a message that is there, so this only says that one is to be looked for. It is known by its size: the shape
of an answer (`wire.response.shape`) leaves out these two, so that no other answer costs anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from imapipe.wire.response.literal import Literal

UNAVAILABLE_BYTES: Final = 129
# Any size but 0 and 129, as an expression; written so that a usual one costs what any number does.
COMMON_SIZE: Final = r"\d{4,18}|[2-9]\d\d|1(?:[013-9]\d|2[0-8])|[1-9]\d?"
# What is invented is small; more than this is a message, whatever its size is said to be.
_MOST_BYTES: Final = 4096
_UNAVAILABLE_SUBJECT: Final = b"message unavailable"
_UNAVAILABLE_TEXT: Final = b"This message is no longer available on the server."


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
    if said == b"0":
        return True
    if said != b"%d" % UNAVAILABLE_BYTES:
        return said is None and any(_is_unavailable(literal) for literal in literals)
    shown = (*literals, *items.values())
    texts = [text for text in shown if isinstance(text, bytes | bytearray) and len(text) > len(_UNAVAILABLE_SUBJECT)]
    other = [name for name in items if name.startswith(("BODY[", "BINARY[", "ENVELOPE"))]
    return not other or any(_UNAVAILABLE_SUBJECT in text or _UNAVAILABLE_TEXT in text for text in texts)


def _is_unavailable(literal: Literal) -> bool:
    return isinstance(literal, bytes | bytearray) and _UNAVAILABLE_TEXT in literal
