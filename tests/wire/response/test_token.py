"""Tokens: what each production takes, where it stops, and that errors show no content."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.wire.response.spooled import Spooled

from imapipe.errors import NestedTooDeeply, ProtocolError
from imapipe.wire.response.literal import literal_bytes
from imapipe.wire.response.token import MAX_DEPTH, Cursor, loose_number, redact, unquote, value_end


def test_literal_bytes_of_each_kind() -> None:
    assert literal_bytes(b"abc") == b"abc"
    assert literal_bytes(bytearray(b"abc")) == b"abc"
    assert literal_bytes(Spooled(b"abc")) == b"abc"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'"plain"', b"plain"),
        (b'""', b""),
        (rb'"a \"b\" \\ c"', rb'a "b" \ c'),
        (b'"8-bit \xff\xc3\xa9"', b"8-bit \xff\xc3\xa9"),
        (b'"( ) { } [ ] {5}"', b"( ) { } [ ] {5}"),
        (b'"bare \r and \n"', b"bare \r and \n"),
    ],
)
def test_quoted(text: bytes, value: bytes) -> None:
    cursor = Cursor(text + b" rest")
    assert cursor.quoted() == value
    assert cursor.pos == len(text)
    assert value_end(text + b" rest", 0) == len(text)


@pytest.mark.parametrize("text", [b'"open', b'"ends in a backslash\\', b'"a {3}\r\n"', b"atom", b""])
def test_what_is_not_quoted(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        Cursor(text).quoted()


def test_literals_are_taken_in_order_and_left_as_they_are() -> None:
    spooled = Spooled(b"second")
    cursor = Cursor(b"{5}\r\n {6+}\r\n ~{3}\r\n", 0, (b"first", spooled, b"\0\1\2"))
    assert cursor.literal() == b"first"
    cursor.spaces()
    assert cursor.literal() is spooled
    assert spooled.reads == 0
    cursor.spaces()
    assert cursor.literal() == b"\0\1\2"
    assert cursor.at_end()


def test_a_marker_without_its_literal_is_an_error() -> None:
    with pytest.raises(ProtocolError, match="literal"):
        Cursor(b"{5}\r\n").literal()
    with pytest.raises(ProtocolError, match="literal"):
        Cursor(b"({5}\r\n)").parse_value()


def test_nstring_and_astring() -> None:
    assert Cursor(b"NIL").nstring() is None
    assert Cursor(b"nil)").nstring() is None
    assert Cursor(b'"NIL"').nstring() == b"NIL"
    assert Cursor(b"{1}\r\n", literals=(b"x",)).nstring() == b"x"
    assert Cursor(b"INBOX rest").astring() == b"INBOX"
    assert Cursor(b"{1}\r\n", literals=(b"x",)).astring() == b"x"
    with pytest.raises(ProtocolError):
        Cursor(b"word").nstring()
    with pytest.raises(ProtocolError):
        Cursor(b"").astring()


def test_lists_of_atoms() -> None:
    assert Cursor(rb"(\Seen $Junk)").atoms() == [rb"\Seen", b"$Junk"]
    assert Cursor(b'( "a b"  {1}\r\n )', literals=(b"x",)).atoms() == [b"a b", b"x"]
    assert Cursor(b"()").atoms() == []
    assert Cursor(b"(  a\x85b $c%* {2 )").atoms() == [b"a\x85b", b"$c%*", b"{2"]
    assert Cursor(b"( a  b )").atoms() == [b"a", b"b"]
    assert Cursor(b"NIL").atoms() == []
    for broken in (b"(a", b"a", b"", b"(a (b))"):
        with pytest.raises(ProtocolError):
            Cursor(broken).atoms()


def test_parse_value_of_a_tree() -> None:
    cursor = Cursor(b'(a "b (" {1}\r\n NIL (c () ("d")) -1) next', literals=(b")",))
    assert cursor.parse_value() == [b"a", b"b (", b")", None, [b"c", [], [b"d"]], b"-1"]
    assert cursor.literal_index == 1
    assert cursor.text[cursor.pos :] == b" next"


def test_skip_value_stops_where_parse_value_does() -> None:
    text = b'(a "b (" {1}\r\n NIL (c () ("d")) -1) next'
    skipping, parsing = (Cursor(text, literals=(b")",)) for _ in range(2))
    skipping.skip_value()
    parsing.parse_value()
    assert (skipping.pos, skipping.literal_index) == (parsing.pos, parsing.literal_index)


@pytest.mark.parametrize("depth", [1, 6, 7, MAX_DEPTH])
def test_nesting_up_to_the_limit(depth: int) -> None:
    text = b"(" * depth + b'"(("' + b")" * depth
    assert value_end(text, 0) == len(text)
    Cursor(text).parse_value()


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100_000])
def test_nesting_beyond_the_limit(depth: int) -> None:
    text = b"(" * depth + b")" * depth
    assert value_end(text + b" x", 0) == len(text)
    with pytest.raises(NestedTooDeeply, match="nested too deeply") as caught:
        Cursor(text).parse_value()
    assert "server broke" not in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.limit, str(again)) == (MAX_DEPTH, str(caught.value))


def test_a_very_long_list_is_counted_token_by_token() -> None:
    text = b"(" + b'("a)" NIL) ' * 20_000 + b")"
    assert value_end(text, 0) == len(text)
    with pytest.raises(ProtocolError, match="string does not end"):
        value_end(text[:-1] + b'"', 0)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"0", 0),
        (b"4286", 4286),
        (b"9.3736e+06", 9_373_600),
        (b"-1", 0),
        (b"+5", 5),
        (b"12.0", 12),
        (b"99999999999999999999", 2**64 - 1),
        (b"1e999", 2**64 - 1),
        (b"18446744073709551615", 18446744073709551615),
        (b"1278455344230334865", 1278455344230334865),
        (b"", None),
        (b"NIL", None),
        (b"1_0", None),
        (b"nan", None),
        (b"1e-5", None),
    ],
)
def test_numbers_as_servers_send_them(text: bytes, number: int | None) -> None:
    assert loose_number(text) == number


def test_number_of_the_grammar() -> None:
    cursor = Cursor(b"123)")
    assert cursor.number() == 123
    for broken in (b"", b"x", b"1" * 21):
        with pytest.raises(ProtocolError):
            Cursor(broken).number()


def test_errors_show_structure_and_no_content() -> None:
    text = b'* 1 FETCH (ENVELOPE ("Secret Subject 42" NIL bob@example.org'
    with pytest.raises(ProtocolError) as caught:
        value_end(text, text.index(b'("'))
    error = caught.value
    shown = str(error) + error.excerpt
    for word in ("Secret", "Subject", "42", "bob", "example"):
        assert word not in shown
    assert "ENVELOPE" in error.excerpt
    assert error.offset == text.index(b'("')


@given(st.binary(max_size=80), st.integers(0, 80))
@example(b"RFC822\0", 0)
def test_redaction_lets_no_letter_or_digit_through(text: bytes, offset: int) -> None:
    shown = redact(text, offset)
    assert len(shown) <= 48
    # The one word of the protocol with digits in it; what stands beside it may be hidden, and then it is an x.
    assert not any(letter.isdigit() for letter in shown.replace("RFC822", ""))


@given(st.binary())
def test_unquote_undoes_quoting(data: bytes) -> None:
    quoted = b'"' + data.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    assert unquote(quoted) == data


_VALUES = st.recursive(
    st.none() | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=20,
)


def _write(value: object, literals: list[bytes]) -> bytes:
    """The wire form of a tree: strings as literals where quoting cannot carry them."""
    if value is None:
        return b"NIL"
    if isinstance(value, list):
        return b"(" + b" ".join(_write(item, literals) for item in value) + b")"
    assert isinstance(value, bytes)
    if len(value) % 2 and b"\r" not in value:
        return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    literals.append(value)
    return b"{%d}\r\n" % len(value)


@given(_VALUES)
def test_every_tree_comes_back(tree: object) -> None:
    literals: list[bytes] = []
    text = _write(tree, literals)
    cursor = Cursor(text, literals=literals)
    assert cursor.parse_value() == tree
    assert cursor.pos == len(text) == value_end(text, 0)
    assert cursor.literal_index == len(literals)


@given(st.text(alphabet='()"\\ {}[]<>\r\n05aN~*', max_size=40).map(str.encode), st.integers(0, 2))
def test_nothing_but_protocol_error_comes_out(text: bytes, count: int) -> None:
    literals = (b"x",) * count
    for method in ("parse_value", "skip_value", "atoms", "nstring", "astring", "string", "number", "atom"):
        cursor = Cursor(text, literals=literals)
        try:
            getattr(cursor, method)()
        except ProtocolError as error:
            assert 0 <= error.offset <= len(text)  # noqa: PT017
        assert cursor.pos <= len(text)
