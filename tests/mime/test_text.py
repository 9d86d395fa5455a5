"""Text of parts: charsets that are missing, wrong, or known by another name."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imapipe.mime import charset_guess
from imapipe.mime.part import parse_parts
from imapipe.mime.selection import HTML, PLAIN
from imapipe.mime.text import decode_text, read_text, to_text


@pytest.fixture(autouse=True)
def _no_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed decides nothing here."""
    monkeypatch.setattr(charset_guess, "_detector", lambda: None)


@pytest.mark.parametrize(
    ("content_type", "data", "text"),
    [
        # Known by another name.
        (b"text/plain; charset=cp-850", b"\x82", "é"),
        (b"text/plain; charset=iso-8859-8-i", b"\xf9\xec\xe5\xed", "שלום"),
        (b"text/plain; charset=windows-874", b"\xa1", "ก"),
        (b"text/plain; charset=x-gbk", "中文".encode("gbk"), "中文"),
        (b"text/plain; charset=dos-862", b"\x99\x8c\x85\x8d", "שלום"),
        (b"text/plain; charset=gb2312", "囧朱镕基".encode("gbk"), "囧朱镕基"),
        (b"text/plain; charset=ks_c_5601-1987", "똠방각하".encode("cp949"), "똠방각하"),
        (b"text/plain; charset=iso-8859-1", b"it\x92s \x80 5", "it’s € 5"),
        # Missing, empty, unknown, no charset at all, and no semicolon before it.
        (b"text/plain", "Grüße".encode(), "Grüße"),
        (b"text/plain", "Grüße €".encode("cp1252"), "Grüße €"),
        (b"text/plain; charset=", "Grüße".encode("latin-1"), "Grüße"),
        (b'text/plain; charset=""', "Grüße".encode(), "Grüße"),
        (b"text/plain; charset=unknown-8bit", "Grüße".encode(), "Grüße"),
        (b"text/plain; charset=idna", "Grüße".encode(), "Grüße"),
        (b'text/plain; charset="\0"', "Grüße".encode("latin-1"), "Grüße"),
        (b"text/plain; name*", "Grüße".encode(), "Grüße"),
        (b"text/plain charset=koi8-r", "я".encode("koi8-r"), "я"),
        (b"text/plain; charset*=us-ascii''utf-8", "é".encode(), "é"),
        # Declared too small, or wrong.
        (b"text/plain; charset=us-ascii", "Grüße".encode(), "Grüße"),
        (b"text/plain; charset=us-ascii", "Grüße".encode("latin-1"), "Grüße"),
        (b"text/plain; charset=utf-8", "Grüße, schöne".encode("latin-1"), "Grüße, schöne"),
        (b"text/plain; charset=euc-kr", "中".encode(), "中"),
        (b"text/plain; charset=iso-2022-jp", "日本".encode(), "日本"),
        # Nearly right: what is bad is marked, the rest is kept.
        (b"text/plain; charset=utf-8", "日本語の文".encode()[:-1], "日本語の\ufffd"),
        (b"text/plain; charset=utf-8", "日本語".encode() + b"\xe9", "日本語\ufffd"),
        # Marks and escapes say it themselves.
        (b"text/plain", "é".encode("utf-16"), "é"),
        (b"text/plain; charset=utf-8", b"\xef\xbb\xbfa", "a"),
        (b"text/plain; charset=utf-16le", b"\xff\xfea\0", "a"),
        (b"text/plain", "日本語".encode("iso2022_jp"), "日本語"),
        (b"text/plain; charset=us-ascii", "한글".encode("iso2022_kr"), "한글"),
        (b"text/plain", b"\x1b[1mbold", "\x1b[1mbold"),
        # HTML knows it too, unless the bytes say otherwise.
        (b"text/html", b'<meta charset="koi8-r">' + "я".encode("koi8-r"), '<meta charset="koi8-r">я'),
        (
            b"text/html; charset=us-ascii",
            b"<META http-equiv=Content-Type content='text/html; charset=big5'>" + "中".encode("big5"),
            "<META http-equiv=Content-Type content='text/html; charset=big5'>中",
        ),
        (b"text/html", "<meta charset=koi8-r>é".encode(), "<meta charset=koi8-r>é"),
        (b"text/html", b"<meta charset=utf-16>\xe9", "<meta charset=utf-16>é"),
        (b"text/html; charset=koi8-r", b"<meta charset=utf-8>\xd1", "<meta charset=utf-8>я"),
        (b"text/plain", b"<meta charset=koi8-r>\xd1", "<meta charset=koi8-r>Ñ"),
    ],
)
def test_charsets(content_type: bytes, data: bytes, text: str) -> None:
    raw = b"Content-Type: " + content_type + b"\r\n\r\n" + data
    parts = parse_parts(raw)
    kind = HTML if content_type.startswith(b"text/html") else PLAIN
    assert read_text(raw, parts, kind) == text
    assert read_text(raw, parts, PLAIN if kind == HTML else HTML) == ""


