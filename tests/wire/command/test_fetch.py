"""What a FETCH asks for, and the shapes by which its answers are recognised."""

from __future__ import annotations

import itertools
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imapipe.wire.command.fetch import Fetch, uid_fetch
from imapipe.wire.response.fetch import scan_fetch
from imapipe.wire.response.shape import Shape, compile_shape
from imapipe.wire.uid_set import UidSet


@pytest.mark.parametrize(
    ("fetch", "sent"),
    [
        (Fetch(), b"(UID)"),
        (Fetch("uid"), b"(UID)"),
        (Fetch("flags"), b"(UID FLAGS)"),
        (Fetch("size"), b"(UID RFC822.SIZE)"),
        (Fetch("envelope"), b"(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)"),
        (Fetch("structure"), b"(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)"),
        (Fetch("headers"), b"(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER])"),
        (Fetch("full"), b"(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"),
        (Fetch("full", "flags", "envelope"), b"(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODY.PEEK[])"),
        (Fetch("gmail", "modseq"), b"(UID X-GM-MSGID X-GM-THRID X-GM-LABELS MODSEQ)"),
        (Fetch(header_fields=["date", "From", "DATE"]), b"(UID BODY.PEEK[HEADER.FIELDS (DATE FROM)])"),
        (Fetch(section="1.2.mime"), b"(UID BODY.PEEK[1.2.MIME])"),
        (Fetch(section="TEXT", partial=(0, 100)), b"(UID BODY.PEEK[TEXT]<0.100>)"),
        (Fetch(partial=(1024, 1)), b"(UID BODY.PEEK[]<1024.1>)"),
        (Fetch(section="2", binary=True), b"(UID BINARY.PEEK[2])"),
        (Fetch("full", mark_seen=True), b"(UID FLAGS INTERNALDATE RFC822.SIZE BODY[])"),
        (Fetch(section="2", binary=True, mark_seen=True), b"(UID BINARY[2])"),
        (Fetch("flags") | Fetch("size") | Fetch("flags"), b"(UID FLAGS RFC822.SIZE)"),
    ],
)
def test_what_is_sent(fetch: Fetch, sent: bytes) -> None:
    assert fetch.command() == sent
    assert b"UID" not in fetch.command(with_uid=False)
    assert fetch.describe() == sent.decode()[1:-1]


