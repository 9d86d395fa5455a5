"""Literals that are gone on with: what is compared, where it goes, and when it is wrong."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imapipe.net.spool import SpoolFile
from imapipe.net.unfinished import OVERLAP_BYTES, Part
from imapipe.wire.response.literal import literal_bytes

DATA = random.Random(1).randbytes(3000)


def begun(received: int, folder: Path | None) -> Part:
    """A literal of which the beginning came, in memory or in a file."""
    if folder is None:
        place = bytearray(len(DATA))
        place[:received] = DATA[:received]
        return Part(place, received, len(DATA))
    file = SpoolFile(len(DATA), str(folder))
    file.write(memoryview(DATA)[:received])
    return Part(file, received, len(DATA))


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize("received", [0, 1, OVERLAP_BYTES, OVERLAP_BYTES + 1, 2000, 3000])
@pytest.mark.parametrize("chunk", [1, 50, 64, 65, 10_000])
def test_the_rest_goes_behind_the_beginning(tmp_path: Path, received: int, chunk: int, in_file: bool) -> None:
    part = begun(received, tmp_path if in_file else None)
    assert (part.is_spooled, part.offset) == (in_file, max(0, received - OVERLAP_BYTES))
    part.go_on("BODY[]<1>")
    rest = memoryview(DATA)[part.offset :]
    assert len(rest) == part.wanted
    for at in range(0, len(rest), chunk):
        part.write(rest[at : at + chunk])
    assert (part.is_wrong, part.is_whole) == (False, True)
    assert literal_bytes(part.finish()) == DATA
    part.discard()


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize("at", [0, 30, OVERLAP_BYTES - 1])
def test_another_byte_where_it_had_been_is_noticed(tmp_path: Path, at: int, in_file: bool) -> None:
    part = begun(2000, tmp_path if in_file else None)
    part.go_on("BODY[]<1>")
    other = bytearray(DATA[part.offset :])
    other[at] ^= 1
    part.write(memoryview(other)[:20])
    part.write(memoryview(other)[20:])
    assert part.is_wrong
    # Nothing behind it is believed.
    assert part.received == 2000
    part.discard()


@settings(max_examples=25)
@given(window=st.integers(OVERLAP_BYTES, 1500), seed=st.integers(0, 2**32), in_file=st.booleans())
def test_windows_in_any_order_and_any_pieces(window: int, seed: int, in_file: bool) -> None:
    """Each is asked for again and again, from wherever it was cut."""
    dice, size = random.Random(seed), len(DATA)
    place = SpoolFile(size, None) if in_file else bytearray(size)
    parts = [Part(place, 0, min(window, size - start), start) for start in range(0, size, window)]
    left = list(parts)
    while left:
        part = left.pop(dice.randrange(len(left)))
        part.go_on("BODY[]<1>")
        rest = memoryview(DATA)[part.offset : part.offset + part.wanted]
        part.write(rest[: dice.randint(0, len(rest))])
        assert not part.is_wrong
        if not part.is_whole:
            left.append(part)
    assert all(part.follows for part in parts)
    assert literal_bytes(parts[0].finish()) == DATA
    parts[0].discard()


def test_a_window_that_belongs_elsewhere_does_not_follow() -> None:
    place = bytearray(2000)
    first, second = Part(place, 0, 1000, 0), Part(place, 0, 1000, 1000)
    for part, shift in ((first, 0), (second, 10)):
        part.go_on("BODY[]<1>")
        part.write(memoryview(DATA)[part.offset + shift : part.offset + shift + part.wanted])
    assert first.follows
    assert not second.follows