def test_text_of_a_section_alone() -> None:
    assert decode_text("koi8-r", "base64", b"0cI=") == "яб"
    assert decode_text("", "quoted-printable", b"Gr=C3=BC=C3=9Fe") == "Grüße"
    assert decode_text("\ud800", "", b"a") == "a"
    assert decode_text("", "", b"<meta charset=koi8-r>\xd1", is_html=True)[-1] == "я"


@given(
    st.binary(max_size=60),
    st.sampled_from(["", "utf_8", "utf_7", "utf_16", "gb18030", "iso2022_jp_ext", "hz", "cp1252"]),
)
def test_any_bytes_give_text(data: bytes, codec: str) -> None:
    to_text(data, codec).encode()
    to_text(b"<meta charset=utf-7>" + data, codec, is_html=True).encode()


@pytest.mark.parametrize(
    "piece", [b"<meta", b"<meta charset", b"\x1b$", b"\xe9", b"<meta " + b" " * 300 + b"charset  "]
)
def test_hostile_text_is_linear(piece: bytes) -> None:
    data = piece * (2_000_000 // len(piece))
    for codec in ("", "utf_8", "iso2022_jp_ext"):
        assert len(to_text(data, codec, is_html=True)) <= len(data)


@pytest.mark.parametrize("name", ["cchardet", "chardet"])
def test_a_detector_is_asked_where_one_is_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    asked: list[int] = []

    def detect(data: bytes) -> dict[str, object]:
        asked.append(len(data))
        return {"encoding": "KOI8-R" if b"\xd1" in data else "hex", "confidence": 0.9 if b"\xd2" not in data else 0.1}

    def load(asked_for: str) -> SimpleNamespace:
        if asked_for != name:
            raise ImportError(asked_for)
        return SimpleNamespace(detect=detect)

    monkeypatch.setattr(charset_guess, "import_module", load)
    charset_guess._detector.cache_clear()
    try:
        assert to_text(b"\xd1", "") == "я"
        # Not sure; no charset; not asked.
        assert to_text(b"\xd1\xd2", "") == "ÑÒ"
        assert to_text(b"\xe9", "") == "é"
        assert to_text("é".encode(), "") == "é"
        assert to_text(b"\xd1" * 100_000, "") == "я" * 100_000
        assert asked == [1, 2, 1, 32 * 1024]
    finally:
        charset_guess._detector.cache_clear()


def test_without_a_detector_it_is_windows_1252(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()

    def load(asked_for: str) -> SimpleNamespace:
        raise ImportError(asked_for)

    monkeypatch.setattr(charset_guess, "import_module", load)
    charset_guess._detector.cache_clear()
    try:
        assert to_text(b"\x80", "") == "€"
    finally:
        charset_guess._detector.cache_clear()
