"""Encoded words: the standard library as the oracle for what is well formed, and mail as it really is."""

from __future__ import annotations

from base64 import b64encode
from email.header import Header
from email.header import decode_header as stdlib_decode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imapipe.wire.encoded_word import decode_header

# Charsets of mail, each with characters that it has.
ALPHABETS = {
    "utf-8": "aé ß€台😀=?_\u202e",
    "us-ascii": "az 09=?_~",
    "iso-8859-1": "aé ßÿ=?_",
    "iso-8859-2": "ał ő=?_",
    "iso-8859-15": "a€ œ=?_",
    "windows-1251": "aЖ я=?_",
    "koi8-r": "aЖ я=?_",
    "gb2312": "a台 中文=?_",
    "gbk": "a臺 中文=?_",
    "big5": "a臺 中文=?_",
    "euc-kr": "a한 글=?_",
    "iso-2022-jp": "a日 本語=?_",
    "shift_jis": "a日 本ア=?_",
    "euc-jp": "a日 本ア=?_",
    "iso-8859-8": "aש לום=?_",
    "utf-16be": "aé 台😀",
    "utf-7": "aé 台",
}
TEXTS = st.sampled_from(sorted(ALPHABETS)).flatmap(
    lambda charset: st.tuples(st.just(charset), st.text(ALPHABETS[charset], min_size=1, max_size=20))
)


def word(charset: str, encoding: str, data: bytes) -> bytes:
    """Write one encoded word, as RFC 2047 §4 tells it."""
    text = b64encode(data).decode() if encoding in "bB" else "".join(f"={byte:02X}" for byte in data)
    return f"=?{charset}?{encoding}?{text}?=".encode()


@given(
    st.lists(st.tuples(TEXTS, st.sampled_from("bBqQ")), min_size=1, max_size=5), st.sampled_from([" ", "\r\n ", "\t"])
)
def test_encoded_words_like_the_standard_library(words: list[tuple[tuple[str, str], str]], space: str) -> None:
    raw = space.encode().join(word(charset, encoding, text.encode(charset)) for (charset, text), encoding in words)
    assert decode_header(raw) == "".join(text for (_, text), _ in words)
    # Not make_header(): that puts spaces around us-ascii, which it takes for text that was not encoded.
    chunks = stdlib_decode(raw.decode())
    assert decode_header(raw) == "".join(data.decode(charset) for data, charset in chunks)


@given(TEXTS, st.integers(20, 76), st.integers(0, 20))
def test_headers_written_and_folded_by_the_standard_library(text: tuple[str, str], width: int, indent: int) -> None:
    written = Header(text[1], text[0], maxlinelen=width, header_name="x" * indent).encode(linesep="\r\n").lstrip()
    if text[0] == "us-ascii":
        # Not encoded, so its white space is the header's own.
        assert decode_header(written.encode()).split() == text[1].split()
    else:
        assert decode_header(written.encode()) == text[1]


@given(st.lists(st.text("abcxyz.,!", min_size=1, max_size=6), min_size=1, max_size=4), TEXTS)
def test_plain_text_around_words(plain: list[str], text: tuple[str, str]) -> None:
    before = " ".join(plain)
    raw = f"{before} ".encode() + word(text[0], "b", text[1].encode(text[0])) + f" {before}".encode()
    assert decode_header(raw) == f"{before} {text[1]} {before}"


