"""Addresses of headers, as the grammar has them and as they come."""

from __future__ import annotations

from email.headerregistry import Address as Written
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.growth import pumped, superlinear
from imapipe.wire.address import Address, decode_addresses, iter_addresses, parse_addresses

ANN = ("Ann", "ann@example.org")
JDOE = ("", "jdoe@test.example")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        # RFC 5322, appendix A.
        (b"John Doe <jdoe@machine.example>", [("John Doe", "jdoe@machine.example")]),
        (b'"Joe Q. Public" <john.q.public@example.com>', [("Joe Q. Public", "john.q.public@example.com")]),
        (
            b'Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>, "Giant; \\"Big\\" Box" <s@x.example>',
            [
                *[("Mary Smith", "mary@x.test"), ("", "jdoe@example.org"), ("Who?", "one@y.test")],
                ('Giant; "Big" Box', "s@x.example"),
            ],
        ),
        (b"A Group:Ann <ann@example.org>,Bob <bob@example.org>;", [ANN, ("Bob", "bob@example.org")]),
        (b"Undisclosed recipients:;", []),
        (b"Pete(A \\) chap) <pete(account)@silly.test(host)>", [("Pete (A \\) chap account host)", "pete@silly.test")]),
        (b"Joe Q. Public <john.q.public@example.com>", [("Joe Q. Public", "john.q.public@example.com")]),
        (b"Mary <@node.test:mary@example.net>, , jdoe@test   . example", [("Mary", "mary@example.net"), JDOE]),
        (b"<@a.test,@b.test:joe@c.test>", [("", "joe@c.test")]),
        # A comma, brackets, colons, commas that are not quoted.
        (b"Smith, John <john@example.org>", [("Smith, John", "john@example.org")]),
        (b"Smith, John, Jr. <j@example.org>, Ann <ann@example.org>", [("Smith, John, Jr.", "j@example.org"), ANN]),
        (b"Smith, <john@example.org>", [("Smith", "john@example.org")]),
        (b"Ann [x] <ann@example.org>", [("Ann [x]", "ann@example.org")]),
        (b"Ann Smith (ann@example.org)", [("Ann Smith", "ann@example.org")]),
        (b"Ann (home) (ann@example.org)", [("Ann (home)", "ann@example.org")]),
        (b"ann@example.org (old@example.org)", [("old@example.org", "ann@example.org")]),
        (b"Ann Smith (a@b c)", [("Ann Smith (a@b c)", "")]),
        # hypermail 85, StrongGrid 323, pecl-mailparse 3: what stands in quotes is a name.
        (b'"Ann (a@example.net)" <ann@example.org>', [("Ann (a@example.net)", "ann@example.org")]),
        (b'"Doe, John <j@example.net>" <j@example.org>', [("Doe, John <j@example.net>", "j@example.org")]),
        (b'"Alan \\"Crane\\" Woke" <a@example.org>', [('Alan "Crane" Woke', "a@example.org")]),
        (b'"Alan Crane\\" Woke" <a@example.org>', [('Alan Crane" Woke', "a@example.org")]),
        (b"Ann <ann@example.org> Smith", [("Ann Smith", "ann@example.org")]),
        (b"[Ann] <ann@example.org>", [("[Ann]", "ann@example.org")]),
        (b"Sales: Ann <ann@example.org>", [ANN]),
        (b"=?utf-8?Q?Smith,_John?= <john@example.org>", [("Smith, John", "john@example.org")]),
        # Raw 8-bit, in both charsets that it comes in.
        ("Müller <m@example.org>".encode(), [("Müller", "m@example.org")]),
        ("Müller <m@example.org>".encode("latin-1"), [("Müller", "m@example.org")]),
        ('"Müller, A" <müller@example.org>'.encode("latin-1"), [("Müller, A", "müller@example.org")]),
        # Encoded words: in quotes, in comments, with the address in them.
        (b'"=?utf-8?q?M=C3=BCller?=" <m@example.org>', [("Müller", "m@example.org")]),
        (b"=?utf-8?q?M=C3=BC?=\r\n =?utf-8?q?ller?= <m@example.org>", [("Müller", "m@example.org")]),
        (b"m@example.org (=?utf-8?q?M=C3=BCller?=)", [("Müller", "m@example.org")]),
        (b"=?utf-8?Q?Ann_=3Cann=40example.org=3E?=", [ANN]),
        (b"=?utf-8?Q?Ann_<ann@example.org>?=, bob@example.org", [ANN, ("", "bob@example.org")]),
        (b"=?utf-8?q?M=C3=BCller?= m@example.org", [("Müller", "m@example.org")]),
        (b"Ann <=?utf-8?Q?ann=40example.org?=>", [ANN]),
        (b'=?UTF-8?Q?"H=5FA_f=C3=BCr_?=\r\n =?UTF-8?Q?B"_<h@example.org>?=', [("H_A für B", "h@example.org")]),
        (b"=?utf-8?B?IndhcnRhYiIgPHdhckB0YWIuY29tPg==?=", [("wartab", "war@tab.com")]),
        (b"=?iso-8859-1?Q?Celentano;_R=EDo.?= <r@example.org>", [("Celentano; Río.", "r@example.org")]),
        (b"=?ISO-8859-1?Q?Moore=2C_Keith?= <k@example.org>", [("Moore, Keith", "k@example.org")]),
        # Brackets that are missing or doubled.
        (b"Ann <ann@example.org", [ANN]),
        (b"Ann <ann@example.org, Bob <bob@example.org>", [ANN, ("Bob", "bob@example.org")]),
        (b"Ann ann@example.org>", [ANN]),
        (b'"Ann" ann@example.org', [ANN]),
        (b"Ann <<ann@example.org>>", [ANN]),
        (b"Ann <mailto:ann@example.org>", [ANN]),
        (b"mailto:ann@example.org", [("", "ann@example.org")]),
        (b"<ann@example.org> Ann", [ANN]),
        # Names that look like addresses, and comments for names.
        (b"ann@example.org <ann@example.org>", [("ann@example.org", "ann@example.org")]),
        (b"ann@example.org (Ann)", [ANN]),
        (b"Ann (work) <ann@example.org>", [("Ann (work)", "ann@example.org")]),
        (b"Ann (a (b) c) <ann@example.org>", [("Ann (a (b) c)", "ann@example.org")]),
        (b"Ann (work <ann@example.org>", [("Ann work", "ann@example.org")]),
        (b"Ann) <ann@example.org>", [ANN]),
        (b'Ann" <ann@example.org>', [ANN]),
        # Other ends and separators; spaces; domain literals; odd local parts.
        (b"ann@example.org; bob@example.org", [("", "ann@example.org"), ("", "bob@example.org")]),
        (b"Ann < ann @ example.org >", [ANN]),
        (b"ann @ example.org", [("", "ann@example.org")]),
        (b"Ann <ann@[IPv6:2001:db8::1]>", [("Ann", "ann@[IPv6:2001:db8::1]")]),
        (b'"ann smith"@example.org', [("", "ann smith@example.org")]),
        (b"ann@example.org,,bob@example.org,", [("", "ann@example.org"), ("", "bob@example.org")]),
        # No address at all, or only a part of one.
        (b"undisclosed-recipients:;", []),
        (b"undisclosed-recipients: ;", []),
        (b"undisclosed-recipients:", []),
        (b'"undisclosed-recipients:;"', []),
        (b"<undisclosed-recipients:;>", []),
        (b"a: b: ;", []),
        (b"", []),
        (b" \r\n ", []),
        (b"<>", []),
        (b"MAILER-DAEMON <>", [("MAILER-DAEMON", "")]),
        (b"Ann Smith", [("Ann Smith", "")]),
        (b"root", [("", "root")]),
        (b"root, ann@example.org", [("", "root"), ("", "ann@example.org")]),
        (b"Cron <root>", [("Cron", "root")]),
        (b"=?utf-8?q?nobody?=", [("nobody", "")]),
    ],
)  # fmt: skip
def test_headers(raw: bytes, expected: list[tuple[str, str]]) -> None:
    found = parse_addresses(raw)
    assert [(address.name, address.email) for address in found] == expected
    assert all(found)


