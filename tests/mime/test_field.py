"""Fields of parts as the grammar has them, and as they come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imapipe.mime.field import boundary_of, charset_of, content_type_of, find_field, parameters_of, word_of


@pytest.mark.parametrize(
    ("value", "content_type", "parameters"),
    [
        (b"text/plain; charset=utf-8", "text/plain", {"charset": "utf-8"}),
        (b'TEXT/Html;\r\n\tCharset = "utf-8" ; format=flowed', "text/html", {"charset": "utf-8", "format": "flowed"}),
        (b"text/plain (plain) ; charset=utf-8 (Unicode)", "text/plain", {"charset": "utf-8"}),
        (b'application/pdf; name="a;b.pdf"', "application/pdf", {"name": "a;b.pdf"}),
        (b"a/b; name*0*=utf-8''%C3%A9;\r\n name*1=x.pdf", "a/b", {"name": "éx.pdf"}),
        (b"a/b; name*=iso-8859-1'de'%E9.pdf; name=old.pdf", "a/b", {"name": "é.pdf"}),
        (b'a/b; name="=?utf-8?B?w6k=?=.pdf"', "a/b", {"name": "é.pdf"}),
        (b"a/b; name==?utf-8?B?dGVzdC50eHQ=?=", "a/b", {"name": "test.txt"}),
        (b"a/b;\r\n\tname*0=\"1 N 'Trick' R.\";\r\n\tname*1=eml", "a/b", {"name": "1 N 'Trick' R.eml"}),
        # No semicolon; one too many; only parameters; only a word.
        (b"text/plain charset=utf-8", "text/plain", {"charset": "utf-8"}),
        (b"text/plain charset=utf-8 format=flowed", "text/plain", {"charset": "utf-8", "format": "flowed"}),
        (b'text/html; charset="utf-8" format=flowed', "text/html", {"charset": "utf-8", "format": "flowed"}),
        (b"text/plain;; charset=utf-8;", "text/plain", {"charset": "utf-8"}),
        (b"charset=utf-8", "text/plain", {"charset": "utf-8"}),
        (b"text", "text/plain", {"text": ""}),
        (b"", "text/plain", {}),
        # Parameters without a value, and a value that is not quoted, or whose quotes are odd.
        (b"text/plain; name*", "text/plain", {"name": ""}),
        (b"text/plain; charset", "text/plain", {"charset": ""}),
        (b"text/plain; charset=", "text/plain", {"charset": ""}),
        (b"a/b; name=my file.pdf", "a/b", {"name": "my file.pdf"}),
        (b'a/b; name="a "b" c.pdf"; x=y', "a/b", {"name": 'a "b" c.pdf', "x": "y"}),
        (b'a/b; name="C:\\temp\\a.txt"', "a/b", {"name": "C:\\temp\\a.txt"}),
        (b'a/b; name="a\\"b\\\\c"', "a/b", {"name": 'a"b\\c'}),
        (b'text/plain; charset="utf-8', "text/plain", {"charset": "utf-8"}),
        (b'text/plain; charset="utf-8; format=flowed', "text/plain", {"charset": "utf-8", "format": "flowed"}),
        (b'"text/html"; charset=utf-8', "text/html", {"charset": "utf-8"}),
        (b'text/plain; charset="utf-8\0"', "text/plain", {"charset": "utf-8\0"}),
        ("a/b; name=é.pdf".encode("latin-1"), "a/b", {"name": "é.pdf"}),
    ],
)
def test_content_type(value: bytes, content_type: str, parameters: dict[str, str]) -> None:
    assert content_type_of(value) == content_type
    found = parameters_of(value)
    assert {name: found[name] for name in parameters} == parameters
    assert charset_of(value).decode() == parameters.get("charset", "")


@pytest.mark.parametrize(
    ("value", "boundary"),
    [
        (b'multipart/mixed; boundary="=_a b"', b"=_a b"),
        (b"multipart/mixed;\r\n\tboundary=abc ", b"abc"),
        (b"multipart/mixed boundary=abc", b"abc"),
        (b"multipart/mixed; boundary = abc; charset=x", b"abc"),
        (b'multipart/mixed; type="text/html"; boundary="----=_Part; x "', b"----=_Part; x"),
        (b"multipart/mixed; boundary*0=ab; boundary*1=cd", b"abcd"),
        (b"multipart/mixed; BOUNDARY*=us-ascii''a%3Db", b"a=b"),
        (b"multipart/mixed; boundary*0*=us-ascii''%3D_7ea-803;\r\n boundary*1*=3-b65_%3D", b"=_7ea-8033-b65_="),
        (b'multipart/mixed; boundary="abc', b"abc"),
        (b"multipart/mixed; boundary=", b""),
        (b"multipart/mixed", b""),
    ],
)
def test_boundary(value: bytes, boundary: bytes) -> None:
    assert boundary_of(value) == boundary


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (b"Base64", "base64"),
        (b" quoted-printable (comment)", "quoted-printable"),
        (b'attachment;\r\n filename="x"', "attachment"),
        (b'"inline"', "inline"),
        (b"7bit;", "7bit"),
        (b"\xff", "\ufffd"),
    ],
)
def test_the_first_word(value: bytes, word: str) -> None:
    assert word_of(value) == word_of(value) == word


def test_fields_are_found_by_their_whole_name() -> None:
    header = b"Content-Type-X: a\r\nX: b\r\n content-type: c\r\nCONTENT-TYPE : d\r\n e\r\nContent-Type: f\r\n"
    assert find_field(header, header.lower(), b"content-type") == b"d\r\n e"
    assert find_field(header[5:], header[5:].lower(), b"content-id") is None
    assert find_field(b"Content-Type: x", b"content-type: x", b"content-type") == b"x"


PIECES = st.lists(
    st.sampled_from(
        [*[b'"', b"\\", b";", b"=", b" ", b"name", b"*0*", b"charset", b"a/b"], b"\r\n ", b"(", b")", b"\0"]
    )
    | st.binary(max_size=3),
    max_size=30,
).map(b"".join)


@given(PIECES)
def test_any_bytes_give_parameters_that_are_text(value: bytes) -> None:
    for name, found in parameters_of(value).items():
        (name + found).encode()
    content_type_of(value).encode()
    boundary_of(value)
    word_of(value).encode()


@pytest.mark.parametrize(
    "piece", [b'"', b'\\"', b'"\\', b";", b"a=b ", b" a=", b'a="', b"(", b"=", b"  ", b"a*0=b;", b'"a"']
)
def test_hostile_values_are_linear(piece: bytes) -> None:
    value = b"a/b; " + piece * (1_000_000 // len(piece))
    assert sum(map(len, parameters_of(value).values())) <= len(value)
    boundary_of(value)
