"""Made messages, and what is read from them, against the standard library."""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Awaitable, Callable
from email.message import Message
from typing import Any

import pytest

from imapipe.testing import Server, SyntheticMailbox, make_messages
from imapipe.testing.content import ParsedContent, Section
from imapipe.testing.mailboxes import decode_mailbox_name, encode_mailbox_name
from imapipe.testing.mime import find_part, parse_message
from imapipe.testing.server import FetchOrder
from imapipe.testing.structure import nstring, parse_addresses

Connect = Callable[[int], Awaitable[Any]]


def test_messages_are_deterministic_and_varied() -> None:
    made = list(make_messages(200, seed=7))
    assert made == list(make_messages(200, seed=7))
    assert made != list(make_messages(200, seed=8))
    assert len(set(made)) == 200
    everything = b"".join(made)
    for expected in (
        b"=?utf-8?B?",
        b"=?utf-8?Q?",
        b"multipart/alternative",
        b"multipart/mixed",
        b"message/rfc822",
        b"base64",
        b"quoted-printable",
        b"8bit",
        b'\\"',
        b"\\\\",
        b"shift_jis",
        b"caf\xe9",
        b"\r\n\r\n",
    ):
        assert expected in everything, expected
    assert all(b"\n" not in message.replace(b"\r\n", b"") for message in made)
    assert all(email.message_from_bytes(message, policy=email.policy.default)["Message-ID"] for message in made)


def test_size_is_about_what_was_asked() -> None:
    sizes = sorted(len(message) for message in make_messages(100, size=5000))
    assert 2000 < sizes[len(sizes) // 2] < 8000
    assert sizes[-1] < 20_000


def _children(message: Message) -> list[Message]:
    payload = message.get_payload()
    assert isinstance(payload, list)
    return [child for child in payload if isinstance(child, Message)]


def _decoded(message: Message) -> bytes:
    payload = message.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload


def test_parts_agree_with_the_standard_library() -> None:
    for raw in make_messages(120, seed=3):
        content = ParsedContent(raw)

        def compare(message: Message, numbers: tuple[int, ...], raw: bytes, content: ParsedContent) -> None:
            part = find_part(content.root, numbers) if numbers else content.root
            assert part is not None
            assert f"{part.maintype.decode()}/{part.subtype.decode()}".lower() == message.get_content_type()
            if message.get_content_type() == "message/rfc822":
                inner = message.get_payload(0)
                assert isinstance(inner, Message)
                assert part.children[0].header(b"subject") is not None
                if inner.is_multipart():
                    for number, child in enumerate(_children(inner), 1):
                        compare(child, (*numbers, number), raw, content)
            elif message.is_multipart():
                for number, child in enumerate(_children(message), 1):
                    compare(child, (*numbers, number), raw, content)
            else:
                # The standard library keeps a part's last line end where the boundary owns it.
                assert part.decoded(raw).rstrip(b"\r\n") == _decoded(message).rstrip(b"\r\n")

        message = email.message_from_bytes(raw)
        compare(message, () if message.is_multipart() else (1,), raw, content)


def test_sections_of_a_forwarded_message() -> None:
    inner = (
        b"Subject: inner\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n"
        b"--b\r\n\r\nfirst\r\n--b\r\nContent-Type: text/html\r\n\r\nsecond\r\n--b--\r\n"
    )
    raw = (
        b"Subject: outer\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n"
        b"--a\r\nContent-Type: text/plain\r\n\r\nhello\r\n"
        b"--a\r\nContent-Type: message/rfc822\r\n\r\n" + inner + b"\r\n--a--\r\n"
    )
    content = ParsedContent(raw)
    assert content.section(Section((1,))) == b"hello"
    assert content.section(Section((1,), "MIME")) == b"Content-Type: text/plain\r\n\r\n"
    assert content.section(Section((2,))) == inner
    assert content.section(Section((2,), "HEADER.FIELDS", frozenset({b"subject"}))) == b"Subject: inner\r\n\r\n"
    assert content.section(Section((2,), "TEXT")) == inner.partition(b"\r\n\r\n")[2]
    assert content.section(Section((2, 2))) == b"second"
    assert content.section(Section((3,))) is None
    assert content.section(Section((1,), "HEADER")) is None
    structure = content.structure(True, "auto", False)
    assert structure.count(b'"inner"') == 1
    assert structure.count(b"(") == structure.count(b")")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"a@b", [(None, None, b"a", b"b")]),
        (b'"A \\"q\\", B" <a@b>, c@d', [(b'A "q", B', None, b"a", b"b"), (None, None, b"c", b"d")]),
        (b"x@y (comment), <@r:z@w>", [(None, None, b"x", b"y"), (None, None, b"z", b"w")]),
        (
            b"team: a@b, c@d;",
            [
                (None, None, b"team", None),
                (None, None, b"a", b"b"),
                (None, None, b"c", b"d"),
                (None, None, None, None),
            ],
        ),
        (b"undisclosed", [(None, None, b"undisclosed", b"")]),
        (b'"unclosed', [(None, None, b"unclosed", b"")]),
        (b"", []),
    ],
)
def test_addresses(value: bytes, expected: list[tuple[bytes | None, ...]]) -> None:
    assert parse_addresses(value) == expected