_NAME = st.text('abc XYZé.,;:<>@()[]"\\', max_size=12)
_LOCAL = st.from_regex(r"[a-z0-9.+]{1,8}", fullmatch=True).filter(
    lambda text: ".." not in text and text.strip(".") == text
)


@given(st.lists(st.tuples(_NAME, _LOCAL), min_size=1, max_size=5))
def test_what_the_standard_library_writes_is_read_back(people: list[tuple[str, str]]) -> None:
    raw = ",\r\n ".join(str(Written(name, local, "example.org")) for name, local in people)
    found = parse_addresses(raw.encode())
    assert [(a.name, a.email) for a in found] == [(name.strip(), f"{local}@example.org") for name, local in people]


@given(
    st.one_of(
        st.binary(max_size=80), st.text('aA<>@,:;()"\\ []=?q\xe9', max_size=60).map(lambda t: t.encode("latin-1"))
    )
)
def test_any_bytes_give_addresses_that_are_something(raw: bytes) -> None:
    for address in parse_addresses(raw):
        assert any(address)
        str(address).encode()
    assert tuple(iter_addresses(raw))[:1] == parse_addresses(raw)[:1]


HOSTILE = [
    *[b"a@b, ", b"a,", b"(", b"<", b'"', b'\\"', b'"\\', b"@[", b"=?a?q?", b"=?", b"x:", b"a <b@c", b")(", b'("', b" "],
    *[b"@", b"<@a,", b'"a"', b'"@".', b" .@", b"a@ . ", b"a b "],
]


