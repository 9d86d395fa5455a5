"""Hostile mail through `Message`: bounded, linear, no exception but the documented ones, no lone surrogate."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.growth import superlinear
from imapipe.errors import NotFetched, ProtocolError
from imapipe.models.fetched import FoundItem, MessageContext
from imapipe.models.message import Message
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.response.token import ItemSpan

WHOLE = MessageContext("INBOX", 7, Fetch("full"))


def whole(raw: bytes) -> Message:
    """A message that was fetched whole."""
    text = b"{%d}\r\n" % len(raw)
    found = {"BODY[]": FoundItem(text, (raw,), ItemSpan(0, len(text), 0))}
    return Message.from_items(WHOLE, 1, len(raw), found, (raw,))


def described(structure: bytes, section: bytes) -> Message:
    """A message of which the structure and one section came."""
    text = structure + b"{%d}\r\n" % len(section)
    found = {
        "BODYSTRUCTURE": FoundItem(text, (section,), ItemSpan(0, len(structure), 0)),
        "BODY[1]": FoundItem(text, (section,), ItemSpan(len(structure), len(text), 0)),
    }
    return Message.from_items(MessageContext("INBOX", 7, Fetch("structure")), 1, len(text), found, (section,))


def read_content(message: Message) -> list[str]:
    """Everything that its parts say."""
    seen = [message.text, message.html]
    for attachment in message.attachments:
        seen += [attachment.filename, attachment.safe_filename, attachment.content_type, attachment.content_id]
        seen += [attachment.disposition, attachment.encoding]
        assert attachment.safe_filename
        assert attachment.size >= 0
        if attachment.is_fetched:
            assert attachment.size == len(attachment.content)
    return seen


def read_header(message: Message) -> list[str]:
    """Everything that its header says."""
    seen = [message.subject, *message.headers, *[value for _, value in message.headers.items()]]
    for name in ("From", "Sender", "To", "Cc", "Reply-To"):
        for address in message.headers.addresses(name):
            assert any(address)
            seen += address
    seen.append(str(message.sender))
    if message.date is not None:
        # A moment that every consumer can use.
        seen.append(message.date.astimezone().isoformat())
        assert message.date.tzinfo is not None
    return seen


def nested(depth: int) -> bytes:
    head = b"Content-Type: multipart/mixed; boundary=b0\r\n\r\n"
    levels = b"".join(
        b"--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n" % (level, level + 1) for level in range(depth)
    )
    return (
        head + levels + b"--b%d\r\n\r\nhello\r\n" % depth + b"".join(b"--b%d--\r\n" % n for n in range(depth, -1, -1))
    )


MIXED = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n"
CONTENT: dict[str, Callable[[int], bytes]] = {
    "10,000 deep": lambda size: nested(size // 60),
    "100,000 parts": lambda size: MIXED + b"--x\r\n\r\na\r\n" * (size // 10),
    "100,000 attachments": lambda size: MIXED + b"--x\r\nContent-Type: a/b; name=c\r\n\r\na\r\n" * (size // 38),
    "alternatives": lambda size: MIXED.replace(b"mixed", b"alternative") + b"--x\r\n\r\na\r\n" * (size // 10),
    "related": lambda size: MIXED.replace(b"mixed", b"related") + b"--x\r\n\r\na\r\n" * (size // 10),
    "messages": lambda size: MIXED + b"--x\r\nContent-Type: message/rfc822\r\n\r\nA: b\r\n\r\n" * (size // 42),
    "boundaries that hardly differ": lambda size: MIXED + (b"--xx\r\n" + b"--" * 30) * (size // 66),
    "hyphens": lambda size: MIXED + b"--x\r\n\r\n" + b"-" * size,
    "soft breaks": lambda size: b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"= \t" * (size // 3),
    "padding": lambda size: b"Content-Transfer-Encoding: base64\r\n\r\n" + b"YQ==" * (size // 4),
    "uuencode": lambda size: b"Content-Transfer-Encoding: x-uuencode\r\n\r\n" + b"begin 644 \r\n" * (size // 12),
    "parameters": lambda size: b"Content-Type: text/plain" + b"; a*%d=b" * 1 % 7 + b"; a*1*=''%C3" * (size // 12),
    "quotes": lambda size: b'Content-Type: text/plain; name="' + b'\\"' * (size // 2),
    "escapes": lambda size: b"Content-Type: text/plain; charset=iso-2022-jp\r\n\r\n" + b"\x1b$B" * (size // 3),
    "meta": lambda size: b"Content-Type: text/html\r\n\r\n" + b"<meta " * (size // 6),
}
HEADER: dict[str, Callable[[int], bytes]] = {
    "a header of 10 MB": lambda size: b"X-Long: " + b"word " * (size // 5) + b"\r\n\r\n",
    "folds": lambda size: b"Subject: a" + b"\r\n b" * (size // 4) + b"\r\n\r\n",
    "fields": lambda size: b"X: y\r\n" * (size // 6) + b"\r\n",
    "fields of one name": lambda size: b"To: a@b.c\r\n" * (size // 11) + b"\r\n",
    "a million addresses": lambda size: b"From: " + b"a@b.c," * (size // 6) + b"\r\n\r\n",
    "addresses with names": lambda size: b"From: " + b'"x" <a@b.c>, ' * (size // 13) + b"\r\n\r\n",
    "names that do not end": lambda size: b"From: " + b"a, b <" * (size // 6) + b"\r\n\r\n",
    "groups": lambda size: b"From: " + b"g:a@b;" * (size // 6) + b"\r\n\r\n",
    "comments": lambda size: b"From: " + b"(" * size + b"\r\n\r\n",
    "comments that end": lambda size: b"From: " + b"(" * (size // 2) + b")" * (size // 2) + b" a@b\r\n\r\n",
    "quotes in a name": lambda size: b'From: "' + b'\\"' * (size // 2) + b"\r\n\r\n",
    "encoded words": lambda size: b"Subject: " + b"=?utf-8?q?=C3?= " * (size // 16) + b"\r\n\r\n",
    "words that do not end": lambda size: b"Subject: " + b"=?utf-8?q?" * (size // 10) + b"\r\n\r\n",
    "a date": lambda size: b"Date: " + b"Mon, 1 (" * (size // 8) + b"\r\n\r\n",
    "a date of digits": lambda size: b"Date: 1 Jan " + b"2" * size + b"\r\n\r\n",
}


# What is quadratic takes some ten thousand million steps for the last of them.
SIZES = (4_000, 32_000, 256_000)


@pytest.mark.no_cover
@pytest.mark.parametrize("name", CONTENT)
def test_content_takes_linear_time(name: str) -> None:
    assert superlinear(lambda raw: read_content(whole(raw)), CONTENT[name], SIZES) is None


@pytest.mark.no_cover
@pytest.mark.parametrize("name", HEADER)
def test_headers_take_linear_time(name: str) -> None:
    assert superlinear(lambda raw: read_header(whole(raw)), HEADER[name], SIZES) is None


@pytest.mark.parametrize("name", CONTENT)
def test_hostile_content_has_values(name: str) -> None:
    raw = CONTENT[name](20_000)
    assert sum(map(len, read_content(whole(raw))[:2])) <= 2 * len(raw)


@pytest.mark.parametrize("name", HEADER)
def test_hostile_headers_have_values(name: str) -> None:
    for value in read_header(whole(HEADER[name](20_000))):
        value.encode()


@pytest.mark.slow
@pytest.mark.no_cover
def test_the_sizes_that_were_asked_for() -> None:
    assert whole(nested(10_000)).text == "hello"
    assert len(whole(MIXED + b"--x\r\nContent-Type: a/b\r\n\r\na\r\n" * 100_000).attachments) == 100_000
    assert whole(MIXED + b"--x\r\n\r\na\r\n" * 100_000).text.count("a") == 100_000
    assert len(whole(b"Subject: " + b"word " * 2_000_000 + b"\r\n\r\nx").subject) == 9_999_999
    assert len(whole(b"From: " + b"a@b.c, " * 1_000_000 + b"\r\n\r\n").headers.addresses("From")) == 1_000_000


PIECE = st.sampled_from(
    [
        *(b"From: ", b"To: ", b"Date: ", b"Subject: ", b"Sender: ", b"Content-Type: ", b"Content-Disposition: "),
        *(b"Content-Transfer-Encoding: ", b"base64", b"quoted-printable", b"x-uuencode", b"attachment; "),
        *(b"text/plain; ", b"text/html; ", b"message/rfc822", b"image/png; ", b"multipart/mixed; ", b"begin 644 a"),
        *(b"multipart/related; ", b"multipart/alternative; ", b"boundary=x", b"boundary=", b"charset=", b"utf-8"),
        *(b"utf-7", b"utf-16", b"hz", b"iso-2022-jp", b"\0", b"name*0*=utf-8''%ed%a0%80", b"filename=", b'"', b"\\"),
        *(b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\r\n--x\r\n", b"\r\n--x--\r\n", b" ", b";", b",", b":", b"(", b")"),
        *(b"=?utf-8?b?7aCA?=", b"=?utf-7?q?+2AA-?=", b"<a@b>", b"\xed\xa0\x80", b"\xff\xfe", b"+2AA-", b"=ED=A0=80"),
        *(b"7aCA", b"\x1b$B", b"~{", b"<meta charset=utf-7>", b"../a", b"Mon, 1 Jan 2024 00:00:00 +9999", b"99"),
        *(b"31 Dec 9999 23:59:60 -2359", b"1 Jan 0001 00:00 +1400"),
    ]
)
MAIL = st.lists(PIECE | st.binary(max_size=6), max_size=30).map(b"".join) | st.binary(max_size=80)


@settings(max_examples=400)
@given(MAIL)
def test_any_bytes_are_a_mail(raw: bytes) -> None:
    message = whole(raw)
    for value in read_content(message) + read_header(message):
        value.encode()
    for attachment in message.attachments:
        inner = attachment.message
        if inner is not None:
            for value in read_content(inner) + read_header(inner):
                value.encode()


STRUCTURE = st.lists(
    st.sampled_from(
        [
            *(b"(", b")", b" ", b'"', b"NIL", b'"text"', b'"plain"', b'"html"', b'"mixed"', b'"charset"', b'"utf-8"'),
            *(b'("charset" "utf-7")', b'"base64"', b'"quoted-printable"', b"7", b"0", b"4294967296", b"\xff"),
            *(b"{1}\r\n", b'"message" "rfc822"', b'("text" "plain" NIL NIL NIL "7bit" 3 1)'),
            b'("attachment" ("filename" "=?utf-8?q?a?="))',
        ]
    )
    | st.binary(max_size=3),
    max_size=16,
).map(b"".join)


@settings(max_examples=400)
@given(STRUCTURE | STRUCTURE.map(lambda inner: b"(" + inner + b")"), st.binary(max_size=12))
def test_any_structure_raises_only_what_is_documented(structure: bytes, section: bytes) -> None:
    message = described(structure, section)
    values: list[str] = []
    for read in (lambda: read_content(message), lambda: list(message.text_sections()), lambda: [message.text]):
        try:
            values += read()  # type: ignore[no-untyped-call]  # a lambda
        except (NotFetched, ProtocolError):
            continue
    for value in values:
        value.encode()