def test_styles_of_strings() -> None:
    assert nstring(None) == b"NIL"
    assert nstring(b"a b") == b'"a b"'
    assert nstring(b'a"b') == b'{3}\r\na"b'
    assert nstring(b'a"b\\', "quoted") == b'"a\\"b\\\\"'
    assert nstring(b'a"b', "unescaped") == b'"a"b"'
    assert nstring(b"", "literal") == b"{0}\r\n"
    assert nstring("é".encode(), "quoted") == b"{2}\r\n\xc3\xa9"
    assert nstring("é".encode(), "quoted", utf8=True) == '"é"'.encode()


@pytest.mark.parametrize(
    "raw", [b"", b"\r\n", b"no header", b"A: b", b"Content-Type: multipart/mixed\r\n\r\nx", b"\0" * 9]
)
def test_any_bytes_are_a_message(raw: bytes) -> None:
    content = ParsedContent(raw)
    assert content.envelope("auto", False).startswith(b"(")
    assert content.structure(True, "auto", False).startswith(b"(")
    root = parse_message(raw)
    assert root.end == len(raw)


@pytest.mark.parametrize(
    ("name", "wire"), [("INBOX", b"INBOX"), ("a & b", b"a &- b"), ("日本/é", b"&ZeVnLA-/&AOk-"), ("~peter", b"~peter")]
)
def test_mailbox_names(name: str, wire: bytes) -> None:
    assert encode_mailbox_name(name) == wire
    assert decode_mailbox_name(wire) == name


@pytest.mark.asyncio
async def test_fetch_items(connect: Connect) -> None:
    raw = (
        b"Date: Mon, 7 Feb 1994 21:52:25 -0800\r\nSubject: hi\r\nFrom: Fred <fred@example.org>\r\nX-A: 1\r\n\r\n"
        b"Hello Joe\r\nsecond\r\n"
    )
    async with Server(messages=[raw]) as server:
        client = await connect(server.port)
        await client.login(command="EXAMINE")
        cases = {
            "FULL": b'FLAGS () INTERNALDATE " 1-Jan-2024 08:00:00 +0000" RFC822.SIZE %d ENVELOPE (' % len(raw),
            "BODY[HEADER.FIELDS (Subject X-A)]": (
                b"BODY[HEADER.FIELDS (Subject X-A)] {23}\r\nSubject: hi\r\nX-A: 1\r\n\r\n"
            ),
            "BODY[HEADER.FIELDS.NOT (Date From X-A)]": (
                b"BODY[HEADER.FIELDS.NOT (Date From X-A)] {15}\r\nSubject: hi\r\n\r\n"
            ),
            "BODY[TEXT]<6.3>": b"BODY[TEXT]<6> {3}\r\nJoe",
            "BODY[TEXT]<99.3>": b"BODY[TEXT]<99> {0}\r\n",
            "BODY[1]": b"BODY[1] {19}\r\nHello Joe\r\nsecond\r\n",
            "BODY[2]": b"BODY[2] NIL",
            "RFC822.TEXT": b"RFC822.TEXT {19}\r\nHello Joe\r\nsecond\r\n",
            "RFC822.SIZE": b"RFC822.SIZE %d" % len(raw),
            "BINARY.PEEK[1]": b"BINARY[1] {19}\r\nHello Joe\r\nsecond\r\n",
            "BINARY.SIZE[1]": b"BINARY.SIZE[1] 19",
            "PREVIEW": b'PREVIEW "Hello Joe second"',
            "BODYSTRUCTURE": (
                b'BODYSTRUCTURE ("TEXT" "PLAIN" ("charset" "us-ascii") NIL NIL "7BIT" 19 2 NIL NIL NIL NIL)'
            ),
            "ENVELOPE": (
                b'ENVELOPE ("Mon, 7 Feb 1994 21:52:25 -0800" "hi" (("Fred" NIL "fred" "example.org")) '
                b'(("Fred" NIL "fred" "example.org")) (("Fred" NIL "fred" "example.org")) NIL NIL NIL NIL NIL)'
            ),
        }
        for item, expected in cases.items():
            (line,) = await client.ok(f"FETCH 1 {item}")
            assert line.startswith(b"1 FETCH (" + expected), item


