"""Search keys: what goes over the wire, what is refused, and that combining them means what it says."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from operator import and_, or_

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imapipe import search as q
from imapipe.errors import InvalidSearch
from imapipe.search import LiteralArgument, SearchKey
from imapipe.wire.uid_set import UidSet

TODAY = date(2024, 3, 1)


def sent(key: SearchKey, *, literal_plus: bool = False, utf8: bool = False) -> bytes:
    """All bytes of a search, with its literals in their place."""
    return b"".join(key.program(today=TODAY, literal_plus=literal_plus, utf8=utf8).chunks())


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (q.ALL, b"ALL"),
        (q.SEEN & q.FLAGGED & q.ANSWERED, b"SEEN FLAGGED ANSWERED"),
        (q.DELETED | q.DRAFT, b"OR DELETED DRAFT"),
        (~q.UNSEEN, b"NOT UNSEEN"),
        (~(q.NEW | q.OLD), b"NOT OR NEW OLD"),
        (~(q.UNANSWERED & q.RECENT), b"NOT (UNANSWERED RECENT)"),
        ((q.UNDELETED & q.UNDRAFT) | q.UNFLAGGED, b"OR (UNDELETED UNDRAFT) UNFLAGGED"),
        ((q.SEEN | q.DRAFT) & q.FLAGGED, b"OR SEEN DRAFT FLAGGED"),
        (q.since(date(2024, 2, 29)), b"SINCE 29-Feb-2024"),
        (q.before(days=1), b"BEFORE 29-Feb-2024"),
        (q.on(days=0), b"ON 1-Mar-2024"),
        (q.sent_since(date(988, 1, 2)), b"SENTSINCE 2-Jan-0988"),
        (q.sent_before(days=366), b"SENTBEFORE 1-Mar-2023"),
        (q.sent_on(date(2024, 12, 31)), b"SENTON 31-Dec-2024"),
        (q.older_than(days=30), b"BEFORE 31-Jan-2024"),
        (q.older_than(seconds=3600), b"OLDER 3600"),
        (q.younger_than(days=30), b"SINCE 31-Jan-2024"),
        (q.younger_than(seconds=1), b"YOUNGER 1"),
        (q.from_("ann@example.org"), b'FROM "ann@example.org"'),
        (q.to('a "b" \\c'), b'TO "a \\"b\\" \\\\c"'),
        (q.cc("") & q.bcc("x"), b'CC "" BCC "x"'),
        (q.subject("{5}"), b'SUBJECT "{5}"'),
        (q.text("(") & q.body(")"), b'TEXT "(" BODY ")"'),
        (q.header("List-Id"), b'HEADER "List-Id" ""'),
        (q.header("X-Spam", "yes"), b'HEADER "X-Spam" "yes"'),
        (q.larger(0) & q.smaller(2**63 - 1), b"LARGER 0 SMALLER 9223372036854775807"),
        (q.keyword("$Important"), b"KEYWORD $Important"),
        (q.uid(7), b"UID 7"),
        (q.uid("3,1:2,9"), b"UID 1:3,9"),
        (q.uid("7:*"), b"UID 7:*"),
        (q.uid([5, 4, 9]), b"UID 4:5,9"),
        (q.uid(UidSet.parse("1:5")), b"UID 1:5"),
        (q.uid(UidSet()), b"NOT ALL"),
        (q.modseq(12), b"MODSEQ 12"),
        (q.gmail("has:attachment in:unread"), b'X-GM-RAW "has:attachment in:unread"'),
        (q.raw("FUZZY SUBJECT x"), b"FUZZY SUBJECT x"),
        (~q.raw('BODY ")" OLD'), b'NOT (BODY ")" OLD)'),
        (q.raw("$ SEEN") & q.NEW, b"($ SEEN) NEW"),
        (q.all_of(), b"ALL"),
        (q.any_of(), b"NOT ALL"),
        (q.all_of(q.SEEN), b"SEEN"),
        (q.any_of(q.SEEN, q.NEW, q.OLD), b"OR OR SEEN NEW OLD"),
    ],
)
def test_on_the_wire(key: SearchKey, expected: bytes) -> None:
    program = key.program(today=TODAY)
    assert program.pieces == (expected,)
    assert program.charset is None
    assert program.chunks() == (expected,)


def test_text_that_is_not_ascii_goes_as_literal_with_charset() -> None:
    program = (q.subject("Grüße") & q.from_("ann") & q.to("é")).program(today=TODAY)
    assert program.charset == "UTF-8"
    assert program.pieces == (
        b"SUBJECT ",
        LiteralArgument("Grüße".encode(), synchronising=True),
        b' FROM "ann" TO ',
        LiteralArgument("é".encode(), synchronising=True),
    )
    assert program.chunks() == (
        b"CHARSET UTF-8 SUBJECT {7}\r\n",
        "Grüße".encode() + b' FROM "ann" TO {2}\r\n',
        "é".encode(),
    )


def test_non_synchronising_literals_need_no_waiting() -> None:
    program = (q.subject("Grüße") & q.SEEN).program(today=TODAY, literal_plus=True)
    assert program.chunks() == ("CHARSET UTF-8 SUBJECT {7+}\r\nGrüße SEEN".encode(),)
    # LITERAL- allows 4096 bytes (RFC 7888 §5).
    assert b"{4096+}\r\n" in sent(q.body("x" * 4096), literal_plus=True)
    assert b"{4097}\r\n" in sent(q.body("x" * 4097), literal_plus=True)


def test_with_utf8_accept_there_is_neither_literal_nor_charset() -> None:
    program = q.subject('Grü"ße').program(today=TODAY, utf8=True)
    assert program.charset is None
    assert program.pieces == ('SUBJECT "Grü\\"ße"'.encode(),)


def test_long_text_goes_as_literal_without_charset() -> None:
    program = q.body("x" * 1001).program(today=TODAY)
    assert program.charset is None
    assert program.pieces == (b"BODY ", LiteralArgument(b"x" * 1001, synchronising=True))
    assert sent(q.body("x" * 1000)) == b'BODY "' + b"x" * 1000 + b'"'
    assert b'"' not in sent(q.body("é" * 501), utf8=True)


MISTAKES: list[tuple[Callable[[], SearchKey], str]] = [
    (lambda: q.subject("a\rb"), "CR, LF or NUL"),
    (lambda: q.from_("a\nb"), "CR, LF or NUL"),
    (lambda: q.gmail("a\0"), "CR, LF or NUL"),
    (lambda: q.header("X", "a\r\n b"), "CR, LF or NUL"),
    (lambda: q.subject("\ud800"), "surrogate"),
    (lambda: q.subject(b"x"), "pass a str"),  # type: ignore[arg-type]
    (lambda: q.subject(None), "pass a str"),  # type: ignore[arg-type]
    (lambda: q.header("Sub ject"), "header field"),
    (lambda: q.header("Subject:"), "header field"),
    (lambda: q.header(""), "header field"),
    (q.since, "either"),
    (lambda: q.since(TODAY, days=3), "either"),
    (lambda: q.since(datetime(2024, 1, 1, tzinfo=UTC)), r"moment\.date\(\)"),
    (lambda: q.since("2024-01-01"), "datetime.date"),  # type: ignore[arg-type]
    (lambda: q.before(days=-1), "0 to 100000"),
    (lambda: q.before(days=1.5), "whole number"),  # type: ignore[arg-type]
    (lambda: q.before(days=100_001), "0 to 100000"),
    (lambda: q.on(days=True), "whole number"),
    (q.older_than, "either"),
    (lambda: q.older_than(days=1, seconds=1), "either"),
    (lambda: q.older_than(seconds=0), "1 to 4294967295"),
    (lambda: q.younger_than(seconds=2**32), "1 to 4294967295"),
    (lambda: q.larger(-1), "from 0"),
    (lambda: q.larger(True), "from 0"),
    (lambda: q.smaller(2**63), "from 0"),
    (lambda: q.smaller("5"), "whole number"),  # type: ignore[arg-type]
    (lambda: q.modseq(-1), "from 0"),
    (lambda: q.keyword("\\Seen"), "SEEN"),
    (lambda: q.keyword("two words"), "keyword"),
    (lambda: q.keyword("a)"), "keyword"),
    (lambda: q.keyword("a]"), "keyword"),
    (lambda: q.keyword("ä"), "keyword"),
    (lambda: q.keyword(""), "keyword"),
    (lambda: q.uid("x"), "set of UIDs"),
    (lambda: q.uid("1:*,"), "set of UIDs"),
    (lambda: q.uid(0), "set of UIDs"),
    (lambda: q.uid([1, "2"]), "set of UIDs"),  # type: ignore[list-item]
    (lambda: q.uid(1.5), "set of UIDs"),  # type: ignore[arg-type]
    (lambda: q.raw(""), "takes the text"),
    (lambda: q.raw("SUBJECT é"), "ASCII"),
    (lambda: q.raw("A\r\nB LOGOUT"), "ASCII without CR"),
    (lambda: q.raw("SUBJECT {5}"), "literals"),
    (lambda: q.raw("SUBJECT {5+} "), "literals"),
    (lambda: q.raw("SEEN) (NEW"), "close every"),
    (lambda: q.raw("(SEEN"), "close every"),
    (lambda: q.raw('SUBJECT "a'), "close every"),
    (lambda: q.raw('SUBJECT "a\\"'), "close every"),
]


@pytest.mark.parametrize(("make", "advice"), MISTAKES, ids=[str(number) for number in range(len(MISTAKES))])
def test_what_cannot_be_sent_is_refused_at_once(make: Callable[[], SearchKey], advice: str) -> None:
    with pytest.raises(InvalidSearch, match=advice) as caught:
        make()
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- combining

NAMES = ["k0", "k1", "k2", "k3", "k4"]
Rule = Callable[[frozenset[str]], bool]
Pair = tuple[SearchKey, Rule]


def leaf(name: str) -> Pair:
    return q.keyword(name), lambda words: name in words


def negate(pair: Pair) -> Pair:
    key, rule = pair
    return ~key, lambda words: not rule(words)


def both(pairs: tuple[Pair, Pair]) -> Pair:
    (left, left_rule), (right, right_rule) = pairs
    return left & right, lambda words: left_rule(words) and right_rule(words)


def either(pairs: tuple[Pair, Pair]) -> Pair:
    (left, left_rule), (right, right_rule) = pairs
    return left | right, lambda words: left_rule(words) or right_rule(words)


PAIRS = st.recursive(
    st.sampled_from(NAMES).map(leaf),
    lambda inner: st.one_of(inner.map(negate), st.tuples(inner, inner).map(both), st.tuples(inner, inner).map(either)),
    max_leaves=25,
)


def meaning(text: bytes) -> Rule:
    """Read a search as a server does: RFC 9051 §9, `search-key`, one function for each production."""
    words = text.replace(b"(", b" ( ").replace(b")", b" ) ").split()

    def keys_until(end: bytes | None) -> Rule:
        rules: list[Rule] = []
        while (words[0] if words else None) != end:
            rules.append(one_key())
        assert rules
        return lambda found: all(rule(found) for rule in rules)

    def one_key() -> Rule:
        word = words.pop(0)
        if word == b"(":
            rule = keys_until(b")")
            assert words.pop(0) == b")"
            return rule
        if word == b"NOT":
            inner = one_key()
            return lambda found: not inner(found)
        if word == b"OR":
            left, right = one_key(), one_key()
            return lambda found: left(found) or right(found)
        assert word == b"KEYWORD"
        name = words.pop(0).decode()
        return lambda found: name in found

    return keys_until(None)


@given(PAIRS, st.frozensets(st.sampled_from(NAMES)))
def test_the_server_understands_what_was_combined(pair: Pair, flags: frozenset[str]) -> None:
    key, rule = pair
    assert meaning(sent(key))(flags) == rule(flags)
    assert meaning(key.describe().encode())(flags) == rule(flags)


@given(PAIRS)
def test_values(pair: Pair) -> None:
    key = pair[0]
    again = pickle.loads(pickle.dumps(key))
    assert again == key == copy.deepcopy(key)
    assert hash(again) == hash(key)
    assert ~~key == key
    assert q.all_of(key, q.SEEN) == key & q.SEEN
    assert q.any_of(q.SEEN, key) == q.SEEN | key
    assert key != (key & q.ALL)
    assert key.describe() in repr(key) or repr(key).endswith("…>")


def test_grouping_does_not_matter_where_it_means_nothing() -> None:
    assert (q.SEEN & q.NEW) & q.OLD == q.SEEN & (q.NEW & q.OLD)
    assert (q.SEEN | q.NEW) | q.OLD == q.SEEN | (q.NEW | q.OLD)
    assert (q.SEEN & q.NEW) | q.OLD != q.SEEN & (q.NEW | q.OLD)
    assert q.SEEN & q.NEW != q.NEW & q.SEEN


def depth_of_or(text: bytes) -> int:
    """The deepest nesting of OR in prefix order."""
    wanted: list[int] = []
    deepest = 0
    for word in text.split():
        if word == b"OR":
            wanted.append(2)
            deepest = max(deepest, len(wanted))
            continue
        while wanted:
            wanted[-1] -= 1
            if wanted[-1]:
                break
            wanted.pop()
    assert not wanted
    return deepest


@pytest.mark.parametrize("combine", [or_, and_])
def test_ten_thousand_terms(combine: Callable[[SearchKey, SearchKey], SearchKey]) -> None:
    keys = [q.larger(number) for number in range(10_000)]
    key = reduce(combine, keys)
    text = sent(key)
    assert text.count(b"LARGER") == 10_000
    if combine is or_:
        assert key == q.any_of(*keys)
        assert text.count(b"OR ") == 9_999
        assert depth_of_or(text.replace(b"LARGER ", b"")) == 14
    else:
        assert key == q.all_of(*keys)
        assert text == b" ".join(b"LARGER %d" % number for number in range(10_000))


def test_depth_costs_no_recursion() -> None:
    key = q.SEEN
    for number in range(2_000):
        key = ~(key & q.larger(number)) | q.smaller(number)
    assert sent(key).count(b"NOT (") == 2_000
    assert key == copy.deepcopy(key)
    assert hash(key) == hash(pickle.loads(pickle.dumps(key)))
    assert q.parse(key.describe()) == key
    assert key.uses_flags


def test_the_words_of_python_are_refused() -> None:
    with pytest.raises(TypeError, match=r"with &, \| and ~"):
        bool(q.SEEN)
    with pytest.raises(TypeError, match="cannot do it"):
        not ~q.SEEN  # noqa: B018
    with pytest.raises(TypeError):
        q.SEEN & "NEW"  # type: ignore[operator]
    with pytest.raises(TypeError):
        q.SEEN | 1  # type: ignore[operator]


def test_keys_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="cannot be changed"):
        q.SEEN._tokens = ()
    with pytest.raises(AttributeError, match="cannot be changed"):
        del q.SEEN._tokens
    assert not hasattr(q.SEEN, "__dict__")


# ---------------------------------------------------------------- what others ask of a key


def test_describe_keeps_relative_dates_relative() -> None:
    key = q.since(days=30) & ~q.subject("Grüße") & (q.on(date(2024, 1, 1)) | q.uid("1,2,3"))
    assert key.describe() == 'SINCE 30d NOT SUBJECT "Grüße" OR ON 1-Jan-2024 UID 1:3'
    assert sent(q.since(days=30)) == b"SINCE 31-Jan-2024"
    assert q.since(days=30).program(today=date(2024, 3, 2)).pieces == (b"SINCE 1-Feb-2024",)
    assert q.since(days=30) == q.since(days=30) != q.since(TODAY - timedelta(days=30))


def test_describe_is_short_whatever_the_uids() -> None:
    odd = UidSet.from_numbers(range(1, 100_000, 2))
    text = q.uid(odd).describe()
    assert len(text) < 100
    assert text == q.uid(UidSet.parse(odd.text())).describe()
    assert text != q.uid(odd - UidSet.parse("5")).describe()


@pytest.mark.parametrize(
    ("key", "flags", "modseq", "clock", "needs"),
    [
        (q.ALL, False, False, False, ()),
        (q.since(TODAY) & q.from_("a") & q.uid(5) & q.larger(5), False, False, False, ()),
        (q.since(days=1) | q.ALL, False, False, True, ()),
        (~q.UNSEEN, True, False, False, ()),
        (q.ALL & ~(q.ALL | q.keyword("x")), True, False, False, ()),
        (q.RECENT, True, False, False, ()),
        (q.modseq(5), True, True, False, ("CONDSTORE",)),
        (q.gmail("x"), True, False, False, ("X-GM-EXT-1",)),
        (q.older_than(seconds=5), False, False, True, ("WITHIN",)),
        (q.older_than(days=5), False, False, True, ()),
        (q.older_than(seconds=5) & q.modseq(5), True, True, True, ("WITHIN", "CONDSTORE")),
        (q.raw("X"), True, False, False, ()),
        (q.raw("modseq 5"), True, True, False, ()),
        (q.parse("EMAILID M6d SAVEDON 3d"), False, False, True, ("OBJECTID", "SAVEDATE")),
    ],
)
def test_what_a_key_depends_on(key: SearchKey, flags: bool, modseq: bool, clock: bool, needs: tuple[str, ...]) -> None:
    assert key.uses_flags == flags
    assert key.uses_modseq == modseq
    assert key.uses_clock == clock
    assert key.needs == frozenset(needs)


def test_the_public_names() -> None:
    assert sorted(q.__all__, key=lambda name: (name.islower(), not name.isupper(), name)) == q.__all__
    for name in q.__all__:
        assert hasattr(q, name)