@pytest.mark.no_cover
@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_headers_are_linear(piece: bytes) -> None:
    # A second scan for each piece would be up to 10**9 steps.
    sizes = (500, 4_000, 32_000)
    make = partial(pumped, b"", piece, b"")
    assert superlinear(parse_addresses, make, sizes) is None
    raw = make(sizes[-1])
    found = parse_addresses(raw)
    assert sum(len(address.email) + len(address.name) for address in found) <= 3 * len(raw)


def test_the_first_of_a_million_addresses_is_read_alone() -> None:
    """All of them are read in `tests/models/test_hostile_mail.py`."""
    found = iter_addresses(b"a@b," * 1_000_000)
    assert next(found) == Address("", "a", "b")


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        # Dovecot
        ([(None, b"root", b"MISSING_DOMAIN")], [("", "root")]),
        ([(b"Ann", b"MISSING_MAILBOX", b"MISSING_DOMAIN")], [("Ann", "")]),
        ([(None, b"MISSING_MAILBOX", b"MISSING_DOMAIN")], []),
        (
            [(None, b"Smith", b"MISSING_DOMAIN"), (b"John", b"john", b"example.org")],
            [("Smith, John", "john@example.org")],
        ),
        (
            [(None, b"a", b"b"), (None, b"", b"MISSING_DOMAIN"), (b"Ann", b"ann", b"example.org")],
            [("", "a@b"), ANN],
        ),
        # UW-IMAP, Cyrus
        ([(None, b"root", b".MISSING-HOST-NAME.")], [("", "root")]),
        ([(None, b"INVALID_ADDRESS", b".SYNTAX-ERROR.")], []),
        ([(None, b"root", b"unspecified-domain")], [("", "root")]),
        # Servers that write "" for what is not there.
        ([(b"", b"", b"")], []),
        ([(b"Ann", None, None)], [("Ann", "")]),
        ([(b"", b"undisclosed-recipients", None), (None, None, None)], []),
        ([(None, b"list", None), (b"Ann", b"ann", b"example.org"), (None, None, None)], [ANN]),
    ],
)
def test_addresses_of_an_envelope(
    pieces: list[tuple[bytes | None, bytes | None, bytes | None]], expected: list[tuple[str, str]]
) -> None:
    assert [(address.name, address.email) for address in decode_addresses(pieces)] == expected


def test_an_address_as_text() -> None:
    assert str(Address("Ann", "ann", "example.org")) == "Ann <ann@example.org>"
    assert str(Address("", "ann", "example.org")) == "ann@example.org"
    assert str(Address("Ann", "", "")) == "Ann"