@pytest.mark.parametrize(
    ("presets", "words"),
    [
        (["everything"], {}),
        ([], {"section": "1..2"}),
        ([], {"section": "HEADER.FIELDS (X)"}),
        ([], {"section": "1\r\nX"}),
        ([], {"header_fields": ["a b"]}),
        ([], {"header_fields": ["a:"]}),
        ([], {"header_fields": ["é"]}),
        ([], {"partial": (-1, 5)}),
        ([], {"partial": (0, 0)}),
        ([], {"binary": True}),
        ([], {"section": "TEXT", "binary": True}),
    ],
)
def test_what_the_grammar_does_not_allow(presets: list[str], words: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Fetch(*presets, **words)  # type: ignore[arg-type]


def test_names_bodies_and_needs() -> None:
    fetch = Fetch("gmail", "modseq", "email_id", section="1", partial=(5, 10)) | Fetch(section="2", binary=True)
    assert fetch.names[-2:] == ("BODY[1]<5>", "BINARY[2]")
    assert fetch.needs == {"X-GM-EXT-1", "CONDSTORE", "OBJECTID", "BINARY"}
    assert fetch.has_body
    # NIL is how a server says that a message has no such part.
    assert fetch.body_names == ()
    assert Fetch("full").body_names == ("BODY[]",)
    assert (Fetch("headers") | Fetch(section="TEXT")).body_names == ("BODY[HEADER]", "BODY[TEXT]")
    assert not Fetch("envelope").has_body
    assert Fetch("full", mark_seen=True).mark_seen


def test_it_is_a_value() -> None:
    assert Fetch("flags", "size") == Fetch("size", "flags")
    assert len({Fetch("full"), Fetch("full"), Fetch("flags")}) == 2
    assert pickle.loads(pickle.dumps(Fetch("full", section="1"))) == Fetch("full", section="1")
    with pytest.raises(AttributeError):
        Fetch("flags").items = ()  # type: ignore[misc]


VALUES: dict[str, tuple[bytes, int]] = {
    "UID": (b"17", 0),
    "FLAGS": (b"(\\Seen $Label)", 0),
    "INTERNALDATE": (b'"17-Jul-1996 02:44:25 -0700"', 0),
    "RFC822.SIZE": (b"4286", 0),
    "MODSEQ": (b"(624140003)", 0),
    "EMAILID": (b"(M6d99ac3275bb4e)", 0),
    "X-GM-MSGID": (b"1278455344230334865", 0),
    "BODY[HEADER.FIELDS (DATE FROM)]": (b"{5}\r\n", 1),
    "BODY[]<0>": (b"{012}\r\n", 1),
    "BINARY[1.2]": (b"~{3+}\r\n", 1),
    "ENVELOPE": (b'(NIL {2}\r\n ((NIL NIL "a" "b)")) NIL NIL NIL NIL NIL NIL "<x>")', 1),
}


def line(names: tuple[str, ...], *, uidfetch: bool = False) -> tuple[bytes, tuple[bytes, ...]]:
    items = b" ".join(name.encode() + b" " + VALUES[name][0] for name in names)
    count = sum(VALUES[name][1] for name in names)
    head = b"* 17 UIDFETCH (" if uidfetch else b"* 3 FETCH ("
    return head + items + b")", tuple(b"literal %d" % index for index in range(count))


@given(st.permutations(list(VALUES)), st.integers(0, len(VALUES)))
def test_a_shape_finds_what_scanning_finds(order: list[str], count: int) -> None:
    """In every order of items that has a shape, group by group."""
    names = tuple(dict.fromkeys(["UID", *order[:count]])) if "UID" not in order[:count] else tuple(order[:count])
    text, literals = line(names)
    shape = compile_shape(names)
    if "ENVELOPE" in names[:-1]:
        assert shape is None
        return
    assert shape is not None
    match = shape.match(text)
    assert match is not None
    assert match[shape.uid_group] == b"17"
    scanned = scan_fetch(text, literals)
    assert scanned.uid == 17
    assert shape.names == set(scanned.items) == set(names)
    for name, group in shape.groups.items():
        span = scanned.items[name]
        start, end = match.span(group)
        if name == shape.open_item:
            end = len(text) - 1
        assert text[start:end] == text[span.start : span.end]
    for index, name in enumerate(shape.literal_items):
        assert scanned.items[name].literal_index == index


def shape_of(*names: str, uidfetch: bool = False) -> Shape:
    shape = compile_shape(names, uidfetch=uidfetch)
    assert shape is not None
    return shape


def test_a_shape_matches_no_other_items() -> None:
    names = ("UID", "FLAGS", "RFC822.SIZE")
    shape = shape_of(*names)
    for count in range(4):
        for other in itertools.permutations([*names, "MODSEQ"], count):
            assert (shape.match(line(other)[0]) is not None) is (other == names)


@pytest.mark.parametrize(
    "text",
    [
        b"* 3 FETCH (UID 17 FLAGS (\\Seen) RFC822.SIZE 9.3736e+06)",
        b"* 3 FETCH (UID 17 FLAGS (\\Seen) RFC822.SIZE -1)",
        b"* 3 FETCH (UID 17 FLAGS (\\Seen (x) RFC822.SIZE 1)",
        b"* 3 FETCH (UID 17 FLAGS NIL RFC822.SIZE 1)",
        b"* 3 FETCH (UID 17 FLAGS () RFC822.SIZE 1) ",
        b"* 3 FETCH (UID 17 FLAGS ()  RFC822.SIZE 1)",
        b"* 3 FETCH (UID 99999999999 FLAGS () RFC822.SIZE 1)",
        b"3 FETCH (UID 17 FLAGS () RFC822.SIZE 1)",
    ],
)
def test_what_is_odd_is_left_to_the_scanner(text: bytes) -> None:
    assert shape_of("UID", "FLAGS", "RFC822.SIZE").match(text) is None


def test_nil_and_quoted_bodies_have_no_shape() -> None:
    shape = shape_of("UID", "BODY[]")
    assert shape.match(b"* 3 FETCH (UID 17 BODY[] {3}\r\n)") is not None
    assert shape.match(b"* 3 FETCH (UID 17 BODY[] NIL)") is None
    assert shape.match(b'* 3 FETCH (UID 17 BODY[] "")') is None


def test_uidfetch() -> None:
    shape = shape_of("FLAGS", "ENVELOPE", uidfetch=True)
    text, _ = line(("FLAGS", "ENVELOPE"), uidfetch=True)
    match = shape.match(text)
    assert match is not None
    assert match[shape.uid_group] == b"17"
    assert shape.match(line(("UID", "FLAGS", "ENVELOPE"))[0]) is None


def test_orders_without_a_shape() -> None:
    assert compile_shape(("FLAGS",)) is None
    assert compile_shape(("UID", "ENVELOPE", "FLAGS")) is None
    assert compile_shape(("UID", "X-GM-LABELS")) is None
    assert compile_shape(("UID", "ENVELOPE", "BODYSTRUCTURE")) is None


def test_only_what_changed_since_a_mod_sequence() -> None:
    everything = UidSet.from_ranges([(1, 9)])
    since = uid_fetch(everything, Fetch("flags"), changed_since=2**63 - 1)
    assert since.pieces == (b"UID FETCH 1:9 (UID FLAGS) (CHANGEDSINCE 9223372036854775807)\r\n",)
    both = uid_fetch(everything, Fetch("flags"), with_uid=False, changed_since=1, vanished=True)
    assert both.pieces == (b"UID FETCH 1:9 (FLAGS) (CHANGEDSINCE 1 VANISHED)\r\n",)
    with pytest.raises(ValueError, match="since a mod-sequence"):
        uid_fetch(everything, Fetch("flags"), vanished=True)
    with pytest.raises(ValueError, match="mod-sequence"):
        uid_fetch(everything, Fetch("flags"), changed_since=-1)
