"""FETCH responses: every item is found where it stands, whatever the content looks like."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.response.calls import calls

from imapipe.errors import ProtocolError
from imapipe.wire.response import fetch
from imapipe.wire.response.fetch import scan_fetch
from imapipe.wire.response.item_value import (
    parse_body,
    parse_email_id,
    parse_flags,
    parse_gmail_labels,
    parse_internal_date,
    parse_modseq,
    parse_number,
    parse_preview,
    parse_savedate,
    parse_size,
)
from imapipe.wire.response.literal import Literal

ENVELOPE = (
    b'("Wed, 17 Jul 1996 02:44:25 -0700" "smile :)" (("Terry (T)" NIL "gray" "example.org")) NIL NIL'
    b' ((NIL NIL "imap" "example.org")) NIL NIL NIL "<a@b>")'
)


def values(text: bytes, literals: Sequence[Literal] = ()) -> dict[str, bytes]:
    """The raw text of each item."""
    return {name: text[span.start : span.end] for name, span in scan_fetch(text, literals).items.items()}


def attempt(text: bytes, literals: Sequence[Literal]) -> None:
    """Scan what may be malformed."""
    with contextlib.suppress(ProtocolError):
        scan_fetch(text, literals)


def test_a_response_with_everything() -> None:
    text = (
        b'* 12 FETCH (UID 4827 FLAGS (\\Seen $Junk) INTERNALDATE "17-Jul-1996 02:44:25 -0700" RFC822.SIZE 44827'
        b" ENVELOPE "
        + ENVELOPE
        + b' BODY[HEADER.FIELDS (DATE FROM)] {3}\r\n BODY[]<0> "ab" MODSEQ (12111230047) EMAILID (M6d9))'
    )
    scan = scan_fetch(text, (b"x\r\n",))
    assert (scan.seq, scan.uid) == (12, 4827)
    assert list(scan.items) == [
        "UID",
        "FLAGS",
        "INTERNALDATE",
        "RFC822.SIZE",
        "ENVELOPE",
        "BODY[HEADER.FIELDS (DATE FROM)]",
        "BODY[]<0>",
        "MODSEQ",
        "EMAILID",
    ]
    items = scan.items
    assert parse_flags(text, items["FLAGS"]) == {"\\Seen", "$Junk"}
    assert parse_internal_date(text, items["INTERNALDATE"]) == datetime(1996, 7, 17, 9, 44, 25, tzinfo=UTC)
    assert parse_size(text, items["RFC822.SIZE"]) == 44827
    assert text[items["ENVELOPE"].start : items["ENVELOPE"].end] == ENVELOPE
    assert parse_body(text, (b"x\r\n",), items["BODY[HEADER.FIELDS (DATE FROM)]"]) == b"x\r\n"
    assert parse_body(text, (b"x\r\n",), items["BODY[]<0>"]) == b"ab"
    assert parse_modseq(text, items["MODSEQ"]) == 12111230047
    assert parse_email_id(text, items["EMAILID"]) == "M6d9"
    assert items["BODY[HEADER.FIELDS (DATE FROM)]"].literal_index == 0
    assert items["MODSEQ"].literal_index == 1


def test_uid_after_the_literal_and_items_in_any_order() -> None:
    text = b"* 1 FETCH (BODY[TEXT] {4}\r\n BODY[HEADER] {6}\r\n FLAGS () UID 7)"
    literals = (b"text", b"header")
    scan = scan_fetch(text, literals)
    assert scan.uid == 7
    assert parse_body(text, literals, scan.items["BODY[TEXT]"]) == b"text"
    assert parse_body(text, literals, scan.items["BODY[HEADER]"]) == b"header"


def test_uidfetch_carries_the_uid_in_front() -> None:
    scan = scan_fetch(b"* 25900 UIDFETCH (FLAGS (\\Seen))")
    assert (scan.seq, scan.uid) == (0, 25900)


def test_without_uid_it_is_unsolicited() -> None:
    assert scan_fetch(b"* 3 FETCH (FLAGS (\\Deleted))").uid is None


@pytest.mark.parametrize(
    ("text", "seq", "uid"),
    [
        (b"* 0 FETCH (UID 5)", 0, 5),
        (b"\0\0* 2 FETCH (UID 5)", 2, 5),
        (b"2 FETCH (UID 5)", 2, 5),
        (b"* 2 Fetch (uid 5)", 2, 5),
        (b"* 2 FETCH (UID 5 )", 2, 5),
        (b"* 2 FETCH ( UID  5) ", 2, 5),
        (b"* 2 FETCH(UID 5)", 2, 5),
        (b"* 2 FETCH ()", 2, None),
        (b"* 2 FETCH (UID 0)", 2, None),
        (b"* 2 FETCH (UID 4294967296)", 2, None),
        (b"* 2 FETCH (UID NIL)", 2, None),
        (b"* 4294967296 UIDFETCH ()", 0, None),
    ],
)
def test_heads_that_must_be_survived(text: bytes, seq: int, uid: int | None) -> None:
    scan = scan_fetch(text)
    assert (scan.seq, scan.uid) == (seq, uid)


def test_it_may_begin_later_in_the_text() -> None:
    assert scan_fetch(b"garbage* 2 FETCH (UID 5)", start=7).uid == 5


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"body[]", "BODY[]"),
        (b"BODY.PEEK[]", "BODY[]"),
        (b"BODY[]<0>", "BODY[]<0>"),
        (b"BODY[]<0.100>", "BODY[]<0>"),
        (b"BODY[1.2.MIME]", "BODY[1.2.MIME]"),
        (b"BINARY[1]", "BINARY[1]"),
        (b"BODY[HEADER.FIELDS (Date From)]", "BODY[HEADER.FIELDS (DATE FROM)]"),
        (b'BODY[HEADER.FIELDS ("Date" "From")]', "BODY[HEADER.FIELDS (DATE FROM)]"),
        (b'BODY[HEADER.FIELDS.NOT ("X-)]" X-B)]<5>', "BODY[HEADER.FIELDS.NOT (X-)] X-B)]<5>"),
        (b"rfc822.header", "RFC822.HEADER"),
    ],
)
def test_canonical_names(raw: bytes, name: str) -> None:
    text = b"* 1 FETCH (UID 9 " + raw + b" {1}\r\n)"
    scan = scan_fetch(text, (b"x",))
    assert list(scan.items) == ["UID", name]
    assert parse_body(text, (b"x",), scan.items[name]) == b"x"


def test_a_field_name_may_be_a_literal() -> None:
    text = b"* 1 FETCH (BODY[TEXT] {1}\r\n BODY[HEADER.FIELDS ({4}\r\n {4}\r\n)] {5}\r\n UID 3)"
    literals = (b"t", b"Date", b"From", b"value")
    scan = scan_fetch(text, literals)
    assert scan.uid == 3
    assert parse_body(text, literals, scan.items["BODY[HEADER.FIELDS (DATE FROM)]"]) == b"value"
    with pytest.raises(ProtocolError, match="literal"):
        scan_fetch(text, literals[:2])


def test_the_name_table_is_bounded() -> None:
    for number in range(3000):
        scan_fetch(b"* 1 FETCH (BODY[%d] NIL)" % number)
    assert len(fetch._NAMES) <= fetch._MAX_NAMES


def test_long_names_are_in_no_table() -> None:
    name = b"BODY[HEADER.FIELDS (%b)]" % b" ".join(b"F%d" % number for number in range(3000))
    assert list(scan_fetch(b"* 1 FETCH (" + name + b' "")').items) == [name.decode()]
    assert name not in fetch._NAMES


@pytest.mark.parametrize("text", [b"* 1 FETCH (UID 2 BODY[])", b"* 1 FETCH (UID 2 BODY[] )"])
def test_body_value_missing_before_the_parenthesis_yandex(text: bytes) -> None:
    scan = scan_fetch(text)
    span = scan.items["BODY[]"]
    assert span.start == span.end
    assert parse_body(text, (), span) is None
    assert scan.uid == 2


def test_body_value_missing_before_the_next_item() -> None:
    text = b"* 1 FETCH (BODY[] UID 2 FLAGS ())"
    scan = scan_fetch(text)
    assert scan.uid == 2
    assert parse_body(text, (), scan.items["BODY[]"]) is None
    assert parse_flags(text, scan.items["FLAGS"]) == frozenset()


def test_the_rest_of_a_body_behind_a_short_literal_is_no_item() -> None:
    """A length counted short must cost the message, not its end (byte 50 of 100 looks like the name of an item)."""
    with pytest.raises(ProtocolError):
        scan_fetch(b"* 1 FETCH (UID 1 BODY[] {3}\r\nxxx)", (b"abc",))


def test_other_values_missing_read_as_nil() -> None:
    text = b"* 1 FETCH (UID 2 RFC822.SIZE)"
    span = scan_fetch(text).items["RFC822.SIZE"]
    assert (parse_size(text, span), parse_modseq(text, span), parse_email_id(text, span)) == (0, 0, None)
    assert parse_internal_date(text, span) is None
    assert parse_flags(text, span) == frozenset()


def test_the_last_of_a_repeated_item_counts() -> None:
    text = b"* 1 FETCH (FLAGS (\\Seen) UID 2 FLAGS (\\Seen \\Deleted))"
    assert parse_flags(text, scan_fetch(text).items["FLAGS"]) == {"\\Seen", "\\Deleted"}


# ---------------------------------------------------------------- defects of other receive paths


def test_a_star_inside_a_subject_stays() -> None:
    text = b'* 1 FETCH (UID 2 ENVELOPE (NIL "5 * 3 = 15" NIL NIL NIL NIL NIL NIL NIL NIL))'
    assert b"5 * 3 = 15" in values(text)["ENVELOPE"]


def test_parentheses_in_strings_do_not_count() -> None:
    text = b'* 1 FETCH (ENVELOPE (NIL "smile :)" NIL NIL NIL NIL NIL NIL NIL "((") UID 2 FLAGS ())'
    found = values(text)
    assert list(found) == ["ENVELOPE", "UID", "FLAGS"]
    assert found["ENVELOPE"].endswith(b'"((")')


def test_content_that_looks_like_items_forges_nothing() -> None:
    body = b") UID 1 FLAGS (\\Deleted)\r\n* 1 FETCH (UID 1 FLAGS ())\r\nA1 OK done {5}\r\n"
    text = b'* 1 FETCH (BODY[] {%d}\r\n UID 2 ENVELOPE (NIL ") UID 3 FLAGS (" NIL NIL NIL NIL NIL NIL NIL NIL))' % len(
        body
    )
    scan = scan_fetch(text, (body,))
    assert (scan.uid, list(scan.items)) == (2, ["BODY[]", "UID", "ENVELOPE"])
    assert parse_body(text, (body,), scan.items["BODY[]"]) is body


def test_a_marker_in_a_string_is_no_literal() -> None:
    text = b'* 1 FETCH (BODY[TEXT] "x {5}" BODY[] {1}\r\n UID 2)'
    scan = scan_fetch(text, (b"b",))
    assert parse_body(text, (b"b",), scan.items["BODY[TEXT]"]) == b"x {5}"
    assert parse_body(text, (b"b",), scan.items["BODY[]"]) == b"b"


def test_a_bare_line_feed_hides_no_literal() -> None:
    text = b'* 1 FETCH (FLAGS ()\n ENVELOPE (NIL "a\nb" NIL NIL NIL NIL NIL NIL NIL NIL)\nBODY[]\n{1}\r\n\n UID 2\n)'
    scan = scan_fetch(text, (b"b",))
    assert (scan.uid, list(scan.items)) == (2, ["FLAGS", "ENVELOPE", "BODY[]", "UID"])
    assert parse_body(text, (b"b",), scan.items["BODY[]"]) == b"b"


def test_eight_bit_and_control_characters_in_strings() -> None:
    text = b'* 1 FETCH (UID 2 BODY[TEXT] "caf\xc3\xa9 \xff \n \r \x01")'
    assert parse_body(text, (), scan_fetch(text).items["BODY[TEXT]"]) == b"caf\xc3\xa9 \xff \n \r \x01"


# ---------------------------------------------------------------- strings that are not escaped


@pytest.mark.parametrize(
    "subject",
    [
        rb'"5" disk"',
        rb'"say "hello" twice"',
        rb'""quoted""',
        rb'"odd " one ( here"',
        rb'"path C:\"',
        rb'"tab \t (1\2) \"',
        rb'"a "(b" c"',
    ],
)
def test_unescaped_quotes_and_backslashes(subject: bytes) -> None:
    envelope = (
        b'("Wed, 17 Jul 1996 02:44:25 -0700" ' + subject + b' (("A" NIL "a" "b.c")) NIL NIL NIL NIL NIL NIL "<a@b>")'
    )
    text = b"* 1 FETCH (FLAGS () ENVELOPE " + envelope + b" UID 2 RFC822.SIZE 3)"
    found = values(text)
    assert found == {"FLAGS": b"()", "ENVELOPE": envelope, "UID": b"2", "RFC822.SIZE": b"3"}


def test_what_cannot_be_repaired_is_an_error() -> None:
    with pytest.raises(ProtocolError) as caught:
        scan_fetch(b'* 1 FETCH (UID 2 ENVELOPE (NIL "never ends NIL NIL)')
    assert "never" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"* 1 EXISTS",
        b"* FETCH (UID 1)",
        b"* 1 FETCH",
        b"* 1 FETCH (",
        b"* 1 FETCH (UID 1",
        b"* 1 FETCH (UID 1))",
        b"* 1 FETCH (UID 1) x",
        b"* 1 FETCH (FLAGS (\\Seen)",
        b"* 1 FETCH (UID (1)",
        b'* 1 FETCH ("UID" 1)',
        b"* 1 FETCH (BODY[ {1}\r\n)",
        b"* 123456789012345678901 FETCH (UID 1)",
    ],
)
def test_what_is_no_fetch_response(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        scan_fetch(text, (b"x",))


# ---------------------------------------------------------------- any input, at linear cost


def test_deep_and_long_values_give_the_same_answer() -> None:
    deep = b"(" * 50 + b'")"' + b")" * 50
    assert values(b"* 1 FETCH (UID 1 BODYSTRUCTURE " + deep + b" FLAGS ())")["BODYSTRUCTURE"] == deep
    long = b"(" + b'("a)" NIL)' * 10_000 + b")"
    assert values(b"* 1 FETCH (UID 1 ENVELOPE " + long + b" FLAGS ())")["ENVELOPE"] == long
    deepest = b"(" * 100_000 + b")" * 100_000
    assert values(b"* 1 FETCH (BODYSTRUCTURE " + deepest + b" UID 1)") == {"BODYSTRUCTURE": deepest, "UID": b"1"}


@pytest.mark.parametrize(
    "unit",
    [
        b'"',
        b'("',
        b'\\"',
        b'") ',
        b"(",
        b"{1}\r\n",
        b"{",
        b'"a" ',
        b"x ",
        b'"(',
        b"BODY[",
        b"BODY[HEADER.FIELDS (",
        b"\r",
    ],
)
def test_hostile_input_costs_in_proportion_to_its_length(unit: bytes) -> None:
    def cost(count: int) -> int:
        text = b"* 1 FETCH (UID 1 ENVELOPE (" + unit * count
        literals = (b"x",) * count
        return sum(calls(partial(attempt, text + end, literals)) for end in (b"", b"))", b'"))'))

    small, large = cost(2_000), cost(16_000)
    assert large <= 8 * small + 2_000


_PIECES = st.sampled_from(
    rb'UID |7 |FLAGS |ENVELOPE |BODY[] |BODY[HEADER.FIELDS (A)] |NIL |(|)|"|"a" |\|~| |x|[|]|<0>|9.3e+06 '.split(b"|")
) | st.sampled_from([b"{1}\r\n", b"\xff", b"\r", b"\0"])


@given(st.lists(_PIECES, max_size=30), st.integers(0, 5))
def test_nothing_but_protocol_error_comes_out(pieces: list[bytes], count: int) -> None:
    text = b"* 1 FETCH (" + b"".join(pieces) + b")"
    literals = (b"x",) * count
    try:
        scan = scan_fetch(text, literals)
    except ProtocolError:
        return
    for span in scan.items.values():
        assert 0 <= span.start <= span.end <= len(text)
        assert span.literal_index == (text.count(b"}\r\n", 0, span.start) if literals else 0)
        for parse in (parse_flags, parse_number, parse_modseq, parse_internal_date, parse_email_id, parse_savedate):
            try:
                parse(text, span)
            except ProtocolError:
                continue
        for parse_string in (parse_body, parse_preview, parse_gmail_labels):
            try:
                parse_string(text, literals, span)
            except ProtocolError:
                continue


@given(
    st.lists(
        st.tuples(st.sampled_from(["UID", "FLAGS", "BODY[]", "ENVELOPE", "X"]), st.binary(max_size=12)), max_size=6
    )
)
def test_every_written_item_is_found(items: list[tuple[str, bytes]]) -> None:
    literals: list[bytes] = []
    pieces: list[bytes] = []
    expected: dict[str, bytes] = {}
    for number, (name, value) in enumerate(items):
        if number % 2 or b"\r" in value:
            pieces.append(b"%s {%d}\r\n" % (name.encode(), len(value)))
            literals.append(value)
        else:
            escaped = value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
            pieces.append(b'%s "%s"' % (name.encode(), escaped))
        expected[name] = value
    text = b"* 1 FETCH (" + b" ".join(pieces) + b")"
    scan = scan_fetch(text, literals)
    assert {name: parse_body(text, literals, span) for name, span in scan.items.items()} == expected