@given(TEXTS.filter(lambda text: text[0] not in ("utf-7", "iso-2022-jp")), st.data())
def test_characters_split_over_words(text: tuple[str, str], data: st.DataObject) -> None:
    encoded = text[1].encode(text[0])
    cut = data.draw(st.integers(0, len(encoded)))
    encodings = data.draw(st.tuples(st.sampled_from("bq"), st.sampled_from("bq")))
    raw = word(text[0], encodings[0], encoded[:cut]) + b"\r\n " + word(text[0].upper(), encodings[1], encoded[cut:])
    assert decode_header(raw) == text[1]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        # RFC 2047 §8
        (b"=?ISO-8859-1?Q?a?=", "a"),
        (b"=?ISO-8859-1?Q?a?= b", "a b"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a?=\r\n     =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a_b?=", "a b"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=", "a b"),
        (b"=?US-ASCII*EN?Q?Keith_Moore?=", "Keith Moore"),
        # lower-case hexadecimal digits; an underscore given in hexadecimal
        (b"=?utf-8?q?caf=c3=a9=5F?=", "café_"),
        # nothing between, before and after words
        (b"=?utf-8?q?a?==?utf-8?q?b?=", "ab"),
        (b"x=?utf-8?q?a?=y", "xay"),
        (b"(=?utf-8?q?a?=)", "(a)"),
        (b'"=?utf-8?q?Doe=2C_J?="', '"Doe, J"'),
        (b"=?utf-8?q??=", ""),
        (b"=?utf-8?b??= =?utf-8?q?x?=", "x"),
        # white space that is not between words stays
        (b" =?utf-8?q?a?= ", " a "),
        (b"=?utf-8?q?a?= : =?utf-8?q?b?=", "a : b"),
        # illegal spaces and question marks in encoded text
        (b"=?utf-8?Q?two words?=", "two words"),
        (b"=?utf-8?Q?what? now??=", "what? now?"),
        (b"=?UTF-8?B?w6k g?=", "é "),
        # base64 without padding, with too much of it, cut in the middle, with rubbish
        (b"=?utf-8?B?w6k?=", "é"),
        (b"=?utf-8?B?w6k====?=", "é"),
        (b"=?utf-8?B?w6lhY?=", "éa"),
        (b"=?utf-8?B?YWJjZ?=", "abc"),
        (b"=?utf-8?B?!?=", ""),
        # quoted-printable that is none
        (b"=?utf-8?Q?100=?=", "100"),
        (b"=?utf-8?Q?=ZZ?=", "=ZZ"),
        # no words at all
        (b"=?utf-8?Q?never ends", "=?utf-8?Q?never ends"),
        (b"=?utf-8?X?abc?=", "=?utf-8?X?abc?="),
        (b"a =? b ?= c", "a =? b ?= c"),
        (b"?= =?", "?= =?"),
        (b"=?utf-8?Q?a?= =?utf-8?Q?b", "a =?utf-8?Q?b"),
        # bad bytes
        (b"=?utf-8?Q?a=E9b?=", "a\ufffdb"),
        (b"=?gb2312?Q?=81?=", "\ufffd"),
        # the charset is declared too small
        (b"=?us-ascii?Q?caf=C3=A9?=", "café"),
        (b"=?us-ascii?Q?caf=E9?=", "café"),
        (b"=?iso-8859-1?Q?it=92s_=80_5?=", "it’s € 5"),
        (b"=?gb2312?B?6Fc=?=", b"\xe8W".decode("gb18030")),
        (b"=?ks_c_5601-1987?B?xMTHu8XN?=", "컴퓨터"),
        (b"=?iso-8859-8-i?Q?=F9=EC=E5=ED?=", "שלום"),
        (b"=?unicode-1-1-utf-7?Q?Hi_+ZeVnLIqe-?=", "Hi 日本語"),
        (b"=?cp-850?Q?=82?=", "é"),
        (b"=?x-mac-roman?Q?=8E?=", "é"),
        (b"=?windows-1252*de?Q?=80?=", "€"),
        (b"=?CP1252?Q?=80?=", "€"),
        (b"=?x-sjis?B?k/qWew==?=", "日本"),
        # no charset, and one that nobody knows
        (b"=??Q?caf=C3=A9?=", "café"),
        (b"=?unknown-8bit?Q?caf=E9?=", "café"),
        (b"=?idna?Q?xn--caf-dma?=", "xn--caf-dma"),
        (b"=?unicode_escape?Q?=5Cq=5Cud800?=", "\\q\\ud800"),
        (b"=?\xff\xfe?Q?a?=", "a"),
        (b"=?" + b"x" * 300 + b"?Q?a?=", "a"),
        # half a surrogate pair in UTF-7
        (b"=?utf-7?Q?a+2AA-b?=", "a\ufffdb"),
        # raw 8-bit
        ("Grüße =?".encode(), "Grüße =?"),
        ("Grüße".encode("latin-1"), "Grüße"),
        ("é =?utf-8?q?a?= ".encode() + b"\xe9", "é a é"),
        # folded lines; line ends that fold nothing
        (b"a\r\n b\n\tc", "a b\tc"),
        (b"a\r\nb\rc\n", "a b c "),
        (b"=?utf-8?Q?a\r\n b?=", "a b"),
        (b"", ""),
    ],
)
def test_headers_as_they_are(raw: bytes, expected: str) -> None:
    assert decode_header(raw) == expected


@given(st.text(st.characters(max_codepoint=126, min_codepoint=32)).filter(lambda text: "=?" not in text))
def test_ascii_stays_as_it_is(text: str) -> None:
    assert decode_header(text.encode()) == text


PIECES = st.lists(
    st.sampled_from(
        [
            *[b"=?", b"?=", b"?", b"=", b"utf-8", b"utf-7", b"gb2312", b"*en", b"?q?", b"?b?", b"A", b"=C3", b"\r\n"],
            *[b" ", b"\xe9", b"\t", b"\0", b"/", b"+2AA-", b"_", b"utf-16", b"iso-2022-jp", b"\x1b$B"],
        ]
    ),
    max_size=25,
).map(b"".join)


@given(st.one_of(st.binary(), PIECES))
@example(b"=?utf-8?q?\xff?= =?\0?b?=?=")
def test_nothing_raises_and_everything_can_be_printed(raw: bytes) -> None:
    decode_header(raw).encode()


@pytest.mark.parametrize("piece", [b"=?a?q?x", b"=?a?q?", b"=?", b"?=", b"=?a?b?x?= ", b"=?a?b?\xff?=", b"=?a", b"? ?"])
def test_hostile_headers_are_linear(piece: bytes) -> None:
    # 400 kB; one second scan for each piece would be 10**10 steps and run into the time limit of the tests.
    raw = piece * (400_000 // len(piece))
    assert len(decode_header(raw)) <= 2 * len(raw)
    assert len(decode_header(raw + b"?=")) <= 2 * len(raw)
