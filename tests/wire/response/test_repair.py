"""Strings that are not escaped: where the guess ends them, and that guessing stays cheap."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imapipe.errors import ProtocolError
from imapipe.wire.response.body_structure import parse_body_structure
from imapipe.wire.response.envelope import parse_envelope
from imapipe.wire.response.fetch import scan_fetch
from imapipe.wire.response.repair import READINGS, is_well_quoted, loose_list_end, requote
from imapipe.wire.response.token import Cursor, ItemSpan


@pytest.mark.parametrize(
    ("text", "reading", "expected"),
    [
        (rb'("a" NIL "b")', 0, [b"a", None, b"b"]),
        (rb'("5" disk" NIL)', 0, [b'5" disk', None]),
        (rb'("say "hi"" "b")', 0, [b'say "hi"', b"b"]),
        (rb'("a \"b\" c" NIL)', 0, [b'a "b" c', None]),
        (rb'("C:\" NIL)', 1, [b"C:\\", None]),
        (rb'("a\b" "c" {1}' + b"\r\n)", 1, [b"a\\b", b"c", b"x"]),
        (rb'("" ("a" "b"))', 0, [b"", [b"a", b"b"]]),
    ],
)
def test_requote(text: bytes, reading: int, expected: object) -> None:
    assert Cursor(requote(text, reading), literals=(b"x",)).parse_value() == expected
    assert loose_list_end(text + b" UID 5)", 0, reading) == len(text)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("text", [b'("a', b'("a NIL)', b'("'])
def test_a_string_without_end(text: bytes, reading: int) -> None:
    with pytest.raises(ProtocolError):
        requote(text, reading)
    with pytest.raises(ProtocolError):
        loose_list_end(text, 0, reading)


def test_well_quoted() -> None:
    for good in (b'("a" "b")', b'(("a")("b") NIL "")', rb'("a\"b" {1}' + b'\r\n "c")', b"NIL", b'("a"("b"))'):
        assert is_well_quoted(good)
    for bad in (b'("a"b" c)', b'(a"b")', b'("a""b")', b'("a'):
        assert not is_well_quoted(bad)


@given(st.lists(st.text('ab \\"()', max_size=8), min_size=1, max_size=5))
def test_what_is_escaped_stays_as_it_is(values: list[str]) -> None:
    quoted = [value.replace("\\", "\\\\").replace('"', '\\"') for value in values]
    text = ("(" + " ".join(f'"{value}"' for value in quoted) + ")").encode()
    assert is_well_quoted(text)
    if not any(character in value for value in values for character in '\\"'):
        assert requote(text, 0) == text == requote(text, 1)


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "unit", [b'"', b'\\"', b'"(', b'("', b'") ', b'" (', b'" "', b'"a"b', b"(NIL ", b"{", b"\r", b")"]
)
@pytest.mark.parametrize("before", [b"(", b'(NIL "x" ((', b'("text" "plain" ("'])
def test_hostile_input_ends_soon(unit: bytes, before: bytes) -> None:
    # No clock: at quadratic cost each of these would take minutes, and the suite's timeout would say so.
    value = before + unit * (40_000 // len(unit)) + b")"
    span = ItemSpan(0, len(value), 0)
    for parse in (parse_envelope, parse_body_structure):
        with contextlib.suppress(ProtocolError):
            parse(value, (), span)
    with contextlib.suppress(ProtocolError):
        scan_fetch(b"* 1 FETCH (ENVELOPE " + value + b" UID 5")