@pytest.mark.asyncio
async def test_fetch_of_a_body_marks_it_seen(connect: Connect, simple_messages: list[bytes]) -> None:
    async with Server(messages=simple_messages) as server:
        client = await connect(server.port)
        await client.login()
        await client.ok("UID FETCH 1 BODY.PEEK[]")
        assert server.mailboxes["INBOX"][1].flags == frozenset()
        (line,) = await client.ok("UID FETCH 1 BODY[TEXT]")
        assert line.endswith(b" FLAGS (\\Seen))")
        assert server.mailboxes["INBOX"][1].flags == {"\\Seen"}


@pytest.mark.asyncio
async def test_order_of_items(connect: Connect, simple_messages: list[bytes]) -> None:
    asked = "UID FETCH 1:5 (FLAGS UID RFC822.SIZE BODY.PEEK[TEXT])"

    async def orders(order: FetchOrder = "asked") -> list[list[bytes]]:
        async with Server(messages=simple_messages, fetch_order=order, seed=3) as server:
            client = await connect(server.port)
            await client.login()
            return [re.findall(rb"(FLAGS|UID|SIZE|TEXT)[\] ]", line) for line in await client.ok(asked)]

    assert await orders() == [[b"FLAGS", b"UID", b"SIZE", b"TEXT"]] * 5
    assert await orders("uid_last") == [[b"FLAGS", b"SIZE", b"TEXT", b"UID"]] * 5
    shuffled = await orders("shuffled")
    assert shuffled == await orders("shuffled")
    assert len({tuple(order) for order in shuffled}) > 1


@pytest.mark.asyncio
async def test_synthetic_mailbox(connect: Connect) -> None:
    box = SyntheticMailbox(1_000_000, size=600)
    async with Server(messages=box) as server:
        client = await connect(server.port)
        await client.login()
        assert await client.ok("UID SEARCH RETURN (COUNT ALL MIN MAX) ALL") == [
            b'ESEARCH (TAG "t3") UID MIN 1 MAX 1000000 ALL 1:1000000 COUNT 1000000'
        ]
        (listed,) = await client.ok("UID SEARCH ALL")
        assert listed.count(b" ") == 1_000_000
        (line,) = await client.ok("UID FETCH 777777 (RFC822.SIZE BODY.PEEK[])")
        assert b"0000777777" in line
        assert b"RFC822.SIZE %d " % len(box[777777].content.raw) in line
        assert box[777777].content.raw == SyntheticMailbox(1_000_000, size=600)[777777].content.raw
        await client.ok("UID STORE 777777 FLAGS (\\Deleted)")
        assert await client.ok("EXPUNGE") == [b"777777 EXPUNGE"]
        assert box.get(777777) is None
        assert box.append(b"Subject: new\r\n\r\n") == 1_000_001


@pytest.mark.asyncio
async def test_synthetic_mailbox_made_by_a_function(connect: Connect) -> None:
    box = SyntheticMailbox(100, make=lambda uid: b"Subject: s%d\r\n\r\n" % uid, step=10, first_uid=5)
    async with Server(messages={"INBOX": 0, "big": box}) as server:
        client = await connect(server.port)
        await client.login("big")
        assert list(box.uids)[:3] == [5, 15, 25]
        assert await client.ok("UID SEARCH SUBJECT s15") == [b"SEARCH 15 155"]
        assert box.uidnext == 996
