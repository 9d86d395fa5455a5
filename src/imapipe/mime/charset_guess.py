"""A guess of the charset of text that names none: by a detector, where one is installed (extra `imapipe[charset]`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Final, cast

from imapipe.wire.charset import find_codec

# More says no more, and takes its time.
_SAMPLE_BYTES: Final = 32 * 1024
_LEAST_CONFIDENCE: Final = 0.5


def guess_codec(data: bytes) -> str:
    """The codec that a detector takes the text to be in; "" without one, or where it is not sure."""
    detect = _detector()
    return detect(data[:_SAMPLE_BYTES]) if detect is not None else ""


@cache
def _detector() -> Callable[[bytes], str] | None:
    """The detector that is installed; it is looked for once, when it is first needed."""
    for name in ("cchardet", "chardet"):
        try:
            module = import_module(name)
        except ImportError:
            continue
        found: Callable[[bytes], dict[str, object]] = module.detect

        def detect(data: bytes, found: Callable[[bytes], dict[str, object]] = found) -> str:
            guess = found(data)
            sure = cast(float, guess.get("confidence") or 0.0) >= _LEAST_CONFIDENCE
            return find_codec(str(guess.get("encoding") or "").encode("ascii", "replace")) if sure else ""

        return detect
    return None
