"""ENVELOPE: every field, in every form in which servers write it, and what they get wrong."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imapipe.errors import ProtocolError
from imapipe.wire.encoded_word import decode_header
from imapipe.wire.response import envelope as module
from imapipe.wire.response.envelope import Address, Envelope, parse_envelope
from imapipe.wire.response.envelope_fields import FIELDS
from imapipe.wire.response.fetch import scan_fetch
from imapipe.wire.response.literal import Literal
from imapipe.wire.response.token import ItemSpan

RFC = (
    b'("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" "IMAP4rev1 WG mtg summary and minutes"'
    b' (("Terry Gray" NIL "gray" "cac.example")) (("Terry Gray" NIL "gray" "cac.example"))'
    b' (("Terry Gray" NIL "gray" "cac.example")) ((NIL NIL "imap" "cac.example"))'
    b' ((NIL NIL "minutes" "reston.example")("John Klensin" NIL "KLENSIN" "mit.example")) NIL NIL'
    b' "<B27397-0100000@cac.example>")'
)


def parse(value: bytes, literals: Sequence[Literal] = (), index: int = 0) -> Envelope:
    return parse_envelope(value, literals, ItemSpan(0, len(value), index))


def with_subject(subject: bytes) -> bytes:
    return (
        b'("Wed, 17 Jul 1996 02:44:25 -0700" ' + subject + b' (("A B" NIL "a" "b.c")) NIL NIL NIL NIL NIL NIL "<a@b>")'
    )


def with_from(addresses: bytes) -> bytes:
    return b"(NIL NIL " + addresses + b" NIL NIL NIL NIL NIL NIL NIL)"


def test_the_example_of_the_rfc() -> None:
    envelope = parse(RFC)
    terry = Address("Terry Gray", "gray", "cac.example")
    assert envelope.date == datetime(1996, 7, 17, 9, 23, 25, tzinfo=UTC)
    assert envelope.subject == "IMAP4rev1 WG mtg summary and minutes"
    assert envelope.from_ == envelope.sender == envelope.reply_to == (terry,)
    assert envelope.to == (Address("", "imap", "cac.example"),)
    assert envelope.cc == (Address("", "minutes", "reston.example"), Address("John Klensin", "KLENSIN", "mit.example"))
    assert envelope.bcc == ()
    assert envelope.in_reply_to == ""
    assert envelope.message_id == "<B27397-0100000@cac.example>"


def test_all_nil() -> None:
    assert parse(b"(" + b" ".join([b"NIL"] * 10) + b")") == Envelope()


def test_fields_are_decoded_once_and_on_demand() -> None:
    envelope = parse(RFC)
    assert envelope._subject is None
    assert envelope._from is None
    assert envelope.subject is envelope.subject
    assert envelope.from_ is envelope.sender is envelope.reply_to
    assert envelope._to is None


def test_it_is_read_only() -> None:
    envelope = parse(RFC)
    with pytest.raises(AttributeError):
        envelope.subject = "x"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        envelope.other = 1  # type: ignore[attr-defined]


def test_equality_hash_repr_copies() -> None:
    first, second = parse(RFC), parse(RFC)
    assert first == second
    assert hash(first) == hash(second)
    assert first != parse(with_subject(b"NIL"))
    assert first != "text"
    for other in (copy.copy(first), copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        assert other == first
    assert "IMAP4rev1" in repr(first)
    assert "bcc" not in repr(first)
    assert list(first.as_dict()) == list(FIELDS)
    assert Envelope(**first.as_dict()) == first  # type: ignore[arg-type]


def test_addresses_as_text() -> None:
    assert Address("A B", "a", "b.c").email == "a@b.c"
    assert str(Address("A B", "a", "b.c")) == "A B <a@b.c>"
    assert str(Address("", "a", "b.c")) == "a@b.c"
    assert Address("", "root", "").email == "root"


def test_encoded_words_are_decoded_in_subject_and_names_only() -> None:
    envelope = parse(
        b'(NIL "=?utf-8?Q?caf=C3=A9?=" (("=?utf-8?B?w6k=?=" NIL "a" "b.c")("Plain" NIL "d" "e.f")) NIL NIL NIL NIL NIL'
        b' "<=?x?=@y>" NIL)'
    )
    assert envelope.subject == "café"
    assert envelope.from_ == (Address("é", "a", "b.c"), Address("Plain", "d", "e.f"))
    assert envelope.in_reply_to == "<=?x?=@y>"


def test_eight_bit_in_quoted_strings() -> None:
    envelope = parse('(NIL "grüße" (("Zoë" NIL "zoë" "exämple.org")) NIL NIL NIL NIL NIL NIL "<ü@x>")'.encode())
    assert envelope.subject == "grüße"
    assert envelope.from_ == (Address("Zoë", "zoë", "exämple.org"),)
    assert envelope.message_id == "<ü@x>"
    assert parse(with_subject(b'"caf\xe9"')).subject == "café"


def test_escapes_in_quoted_strings() -> None:
    envelope = parse(rb'(NIL "say \"hi\" \\o/" (("O\"Neil" NIL "\"a b\"" "c.d")) NIL NIL NIL NIL NIL NIL NIL)')
    assert envelope.subject == r'say "hi" \o/'
    assert envelope.from_ == (Address('O"Neil', '"a b"', "c.d"),)


def test_parentheses_stars_and_markers_in_strings() -> None:
    assert parse(with_subject(b'"smile :) 5 * 3 = 15 {5} ((("')).subject == "smile :) 5 * 3 = 15 {5} ((("


# ---------------------------------------------------------------- literals


def test_literals_in_any_field() -> None:
    text = (
        b'({31}\r\n {8}\r\n (({6}\r\n NIL "a" "b.c")("D" NIL "d" "e.f")) (({6}\r\n NIL "a" "b.c")("D" NIL "d" "e.f"))'
        b' (({6}\r\n NIL {1}\r\n "b.c")) ((NIL NIL {1+}\r\n {3}\r\n)) NIL NIL {3}\r\n {3}\r\n)'
    )
    literals = (
        b"before",
        b"Wed, 17 Jul 1996 02:44:25 -0700",
        b'say "hi"',
        b'O"Neil',
        b'O"Nail',
        b'O"Noil',
        b"a",
        b"t",
        b"u.v",
        b"<i>",
        bytearray(b"<m>"),
        b"behind",
    )
    envelope = parse(text, literals, 1)
    assert envelope.message_id == "<m>"
    assert envelope.date == datetime(1996, 7, 17, 9, 44, 25, tzinfo=UTC)
    assert envelope.subject == 'say "hi"'
    other = Address("D", "d", "e.f")
    assert envelope.from_ == (Address('O"Neil', "a", "b.c"), other)
    # The same text as From, another literal: not the same addresses.
    assert envelope.sender == (Address('O"Nail', "a", "b.c"), other)
    assert envelope.reply_to == (Address('O"Noil', "a", "b.c"),)
    assert envelope.to == (Address("", "t", "u.v"),)
    assert envelope.in_reply_to == "<i>"


def test_the_same_literals_are_decoded_once() -> None:
    author = b'(({6}\r\n NIL "a" "b.c"))'
    envelope = parse(b"(NIL NIL " + b" ".join([author] * 3) + b" NIL NIL NIL NIL NIL)", (b'O"Neil',) * 3)
    assert envelope.reply_to is envelope.sender is envelope.from_ == (Address('O"Neil', "a", "b.c"),)


def test_a_missing_literal_is_found_when_parsing() -> None:
    with pytest.raises(ProtocolError, match="literal"):
        parse(with_subject(b"{3}\r\n"))


def test_folded_and_encoded_literals() -> None:
    envelope = parse(with_subject(b"{9}\r\n"), (b"=?utf-8?Q?a=C3=A9?=\r\n =?utf-8?Q?b?=",))
    assert envelope.subject == "aéb"


# ---------------------------------------------------------------- groups


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (b'((NIL NIL "undisclosed-recipients" NIL)(NIL NIL NIL NIL))', ()),
        (
            b'((NIL NIL "team" NIL)("A" NIL "a" "x.y")(NIL NIL "b" "x.y")(NIL NIL NIL NIL)(NIL NIL "c" "x.y"))',
            (Address("A", "a", "x.y"), Address("", "b", "x.y"), Address("", "c", "x.y")),
        ),
        (b'((NIL NIL "g" NIL)(NIL NIL NIL NIL)(NIL NIL "h" NIL)(NIL NIL NIL NIL))', ()),
        (b'((NIL NIL "root" NIL))', (Address("", "root", ""),)),
        (b'(("Local" NIL "root" NIL)("A" NIL "a" "x.y"))', (Address("Local", "root", ""), Address("A", "a", "x.y"))),
        (b"((NIL NIL NIL NIL))", ()),
        (b'(("" NIL "a" ""))', (Address("", "a", ""),)),
    ],
)
def test_groups(addresses: bytes, expected: tuple[Address, ...]) -> None:
    assert parse(with_from(addresses)).from_ == expected
    # The same through the tree, which two spaces are enough for.
    assert parse(with_from(addresses).replace(b"(NIL NIL (", b"(NIL  NIL (", 1)).from_ == expected


# ---------------------------------------------------------------- what servers get wrong


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (b'"5" disk"', '5" disk'),
        (b'"say "hello" twice"', 'say "hello" twice'),
        (b'""quoted""', '"quoted"'),
        (b'"odd " one ( here"', 'odd " one ( here'),
        (rb'"path C:\"', "path C:\\"),
        (rb'"share \\server\files\"', r"share \server\files" + "\\"),
        (b'"a "(b" c"', 'a "(b" c'),
        (b'"("', "("),
    ],
)
def test_strings_that_are_not_escaped(subject: bytes, expected: str) -> None:
    text = b"* 1 FETCH (FLAGS () ENVELOPE " + with_subject(subject) + b" UID 2)"
    scan = scan_fetch(text)
    envelope = parse_envelope(text, (), scan.items["ENVELOPE"])
    assert scan.uid == 2
    assert envelope.from_ == (Address("A B", "a", "b.c"),)
    assert envelope.message_id == "<a@b>"
    assert envelope.subject.replace("\\\\", "\\") == expected


def test_a_display_name_that_is_not_escaped() -> None:
    envelope = parse(b'(NIL {2}\r\n (("Bob "B" Lee" NIL "bob" "x.y")) NIL NIL NIL NIL NIL NIL "<a@b>")', (b"hi",))
    assert envelope.from_ == (Address('Bob "B" Lee', "bob", "x.y"),)
    assert envelope.subject == "hi"


@pytest.mark.parametrize(
    "text",
    [
        b'( NIL  "s" ((nil Nil "a" "b.c") (NIL NIL "d" "e.f") ) NIL NIL NIL () NIL NIL NIL )',
        b'(NIL "s"((NIL NIL "a" "b.c")(NIL NIL "d" "e.f"))NIL NIL NIL NIL NIL NIL NIL)',
        b'(NIL "s" ((NIL NIL "a" "b.c")\r(NIL NIL "d" "e.f")) NIL NIL NIL NIL NIL NIL NIL)'.replace(b"\r", b" "),
    ],
)
def test_odd_spacing(text: bytes) -> None:
    envelope = parse(text)
    assert envelope.subject == "s"
    assert envelope.from_ == (Address("", "a", "b.c"), Address("", "d", "e.f"))
    assert envelope.cc == ()


def test_a_bad_date_costs_only_the_date() -> None:
    assert parse(b'("no date" "s" NIL NIL NIL NIL NIL NIL NIL NIL)') == Envelope(subject="s")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"NIL",
        b"()",
        b'(NIL "s")',
        b"(" + b" ".join([b"NIL"] * 10) + b") x",
        b'("secret words that never end NIL NIL NIL NIL NIL NIL NIL NIL NIL)',
        b"(" * 200,
    ],
)
def test_the_hopeless_is_an_error_without_content(text: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse(text)
    assert "secret" not in str(caught.value)


ANN = Address("Ann", "ann", "example.org")
_ANN = b'(("Ann" NIL "ann" "example.org"))'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # An address list with a NIL in it (MailKit 991).
        (with_from(b'(NIL ("Ann" NIL "ann" "example.org"))'), Envelope(from_=[ANN])),
        (with_from(b'(NIL ({3}\r\n NIL "ann" "example.org")NIL)'), Envelope(from_=[ANN])),
        # Nine fields, without In-Reply-To; eight, without any message-id (QQ: MailKit 279, 669, 932).
        (
            b'(NIL "s" ' + b" ".join([_ANN] * 4) + b' NIL NIL "<a@b>")',
            Envelope(None, "s", [ANN], [ANN], [ANN], [ANN], message_id="<a@b>"),
        ),
        (b'(NIL "s" ' + b" ".join([_ANN] * 3) + b" NIL NIL NIL)", Envelope(None, "s", [ANN], [ANN], [ANN])),
        (b"(" + b" ".join([b"NIL"] * 9) + b")", Envelope()),
        (b'(NIL "s" ' + _ANN + b")", Envelope(None, "s", [ANN])),
        # A string too many behind the subject (Gmail: MailKit 496), a field too many at the end.
        (
            b'(NIL "s" "HTML" ' + _ANN + b' NIL NIL NIL NIL NIL NIL "<a@b>")',
            Envelope(None, "s", [ANN], message_id="<a@b>"),
        ),
        (
            b'(NIL "s" ' + _ANN + b' NIL NIL NIL NIL NIL "<i@j>" "<a@b>" NIL)',
            Envelope(None, "s", [ANN], in_reply_to="<i@j>", message_id="<a@b>"),
        ),
        (b"(" + b" ".join([b"NIL"] * 11) + b")", Envelope()),
        # An address of three, of five, of lists; one without the list around it, one that is a string.
        (with_from(b'(("x" NIL "y")("Ann" NIL "ann" "example.org"))'), Envelope(from_=[ANN])),
        (with_from(b'(("Ann" NIL "ann" "example.org" NIL))'), Envelope(from_=[ANN])),
        (with_from(b'((NIL NIL ("b") NIL)("Ann" NIL "ann" "example.org"))'), Envelope(from_=[ANN])),
        (with_from(b'("Ann" NIL "ann" "example.org")'), Envelope(from_=[ANN])),
        (with_from(b'"a@b"'), Envelope(from_=[Address("", "a", "b")])),
        (with_from(b'("a@b" ("Ann" NIL "ann" "example.org"))'), Envelope(from_=[Address("", "a", "b"), ANN])),
        (with_from(b'"a"'), Envelope()),
        # A list where a string belongs.
        (
            b'(("x") "s" ' + _ANN + b' NIL NIL NIL NIL NIL (NIL) "<a@b>")',
            Envelope(None, "s", [ANN], message_id="<a@b>"),
        ),
    ],
)
def test_the_fields_that_are_there(text: bytes, expected: Envelope) -> None:
    envelope = parse(text, (b"Ann",))
    assert envelope == expected
    assert (not envelope.notes) == (text == with_from(b'("Ann" NIL "ann" "example.org")'))
    assert {note.kind for note in envelope.notes} <= {"envelope"}
    assert not any(word in note.detail for note in envelope.notes for word in ("ann", "Ann", "example"))


@pytest.mark.parametrize("fields", [b'(NIL "s" () () () () () () NIL NIL)', b'(NIL "s" NIL NIL NIL NIL NIL NIL "" "")'])
def test_other_ways_to_say_nothing_are_no_note(fields: bytes) -> None:
    """Mail.ru and the bridges of Proton write empty lists, where NIL belongs."""
    assert (parse(fields), parse(fields).notes) == (Envelope(subject="s"), ())


@pytest.mark.parametrize("name", [b'"A\nB"', b'"A\n B" NIL "a" "b.c")("x"', b'"\n"'])
def test_a_bare_line_feed_in_an_address(name: bytes) -> None:
    found = parse(with_from(b"((" + name + b' NIL "a" "b.c"))')).from_
    assert found[-1].email == "a@b.c"
    assert parse(with_from(b"((" + name + b' NIL "a" "b.c")({1}\r\n NIL "d" "e.f"))'), (b"x",)).from_[-1].name == "x"


@pytest.mark.no_cover
def test_very_many_addresses() -> None:
    count = 30_000
    envelope = parse(with_from(b"(" + b'("N" NIL "a" "example.org")' * count + b")"))
    assert len(envelope.from_) == count
    assert set(envelope.from_) == {Address("N", "a", "example.org")}
    longer = with_from(b"(" + b'("N" NIL "a" "example.org")' * 2 * count + b")")
    assert len(longer) > module._LONG_ENVELOPE
    assert len(parse(longer).from_) == 2 * count


# ---------------------------------------------------------------- any envelope there and back

_CHARACTERS = st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"])
_TEXT = st.none() | st.text(_CHARACTERS, max_size=12)
_SOME_TEXT = st.text(_CHARACTERS, min_size=1, max_size=12)
_ADDRESS = st.tuples(_TEXT, _SOME_TEXT, _SOME_TEXT)
_LIST = st.lists(_ADDRESS, max_size=3)


class Writer:
    """Writes values as a server may: NIL, quoted or literal, by turns that the test chooses."""

    def __init__(self, choices: Sequence[bool]) -> None:
        self.choices = list(choices)
        self.literals: list[bytes] = []

    def string(self, value: str | None) -> bytes:
        if value is None:
            return b"NIL"
        data = value.encode()
        if self.choices and self.choices.pop():
            self.literals.append(data)
            return b"{%d}\r\n" % len(data)
        return b'"' + data.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'

    def addresses(self, entries: list[tuple[str | None, str, str]]) -> bytes:
        if not entries:
            return b"NIL"
        return (
            b"("
            + b"".join(
                b"(" + b" ".join([self.string(name), b"NIL", self.string(mailbox), self.string(host)]) + b")"
                for name, mailbox, host in entries
            )
            + b")"
        )


@given(_TEXT, st.lists(_LIST, min_size=6, max_size=6), _TEXT, st.lists(st.booleans(), max_size=60), st.booleans())
def test_any_envelope_is_read_back(
    subject: str | None,
    lists: list[list[tuple[str | None, str, str]]],
    message_id: str | None,
    choices: list[bool],
    same_authors: bool,
) -> None:
    if same_authors:
        lists[1] = lists[2] = lists[0]
    writer = Writer(choices)
    pieces = [b"NIL", writer.string(subject), *map(writer.addresses, lists), b"NIL", writer.string(message_id)]
    expected = [
        tuple(Address(decode_header((name or "").encode()), mailbox, host) for name, mailbox, host in entries)
        for entries in lists
    ]
    for space in (b" ", b"  "):
        envelope = parse(b"(" + space.join(pieces) + b")", writer.literals)
        assert envelope.subject == decode_header((subject or "").encode())
        found = [envelope.from_, envelope.sender, envelope.reply_to, envelope.to, envelope.cc, envelope.bcc]
        assert found == expected
        assert envelope.message_id == (message_id or "").strip()


@given(
    st.lists(
        st.sampled_from(rb'NIL|(|)|"| |"a"|((|))|(("a" NIL "b" "c"))|\|\"|x|{'.split(b"|"))
        | st.sampled_from([b"{1}\r\n", b"\xff", b"\r", b"\0", b"|"]),
        max_size=30,
    ),
    st.integers(0, 4),
)
def test_nothing_but_protocol_error_comes_out(pieces: list[bytes], count: int) -> None:
    for text in (b"".join(pieces), b"(" + b" ".join(pieces) + b")", with_subject(b"".join(pieces))):
        try:
            envelope = parse(text, (b"x",) * count)
        except ProtocolError:
            continue
        repr(envelope)


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (b'((NIL NIL "root" "MISSING_DOMAIN"))', ["root"]),
        (b'((NIL NIL "Smith" "MISSING_DOMAIN")("John" NIL "john" "example.org"))', ["Smith, John <john@example.org>"]),
        (b'((NIL NIL "root" ".MISSING-HOST-NAME."))', ["root"]),
        (b'((NIL NIL "INVALID_ADDRESS" ".SYNTAX-ERROR."))', []),
        (b'((NIL NIL "root" "unspecified-domain"))', ["root"]),
        (b'(("" NIL "" ""))', []),
        (b'(("Ann" NIL "" ""))', ["Ann"]),
    ],
)
def test_what_servers_write_for_a_missing_part(addresses: bytes, expected: list[str]) -> None:
    text = b"(NIL NIL " + addresses + b" NIL NIL NIL NIL NIL NIL NIL)"
    envelope = parse_envelope(text, (), ItemSpan(0, len(text), 0))
    assert [str(address) for address in envelope.from_] == expected
