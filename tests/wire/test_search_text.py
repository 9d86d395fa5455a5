"""Searches as people write them: what is understood, what is not, and what is said about it."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imapipe import search as q
from imapipe.errors import InvalidSearch
from imapipe.search import SearchKey, parse
from imapipe.wire.search_term import TERMS, Kind, make_term


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ALL", q.ALL),
        ("  unseen  ", q.UNSEEN),
        ("SINCE 1-Jan-2024 UNSEEN", q.since(date(2024, 1, 1)) & q.UNSEEN),
        ("since 2024-01-01 before 31-dec-2024", q.since(date(2024, 1, 1)) & q.before(date(2024, 12, 31))),
        ('SENTON "01-Feb-2024"', q.sent_on(date(2024, 2, 1))),
        ("SINCE 30d", q.since(days=30)),
        ('OR FROM ann SUBJECT "a b"', q.from_("ann") | q.subject("a b")),
        ("OR SEEN OR NEW OLD", q.SEEN | q.NEW | q.OLD),
        ("OR OR SEEN NEW OLD DRAFT", (q.SEEN | q.NEW | q.OLD) & q.DRAFT),
        ("OR (SEEN NEW) NOT (OLD)", (q.SEEN & q.NEW) | ~q.OLD),
        ("NOT NOT SEEN", q.SEEN),
        ("NOT OR SEEN NOT NEW OLD", ~(q.SEEN | ~q.NEW) & q.OLD),
        ("(SEEN)(NEW)", q.SEEN & q.NEW),
        ("((SEEN) NEW)", q.SEEN & q.NEW),
        ("FROM ann@example.org TO <bob@example.org>", q.from_("ann@example.org") & q.to("<bob@example.org>")),
        (r'SUBJECT "a \"b\" \\ (c)"', q.subject('a "b" \\ (c)')),
        ('SUBJECT ""', q.subject("")),
        ("SUBJECT Grüße BODY {5}", q.subject("Grüße") & q.body("{5}")),
        ("SUBJECT NOT TEXT OR", q.subject("NOT") & q.text("OR")),
        ("HEADER Message-ID <1@x>", q.header("Message-ID", "<1@x>")),
        ("LARGER 1000 SMALLER 2000", q.larger(1000) & q.smaller(2000)),
        ("OLDER 3600", q.older_than(seconds=3600)),
        ("KEYWORD $Junk NOT KEYWORD x", q.keyword("$Junk") & ~q.keyword("x")),
        ("UID 1:5,9 UID 7:*", q.uid("1:5,9") & q.uid("7:*")),
        ("MODSEQ 5 X-GM-RAW has:attachment", q.modseq(5) & q.gmail("has:attachment")),
        ("SEEN\tNEW\nOLD", q.SEEN & q.NEW & q.OLD),
    ],
)
def test_parse(text: str, expected: SearchKey) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "at least one search key, such as ALL"),
        ("   ", "at least one"),
        ("()", "between the parentheses"),
        ("(SEEN", "close the parenthesis"),
        ("SEEN)", "closes nothing"),
        (")", "closes nothing"),
        ("(OR SEEN)", "OR takes 2 search keys after it, and 1 came before"),
        ("(NOT)", "NOT takes 1 search key after it, and 0 came before"),
        ("OR SEEN", "OR takes 2 search keys after it, and 1 came"),
        ("NOT", "NOT takes 1 search key after it, and 0 came"),
        ("OR (SEEN", "close the parenthesis"),
        ('SUBJECT "a', "close the quotes"),
        ('SUBJECT "a"b', "leave a space"),
        (r'SUBJECT "a\b"', "inside quotes"),
        ("SUBJECT", "SUBJECT needs a text, in double quotes"),
        ("SUBJECT (a)", "SUBJECT needs a text"),
        ("HEADER Message-ID", "HEADER needs a text"),
        ("HEADER a:b c", "header field"),
        ("SINCE", "a date such as 1-Jan-2024, 2024-01-31, or 30d"),
        ("SINCE yesterday", "needs a date such as .* not 'yesterday'"),
        ("SINCE 31-Feb-2024", "needs a date"),
        ("SINCE 1-Foo-2024", "needs a date"),
        ("SINCE 2024-13-01", "needs a date"),
        ("SINCE 1-Jan-24", "needs a date"),
        ("SINCE 100001d", "0 to 100000"),
        ("SINCE 999999999d", "0 to 100000"),
        ("LARGER big", "LARGER needs a number from 0, not 'big'"),
        ("LARGER -5", "needs a number"),
        ("LARGER ٥", "needs a number"),
        ("LARGER 9999999999999999999", "from 0 to 9223372036854775807"),
        ("OLDER 0", "from 1 to 4294967295"),
        ("KEYWORD \\Seen", "use SEEN"),
        ("UID 5:x", "set of UIDs"),
        ('UID ""', "at least one UID"),
        ("UNSEN", "write UNSEEN if that is meant"),
        ("SUBJCT hello", "write SUBJECT"),
        ("hello world", "put FROM, SUBJECT, TEXT"),
        ('"hello world"', "say where to search"),
        ('"SEEN"', "say where to search"),
        ('"OR" SEEN NEW', "say where to search"),
        ("1:5", "write UID '1:5'"),
        ("CHARSET UTF-8 SEEN", "leave CHARSET out"),
        ("RETURN (ALL) SEEN", "leave RETURN out"),
        ("x" * 1000, "is no search key"),
    ],
)
def test_mistakes_get_advice(text: str, advice: str) -> None:
    with pytest.raises(InvalidSearch, match=advice) as caught:
        parse(text)
    assert len(str(caught.value)) < 250


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=12)
DAYS = st.integers(0, 100_000)
VALUES = {
    Kind.TEXT: TEXT,
    Kind.FIELD_NAME: st.from_regex(r"[!-9;-~]+", fullmatch=True),
    Kind.DATE: st.dates(),
    Kind.NUMBER: st.integers(0, 2**63 - 1),
    Kind.SECONDS: st.integers(1, 2**32 - 1),
    Kind.KEYWORD: st.from_regex(r"[$A-Za-z0-9!'+,./:;<=>?@^_`|}~&#-]+", fullmatch=True),
    Kind.UIDS: st.one_of(st.integers(1, 2**32 - 1), st.just("7:*"), st.just("4,1:2")),
    Kind.OBJECT_ID: st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True),
}


@st.composite
def leaves(draw: st.DrawFn) -> SearchKey:
    name = draw(st.sampled_from(sorted(TERMS)))
    return SearchKey(make_term(name, *(draw(VALUES[kind]) for kind in TERMS[name].arguments)))


KEYS = st.recursive(
    st.one_of(leaves(), DAYS.map(lambda days: q.since(days=days)), DAYS.map(lambda days: q.sent_on(days=days))),
    lambda inner: st.one_of(
        inner.map(lambda key: ~key),
        st.tuples(inner, inner).map(lambda keys: keys[0] & keys[1]),
        st.tuples(inner, inner).map(lambda keys: keys[0] | keys[1]),
    ),
    max_leaves=12,
)


@given(KEYS)
def test_what_describe_writes_parse_reads(key: SearchKey) -> None:
    assert parse(key.describe()) == key


@given(KEYS, st.booleans(), st.booleans())
def test_every_key_can_be_sent(key: SearchKey, literal_plus: bool, utf8: bool) -> None:
    program = key.program(today=date(2024, 3, 1), literal_plus=literal_plus, utf8=utf8)
    literals = [piece for piece in program.pieces if not isinstance(piece, bytes)]
    lines = [piece for piece in program.pieces if isinstance(piece, bytes)]
    assert not any(byte in line for line in lines for byte in b"\r\n\0")
    assert (program.charset is None) == (utf8 or all(literal.data.isascii() for literal in literals))
    assert all(lines)
    assert utf8 or all(line.isascii() for line in lines)
    assert len(program.chunks()) == 1 + sum(literal.synchronising for literal in literals)


@given(st.one_of(st.text(), st.text('()" \\ORNTSE12:-*{}d', max_size=30)))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        key = parse(text)
    except InvalidSearch:
        return
    assert parse(key.describe()) == key


def test_deep_and_long_texts() -> None:
    assert parse("(" * 20_000 + "SEEN" + ")" * 20_000) == q.SEEN
    assert parse("NOT " * 20_000 + "SEEN") == q.SEEN
    assert parse("OR SEEN " * 3_000 + "NEW") == q.any_of(*[q.SEEN] * 3_000, q.NEW)
    assert len(parse("SEEN " * 20_000).terms) == 20_000
