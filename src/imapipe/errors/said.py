"""What others say, in the text of an exception: short, and nothing of it acts on a terminal."""

from __future__ import annotations

import re
from typing import Final

# Control characters, and those that turn the direction of text.
_ACTING: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

MAX_TEXT = 1000


def written_out(text: str) -> str:
    """A text in which what would act is written as `\\x1b` and the like."""
    return _ACTING.sub(_escaped, text)


def cut(text: str) -> str:
    """A text of no more than `MAX_TEXT` characters."""
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _escaped(character: re.Match[str]) -> str:
    return character[0].encode("unicode_escape").decode()
