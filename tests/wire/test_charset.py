"""Charset names as senders write them, and what is never taken for a charset."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imapipe.wire import charset
from imapipe.wire.charset import GUESS, decode_charset, decode_plain, decode_strictly, find_codec
from imapipe.wire.encoded_word import decode_header


@given(st.sampled_from(sorted(set(charset._CODECS.values()) - {""})), st.binary(max_size=12))
def test_no_codec_raises_or_leaves_surrogates(codec: str, data: bytes) -> None:
    decode_charset(data, codec).encode()
    (decode_strictly(data, codec) or "").encode()


def test_every_name_in_the_table_is_a_codec_for_text() -> None:
    for codec in {*charset._CODECS.values()} - {""}:
        assert isinstance(codecs.lookup(codec).name, str)
        b"".decode(codec)
    assert not {"idna", "punycode", "undefined", "unicode_escape"} & {*charset._CODECS.values()}


def test_charset_names_from_mail_are_neither_looked_up_nor_kept_for_ever() -> None:
    asked: list[str] = []

    def look_up(name: str) -> None:
        asked.append(name)

    charset.KNOWN.clear()
    codecs.register(look_up)
    try:
        for number in range(2_000):
            assert decode_header(b"=?charset-%d?q?=C3=A9?=" % number) == "é"
        assert decode_header(b"=?%b?q?=C3=A9?=" % (b"x" * 10_000)) == "é"
    finally:
        codecs.unregister(look_up)
    assert asked == []
    assert len(charset.KNOWN) <= 512
    assert max(map(len, charset.KNOWN)) <= 40


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        # What the Encoding Standard calls by another name than Python, or takes for a superset.
        ("gb2312", "囧朱镕基".encode("gbk"), "囧朱镕基"),
        ("x-gbk", "中".encode("gbk"), "中"),
        ("iso-8859-1", b"\x93x\x94\x80", "“x”€"),
        ("iso-8859-9", b"\x80\xfd", "€ı"),
        ("ks_c_5601-1987", "똠방각하".encode("cp949"), "똠방각하"),
        ("ks_c_5601", "한".encode("cp949"), "한"),
        ("korean", "한".encode("cp949"), "한"),
        ("iso-ir-149", "한".encode("cp949"), "한"),
        ("x-sjis", b"\x87\x40", "①"),
        ("windows-31j", b"\x87\x40", "①"),
        ("iso-8859-8-i", b"\xf9\xec\xe5\xed", "שלום"),
        ("logical", b"\xf9\xec\xe5\xed", "שלום"),
        ("windows-874", b"\xa1\x80", "ก€"),
        ("tis-620", b"\xa1", "ก"),
        ("dos-862", b"\x99\x8c\x85\x8d", "שלום"),
        ("cp-850", b"\x82", "é"),
        ("ibm-850", b"\x82", "é"),
        ("866", b"\x80", "А"),
        ("x-mac-ukrainian", b"\x80", "А"),
        ("x-x-big5", "中".encode("big5"), "中"),
        ("utf8", b"\xc3\xa9", "é"),
        ("unicode-1-1-utf-8", b"\xc3\xa9", "é"),
        ("unicode-1-1-utf-7", b"+AOk-", "é"),
        ("unicodefffe", b"\x00a", "a"),
        # Spellings met in mail.
        ("8859-1", b"\xe9", "é"),
        ("ISO-8859-01", b"\xe9", "é"),
        ("iso_8859-2:1987", b"\xb3", "ł"),
        ("iso-latin-2", b"\xb3", "ł"),
        ("Windows1251", b"\xc0", "А"),
        ("win-1251", b"\xc0", "А"),
        ("ms936", "中".encode("gbk"), "中"),
        ("cp932", b"\x87\x40", "①"),
        ("codepage1250", b"\xb3", "ł"),
        ("koi8", b"\xc1", "а"),
        ("charset=utf-8", b"\xc3\xa9", "é"),
        ('3D"utf-8"', b"\xc3\xa9", "é"),
        ("utf-8-unix", b"\xc3\xa9", "é"),
        ("'utf-8'", b"\xc3\xa9", "é"),
        (" UTF_8 ", b"\xc3\xa9", "é"),
        ("utf-8*en", b"\xc3\xa9", "é"),
    ],
)
def test_names(name: str, data: bytes, text: str) -> None:
    for spelled in (name, name.upper(), f'"{name}"'):
        assert decode_charset(data, find_codec(spelled.encode())) == text


NO_CHARSETS = (
    "x unknown-8bit x-unknown none hex rot13 idna punycode undefined base64 zlib unicode_escape raw_unicode_escape "
    "mbcs oem palmos quopri uu bz2 cp99999 iso-8859-99 ../../etc/passwd"
).split()


@pytest.mark.parametrize("name", [*NO_CHARSETS, "", "\0", "x" * 10_000, "\xed\xb2\x80"])
def test_what_is_no_charset_is_guessed(name: str) -> None:
    codec = find_codec(name.encode("latin-1"))
    assert codec == GUESS
    assert decode_charset("é".encode(), codec) == decode_charset(b"\xe9", codec) == "é"


@given(st.binary(max_size=60))
def test_any_name_and_any_bytes_give_text(data: bytes) -> None:
    decode_charset(data, find_codec(data)).encode()
    decode_plain(data).encode()
    assert "\ufffd" not in decode_plain(data.replace(b"\xef", b""))


def test_every_byte_is_a_character_of_windows_1252() -> None:
    text = decode_plain(bytes(range(256)))
    assert (len(text), text[0x80], text[0x81]) == (256, "€", "\x81")


@pytest.mark.parametrize(
    ("charset", "data", "text"),
    [
        (b"iso-2022-jp", b"a\x1b$B%9-!-@%H\x1b(Bz", "aス①㍉トz"),
        (b"euc-jp", b"a\xa4\xa2\xad\xa1\xad\xc0z", "aあ①㍉z"),
        (b"euc-jp", b"\xf9\xd4 \xfc\xfa", "﨎 ⅹ"),
        (b"iso-2022-jp-3", b"\x1b$By!\x1b(B", "纊"),
        # A hole in the row, another row, half a character.
        (b"iso-2022-jp", b"\x1b$B-?\x1b(B", "\ufffd"),
        (b"euc-jp", b"\xad\xff\xa4\xa2", "\ufffd\ufffdあ"),
        (b"euc-jp", b"\xfe\xfe", "\ufffd\ufffd"),
        (b"euc-jp", b"\xa4\xa2\xad", "あ\ufffd"),
    ],
)
def test_characters_of_japanese_vendors(charset: bytes, data: bytes, text: str) -> None:
    codec = find_codec(charset)
    assert decode_charset(data, codec) == text
    assert decode_strictly(data, codec) == (None if "\ufffd" in text else text)


def test_more_vendor_characters_than_a_mail_has_cost_no_call_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    data = "あ".encode("euc_jp") + b"\xad\xa1a" * 100
    assert (decode_strictly(data, "euc_jp"), decode_charset(data, "euc_jp")) == ("あ" + "①a" * 100,) * 2
    for name, value in (("_MAX_VENDOR_CHARACTERS", 99), ("_MAX_VENDOR_BYTES", len(data) - 1)):
        with monkeypatch.context() as patch:
            patch.setattr(charset, name, value)
            assert decode_strictly(data, "euc_jp") is None
            assert decode_charset(data, "euc_jp") == data.decode("euc_jp", "replace")
