"""Parts: where they begin and end, in mail that keeps the rules and in mail that does not."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.growth import superlinear
from imapipe.mime import part as part_module
from imapipe.mime.part import Raw, parse_parts
from imapipe.mime.selection import HTML, PLAIN, attachment_parts
from imapipe.mime.text import read_text

MIXED = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n"
INNER = b"Content-Type: multipart/mixed; boundary=x1\r\n\r\n"
NO_BOUNDARY = b"Content-Type: multipart/mixed\r\n\r\n"
DIGEST = b"Content-Type: multipart/digest; boundary=x\r\n\r\n"
ALTERNATIVE = b"Content-Type: multipart/alternative; boundary=y\r\n\r\n"
HTML_PART = b"Content-Type: text/html\r\n\r\n"
PICTURE = b"Content-Type: image/png; name=a.png\r\n\r\n\x89PNG\r\n"


def leaves(raw: Raw) -> list[tuple[str, str, bytes]]:
    return [
        (part.section, part.content_type, bytes(raw[part.start : part.end]))
        for part in parse_parts(raw)
        if not part.is_multipart
    ]


def texts(raw: bytes) -> tuple[str, str, list[str]]:
    parts = parse_parts(raw)
    return read_text(raw, parts, PLAIN), read_text(raw, parts, HTML), [p.section for p in attachment_parts(parts)]


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_parts_in_parts(end: bytes) -> None:
    raw = (
        b"Subject: x\r\n" + MIXED + b"before\r\n--x\r\n" + ALTERNATIVE + b"--y\r\n\r\nplain\r\nlines\r\n--y \t\r\n"
        + HTML_PART + b"<b>\r\n--y--\r\nbetween\r\n--x\r\n" + PICTURE
        + b"\r\n--x--\r\nbehind\r\n--x\r\n\r\nnot read\r\n"
    ).replace(b"\r\n", end)  # fmt: skip
    assert leaves(raw) == [
        ("1.1", "text/plain", b"plain" + end + b"lines"),
        ("1.2", "text/html", b"<b>"),
        ("2", "image/png", b"\x89PNG" + end),
    ]
    assert [part.section for part in parse_parts(raw)] == ["TEXT", "1", "1.1", "1.2", "2"]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        # No header, no body, nothing; a header without an empty line behind it, at either end.
        (b"", [("1", "text/plain", b"")]),
        (b"\r\nbody", [("1", "text/plain", b"body")]),
        (b"A: 1\r\nContent-Type: text/html\r\n", [("1", "text/html", b"")]),
        (b"A: 1\r\n\r\n", [("1", "text/plain", b"")]),
        (b"Content-Type: text/html\r\nHello there\r\n\r\nmore", [("1", "text/html", b"Hello there\r\n\r\nmore")]),
        (b"Hello,\r\n\tdear list\r\n\r\nmore", [("1", "text/plain", b"Hello,\r\n\tdear list\r\n\r\nmore")]),
        (b"A: b\r\n c\r\n\r\nx", [("1", "text/plain", b"x")]),
        (b"junk, then fields\r\nContent-Type: text/html\r\n\r\nx", [("1", "text/html", b"x")]),
        (b"From ann Mon Jan 1\r\nContent-Type: text/html\r\n\r\nx", [("1", "text/html", b"x")]),
        (b"Content-Type : text/html\r\n\r\nx", [("1", "text/html", b"x")]),
        # The empty line behind the header is missing: what begins with hyphens is no field.
        (
            b"A: b\r\n" + MIXED[:-2] + b"preamble\r\n--x\r\nContent-Type: text/html\r\n\r\n<b>\r\n--x--",
            [("1", "text/html", b"<b>")],
        ),
        (
            MIXED + b"--x\r\n-----BEGIN PGP MESSAGE-----\r\nVersion: 1\r\n\r\nabc\r\n--x--",
            [("1", "text/plain", b"-----BEGIN PGP MESSAGE-----\r\nVersion: 1\r\n\r\nabc")],
        ),
        (MIXED + b"--x\r\nno header\r\n--x--", [("1", "text/plain", b"no header")]),
        (MIXED + b"--x\r\n\r\n--x\r\nA: b\r\n--x\r\n--x--", [(number, "text/plain", b"") for number in "123"]),
        # A boundary that is the beginning of another, and one that is the same.
        (
            MIXED + b"--x\r\n" + INNER + b"--x1\r\n\r\none\r\n--x1--\r\n--x\r\n\r\ntwo\r\n--x--",
            [("1.1", "text/plain", b"one"), ("2", "text/plain", b"two")],
        ),
        (
            MIXED + b"--x\r\n" + MIXED + b"--x\r\n\r\none\r\n--x--\r\n--x\r\n\r\ntwo\r\n--x--",
            [("1.1", "text/plain", b"one"), ("2", "text/plain", b"two")],
        ),
        (
            # One that is another with the hyphens that stand before each.
            MIXED + b'--x\r\nContent-Type: multipart/alternative; boundary="--x"\r\n\r\n'
            + b"----x\r\n\r\none\r\n----x--\r\n--x\r\n\r\ntwo\r\n--x--",
            [("1.1", "text/plain", b"one"), ("2", "text/plain", b"two")],
        ),
        # The last boundary is missing: of the message, of a multipart inside.
        (MIXED + b"--x\r\n\r\none\r\n", [("1", "text/plain", b"one\r\n")]),
        (
            MIXED + b"--x\r\n" + ALTERNATIVE + b"--y\r\n\r\none\r\n--x\r\n\r\ntwo\r\n--x--",
            [("1.1", "text/plain", b"one"), ("2", "text/plain", b"two")],
        ),
        # No boundary is named, or another one is used; none at all.
        (NO_BOUNDARY + b"--q\r\nContent-Type: text/html\r\n\r\n<b>\r\n--q--", [("1", "text/html", b"<b>")]),
        (MIXED + b"--q\r\ncontent-type: text/html\r\n\r\n<b>\r\n--q--", [("1", "text/html", b"<b>")]),
        (MIXED + b"only text", [("1", "multipart/mixed", b"only text")]),
        (MIXED + b"--x--", []),
        # Only the defaults say what it is.
        (DIGEST + b"--x\r\n\r\nA: b\r\n\r\nc\r\n--x--", [("1", "message/rfc822", b"A: b\r\n\r\nc")]),
        # A message in a message is one part, boundaries and all.
        (
            MIXED + b"--x\r\nContent-Type: message/rfc822\r\n\r\n" + ALTERNATIVE + b"--y\r\n\r\nin\r\n--y--\r\n--x--",
            [("1", "message/rfc822", ALTERNATIVE + b"--y\r\n\r\nin\r\n--y--")],
        ),
    ],
)  # fmt: skip
def test_what_keeps_no_rules_is_read_as_far_as_it_goes(raw: bytes, expected: list[tuple[str, str, bytes]]) -> None:
    assert leaves(raw) == expected


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        # mail-mime-parser 80, chatmail 2079, MSGReader 326, MimeKit 239, mailparser 170, and their like.
        (
            b'filename*0="=?UTF-8?Q?*_=F0=9F=98=81=F0?=\r\n =?UTF-8?Q?=9F=98=8"; filename*1="1.docx?="',
            "* \U0001f601\U0001f601.docx",
        ),
        (b"filename*0*=UTF-8''%61%CC%88%6F%CC;\r\n filename*1*=%88%2E%70%64%66", "a\u0308o\u0308.pdf"),
        (b"filename*1*=BBB_2021.pdf;\r\n filename*0*=\"utf-8''AAA\"", "AAABBB_2021.pdf"),
        (b"size=1; filename*=\"utf-8''%C5%A0kod%2Ejpg\"", "Škod.jpg"),
        (b"filename*=''abc.txt", "abc.txt"),
        (b"filename*=gb2312''%CE%C4.pdf", "文.pdf"),
        (b"filename*=UTF-8''%C3%A9.txt; filename=\"fallback.txt\"", "é.txt"),
        (b"filename*=utf-8''bad%ZZ.pdf", "bad%ZZ.pdf"),
        (b"filename=a%20b.pdf", "a%20b.pdf"),
    ],
)
def test_names_of_files(parameters: bytes, name: str) -> None:
    raw = b"Content-Type: application/pdf\r\nContent-Disposition: attachment; " + parameters + b"\r\n\r\n"
    assert parse_parts(raw)[0].filename == name


@pytest.mark.parametrize(
    ("named", "used"),
    [
        # php-imap 544, Haraka 1874, Caliopen 1247, and their like.
        (b'"-"', b"-"),
        (b'"nqp=nb64=()I9WT8XjoN"', b"nqp=nb64=()I9WT8XjoN"),
        (b"nqp=nb64=()I9WT8XjoN", b"nqp=nb64=()I9WT8XjoN"),
        (b'"wM+G\r\n =Y1"', b"wM+G=Y1"),
        (b"foo (comment)", b"foo"),
        (b"foo; boundary=bar", b"foo"),
        (b"'foo'", b"'foo'"),
        (b'"foo;bar" ', b"foo;bar"),
        (b"foo,bar", b"foo,bar"),
        (b"a/b:c?d", b"a/b:c?d"),
    ],
)
def test_boundaries(named: bytes, used: bytes) -> None:
    raw = b"Content-Type: multipart/mixed; boundary=%b\r\n\r\n--%b\r\nContent-Type: text/html\r\n\r\none\r\n--%b--\r\n"
    assert leaves(raw % (named, used, used)) == [("1", "text/html", b"one")]


def deep(count: int, text: bytes = b"hello") -> bytes:
    opened = b"".join(
        b"--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n" % (n, n + 1) for n in range(count)
    )
    closed = b"".join(b"--b%d--\r\n" % n for n in range(count, -1, -1))
    head = b"Content-Type: multipart/mixed; boundary=b0\r\n\r\n"
    return head + opened + b"--b%d\r\n\r\n%b\r\n" % (count, text) + closed


@pytest.mark.parametrize("count", [1, 7, 8, 9, 20, 10_000])
def test_depth(count: int) -> None:
    raw = deep(count)
    assert texts(raw)[0] == "hello"
    assert leaves(raw)[-1][0] == ".".join(["1"] * (count + 1))
    # Behind the deepest part the others go on, and what is not closed ends where its parent does.
    raw = raw.replace(b"--b%d--\r\n" % count, b"").replace(b"--b1--", b"--b1\r\n\r\ntwo\r\n--b1--")
    assert [content for _, _, content in leaves(raw)] == ([b"hello", b"two"] if count > 1 else [b"hello"])


HOSTILE: dict[str, Callable[[int], bytes]] = {
    "deep, never closed": lambda size: deep(size // 50)[:size],
    "deep, the same boundary": lambda size: (
        MIXED + (b"--x\r\n" + MIXED) * (size // 60) + b"--x\r\n\r\nhello\r\n" + b"--x--\r\n" * (size // 60)
    ),
    "deep, line feeds only": lambda size: deep(size // 60).replace(b"\r\n", b"\n"),
    "many parts": lambda size: MIXED + b"--x\r\n\r\na\r\n" * (size // 10),
    "many multiparts": lambda size: MIXED + (b"--x\r\n" + ALTERNATIVE + b"--y\r\n\r\n") * (size // 65),
    "many multiparts without a boundary": lambda size: MIXED + (b"--x\r\n" + ALTERNATIVE) * (size // 58),
    "many fields": lambda size: b"X: y\r\n" * (size // 6) + b"\r\nhello",
    "many of one field": lambda size: MIXED + b"--x\r\n" + b"Content-Type-: y\r\n" * (size // 18),
    "one long field": lambda size: b"Content-Type: " + b"text/plain; a=b" * (size // 15) + b"\r\n\r\nhello",
    "a long fold": lambda size: b"Content-Type: text/plain;" + b"\r\n " * (size // 3),
    "hyphens": lambda size: MIXED + b"\r\n--" * (size // 4),
    "boundaries of others": lambda size: deep(20, b"--b\r\n" * (size // 5)),
    "nearly boundaries": lambda size: MIXED + b"--xx\r\n" * (size // 6),
    "no header": lambda size: b"\n" * size,
}
# What is quadratic takes some ten thousand million steps for the last of them.
SIZES = (4_000, 32_000, 256_000)


def read(raw: bytes) -> None:
    parts = parse_parts(raw)
    read_text(raw, parts, PLAIN)
    attachment_parts(parts)


@pytest.mark.no_cover
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_mail_is_linear(name: str) -> None:
    assert superlinear(read, HOSTILE[name], SIZES) is None
    raw = HOSTILE[name](SIZES[-1])
    parts = parse_parts(raw)
    assert all(0 <= part.start <= part.end <= len(raw) for part in parts if not part.is_multipart)
    assert len(read_text(raw, parts, PLAIN)) <= len(raw)
    attachment_parts(parts)


PIECES = st.lists(
    st.sampled_from(
        [
            *[
                MIXED,
                ALTERNATIVE,
                b"Content-Type: multipart/related; boundary=y\r\n\r\n",
                HTML_PART,
                PICTURE,
                b"\r\n\r\n",
            ],
            *[
                b"--x\r\n",
                b"\r\n--x\r\n",
                b"\n--y--\r\n",
                b"\r\n--x--\r\n",
                b"text",
                b"\r",
                b"\n",
                b"--",
                b" ",
                b"A: b\r\n",
            ],
            *[b"Content-Type: message/rfc822\r\n", b"Content-Transfer-Encoding: base64\r\n", b"YQ==", b"charset=\0"],
            *[b"Content-Disposition: attachment; filename*=\r\n", b"Content-Type: text/plain; name*\r\n"],
        ]
    )
    | st.binary(max_size=4),
    max_size=25,
).map(b"".join)


@given(PIECES)
def test_any_bytes_have_parts_that_do_not_overlap(raw: bytes) -> None:
    parts = parse_parts(raw)
    at = 0
    for part in parts:
        assert part.start >= at or part.start == part.end
        at = part.start if part.is_multipart else max(at, part.end)
        (part.filename + part.content_id + part.section + part.content_type).encode()
    for text in texts(raw)[:2]:
        text.encode()


@given(PIECES)
def test_the_parts_are_the_same_however_the_bytes_are_held(raw: bytes) -> None:
    expected = leaves(raw), texts(raw)
    array = bytearray(raw)
    assert leaves(array) == expected[0]
    if raw:
        with tempfile.TemporaryFile() as file:
            file.write(raw)
            file.flush()
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                assert leaves(mapped) == expected[0]
                assert read_text(mapped, parse_parts(mapped), PLAIN) == expected[1][0]


@given(
    st.lists(st.sampled_from([b"\n--x", b"\n--", b"--x", b"-", b"\n", b"x", b"a" * 9]), max_size=40).map(b"".join),
    st.integers(0, 30),
    st.integers(0, 200) | st.just(1 << 62),
    st.integers(1, 12),
    st.integers(0, 6),
)
def test_far_boundaries_are_found_where_find_finds_them(raw: bytes, pos: int, limit: int, near: int, few: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part_module, "_NEAR_BYTES", near)
        patch.setattr(part_module, "_HYPHENS", few)
        for needle in (b"\n--x", b"\n--", b"\n---", b"\n--xx"):
            assert part_module._find(raw, needle, pos, limit) == raw.find(needle, pos, limit)


@pytest.mark.parametrize("levels", [1, 3])
def test_a_large_attachment_is_looked_at_once(levels: int) -> None:
    """25 MB keep a loop for the time of one search for a hyphen (two ms), however many multiparts they are in."""
    raw = b"Content-Type: image/png\r\n\r\n" + (b"QUFB" * 19 + b"\r\n") * 320_000
    for level in range(levels):
        head = b'Content-Type: multipart/mixed; boundary="_%d_"\r\n\r\n--_%d_\r\n\r\nhello\r\n--_%d_\r\n' % (
            (level,) * 3
        )
        raw = head + raw + b"--_%d_--\r\n" % level
    searched = {True: 0, False: 0}

    class Counting(bytes):
        def find(self, needle: Any, start: Any = 0, end: Any = None, /) -> int:  # noqa: ANN401 - as bytes has it
            found = bytes.find(self, needle, start, end)
            searched[len(needle) == 1] += (min(end, len(self)) if found < 0 else found) - start
            return found

    counting = Counting(raw)
    parts = parse_parts(counting)
    assert read_text(counting, parts, PLAIN) == "\n".join(["hello"] * levels)
    assert [part.content_type for part in parts].count("image/png") == 1
    # By one character ten times as fast as by several.
    assert searched[False] < 100_000 * levels
    assert searched[True] < 1.1 * levels * len(raw)


def test_a_large_attachment_is_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "mail"
    path.write_bytes(MIXED + b"--x\r\n\r\nhello\r\n--x\r\n" + PICTURE + b"A" * 30_000_000 + b"\r\n--x--\r\n")

    class Counting(bytes):
        copied = 0

        def __getitem__(self, key: Any) -> Any:  # noqa: ANN401 - as bytes has it
            piece = bytes.__getitem__(self, key)
            Counting.copied += len(piece)
            return piece

    raw = Counting(path.read_bytes())
    assert read_text(raw, parse_parts(raw), PLAIN) == "hello"
    assert Counting.copied < 1000
