"""Reading number lists and `sequence-set` (RFC 9051 §9) in bounded memory.

Invariant: beside its result nothing here takes memory in proportion to the length of the text. A SEARCH of a large
mailbox answers with one line of megabytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final

MAX_UID: Final = 2**32 - 1

_WINDOW_BYTES: Final = 65_536
"""Text is taken apart in pieces of this size, so that no list of a million small objects ever exists."""

_SET_WINDOW_BYTES: Final = 8_192
"""Shorter for sets, where each range is several small objects for a moment."""

_EXCERPT_BYTES: Final = 24


def parse_numbers(data: bytes | bytearray | memoryview) -> array[int]:
    """Read the numbers of a SEARCH response (RFC 9051 §7.3.4, `nz-number *(SP nz-number)`) in their order.

    Superfluous spaces are accepted: several servers end the line with one. Beside the result (4 bytes a
    number) the memory used does not grow with the length of the line.

    Args:
        data: The numbers only: without `* SEARCH` and without a `(MODSEQ …)` at the end.

    Raises:
        ValueError: Something that is not a number, or a number outside 1 … 2**32 - 1.
    """
    numbers = array("I")
    for window in _windows(data, b" "):
        # int() would also take "+1" and "1_000".
        if window.translate(None, b"0123456789 "):
            raise ValueError(f"not a list of numbers: {_excerpt(window)}")
        try:
            numbers.extend(map(int, window.split()))
        except (OverflowError, ValueError):
            raise ValueError(f"a number above {MAX_UID} is not a UID") from None
    require_positive(numbers)
    return numbers


def parse_sequence_set(data: bytes | bytearray | memoryview, star: int | None) -> tuple[array[int], array[int]]:
    """Read the ranges of a `sequence-set`: their first and their last numbers, in the order of the text.

    Raises:
        ValueError: Something that is not a range, or a number above 2**32 - 1.
    """
    starts, ends = array("I"), array("I")
    for window in _windows(data, b",", _SET_WINDOW_BYTES):
        # int() would also take "+1", " 1" and "1_000".
        marks = window.translate(None, b"0123456789")
        if marks.translate(None, b":,*"):
            raise ValueError(f"not a set of UIDs: {_excerpt(window)}")
        try:
            if b"*" in marks or b"::" in marks:
                bounds = [_range(piece, star) for piece in window.split(b",")]
                starts.extend([first for first, _ in bounds])
                ends.extend([last for _, last in bounds])
                continue
            # The last number of a range is made a negative one, so that the whole window is one list of numbers.
            for number in _numbers(window.replace(b":", b",-")):
                if number < 0:
                    ends[-1] = -number
                else:
                    starts.append(number)
                    ends.append(number)
        except OverflowError:
            raise ValueError(f"a UID is a number from 1 to {MAX_UID}") from None
    return starts, ends


def _numbers(text: bytes) -> list[int]:
    """Read numbers with commas between them."""
    try:
        return [*map(int, text.split(b","))]
    except ValueError:
        pieces = [piece.removeprefix(b"-") for piece in text.split(b",")]
        wrong = next((piece for piece in pieces if not piece.isdigit()), max(pieces, key=len))
        raise ValueError(f"not a UID: {_excerpt(wrong)}") from None


def _range(text: bytes, star: int | None) -> tuple[int, int]:
    """Read one range end by end: `*` may be in it, or it may be wrong."""
    bounds = [_star(star) if bound == b"*" else _numbers(bound)[0] for bound in text.split(b":", 1)]
    return bounds[0], bounds[-1]


def _star(star: int | None) -> int:
    if star is None:
        raise ValueError("'*' in a set of UIDs has no meaning without the highest UID of the mailbox (star=)")
    return star


def _windows(
    data: bytes | bytearray | memoryview, separator: bytes, window_bytes: int = _WINDOW_BYTES
) -> Iterator[bytes]:
    """Cut a long text at separators into pieces of about `window_bytes`; the separators at the cuts are dropped."""
    position = 0
    size = len(data)
    while size - position > window_bytes:
        window = bytes(data[position : position + window_bytes])
        cut = window.rfind(separator)
        if cut < 0:
            raise ValueError(f"a UID is not a number of {window_bytes} digits: {_excerpt(window)}")
        yield window[:cut]
        position += cut + 1
    yield bytes(data[position:])


def require_positive(numbers: array[int]) -> None:
    """Refuse 0, the one value that fits into the array and is not a UID."""
    if 0 in numbers:
        raise ValueError(f"0 is not a UID; a UID is a number from 1 to {MAX_UID}")


def _excerpt(data: bytes) -> str:
    """Show the beginning of a text in an error message."""
    return repr(data[:_EXCERPT_BYTES].decode("ascii", "replace")) + ("…" if len(data) > _EXCERPT_BYTES else "")
