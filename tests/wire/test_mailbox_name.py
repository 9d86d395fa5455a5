"""Mailbox names: the examples of the standards, round trips, and names that no standard allows."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imapipe.wire.mailbox_name import (
    MailboxName,
    can_be_mailbox_name,
    decode_mailbox_name,
    decode_mailbox_names,
    encode_mailbox_name,
    quote,
)

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0")).filter(
    lambda name: not any("\uf700" <= character <= "\uf7ff" for character in name) and name.upper() != "INBOX"
)


def unquote(quoted: bytes) -> bytes:
    """Read a quoted string by hand, byte for byte."""
    assert quoted[:1] == b'"' == quoted[-1:]
    inner, result, position = quoted[1:-1], bytearray(), 0
    while position < len(inner):
        if inner[position] == 0x5C:
            position += 1
            assert inner[position] in b'"\\'
        else:
            assert inner[position] != 0x22
        result.append(inner[position])
        position += 1
    return bytes(result)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("Sent", b"Sent"),
        # The example of RFC 3501 §5.1.3.
        ("~peter/mail/台北/日本語", b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
        ("Entwürfe", b"Entw&APw-rfe"),
        ("R&D", b"R&-D"),
        ("&", b"&-"),
        ("&é&", b"&-&AOk-&-"),
        ("Ärger/Öl", b"&AMQ-rger/&ANY-l"),
        ("😀", b"&2D3eAA-"),
        ("a\tb", b"a&AAk-b"),
        ("", b""),
    ],
)
def test_modified_utf7(name: str, raw: bytes) -> None:
    assert unquote(encode_mailbox_name(name)) == raw
    assert decode_mailbox_name(raw) == name


def test_quoted_specials() -> None:
    assert encode_mailbox_name('a "b" \\c') == b'"a \\"b\\" \\\\c"'
    assert quote("é") == b'"\xc3\xa9"'
    assert quote(b"\xe9") == b'"\xe9"'
    assert quote("") == b'""'


@pytest.mark.parametrize("name", ["inbox", "INBOX", "InBox"])
def test_inbox_has_one_name(name: str) -> None:
    assert encode_mailbox_name(name) == encode_mailbox_name(name, utf8=True) == b'"INBOX"'
    assert decode_mailbox_name(name.encode()) == "INBOX"


@pytest.mark.parametrize("name", ["inboxes", "inbox/a", "ınbox", "Archive/inbox"])
def test_only_the_whole_name_is_inbox(name: str) -> None:
    assert decode_mailbox_name(unquote(encode_mailbox_name(name))) == name


@given(NAMES, st.booleans())
def test_names_round_trip(name: str, utf8: bool) -> None:
    raw = unquote(encode_mailbox_name(name, utf8=utf8))
    assert decode_mailbox_name(raw, utf8=utf8) == name
    if utf8:
        assert raw == name.encode()
    else:
        assert all(0x20 <= byte < 0x7F for byte in raw)


# Text close to UTF-7 finds more than random bytes do.
RAW = st.one_of(
    st.binary(max_size=40),
    st.text("&-,+/AQkOU9é\x01\x7f", max_size=20).map(str.encode),
    st.text("&-,+AQkO", max_size=12).map(str.encode),
)


@given(RAW.filter(lambda raw: raw.upper() != b"INBOX"), st.booleans())
@example(b"Caf\xc3\xa9", False)
@example(b"Caf\xe9", True)
@example(b"&AGE-", False)  # a letter that needs no encoding
@example(b"&AOk-&AOk-", False)  # two shifts that should be one
@example(b"&AOk", False)  # no end
@example(b"&AOl-", False)  # bits left over
@example(b"&2D0-", False)  # half a surrogate pair
@example(b"&94A-", False)  # one of our own escapes, encoded
@example("\uf780".encode(), True)
@example(b"&AA0ACg-", False)  # CR LF, encoded
def test_whatever_a_server_sends_can_be_sent_back(raw: bytes, utf8: bool) -> None:
    name = decode_mailbox_name(raw, utf8=utf8)
    assert json.loads(json.dumps(name)) == name
    name.encode()  # no surrogates: it can be printed
    try:
        quoted = encode_mailbox_name(name, utf8=utf8)
    except ValueError:
        assert any(byte in raw for byte in b"\r\n\0")
    else:
        assert unquote(quoted) == raw


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        # Raw UTF-8 (imap-backup 119), and both in one name.
        (b"Caf\xc3\xa9", "Café"),
        (b"Caf\xc3\xa9/&AOk-", "Café/é"),
        # An ampersand inside of base64 (Yandex), one that is not escaped, with what looks like base64 behind it.
        (b"&BBAEMQQyACYEMwQ0BDU-", "Абв&где"),
        (b"A&B", "A&B"),
        (b"R&D/&", "R&D/&"),
        (b"A&Bcde", "A&Bcde"),
        # Base64 without its end, with padding, with a slash, in two pieces, with bits left over.
        (b"Entw&APw", "Entwü"),
        (b"&AOk=-", "é"),
        (b"&U/BTFw-", "台北"),
        (b"&AOk-&AOk-", "éé"),
        (b"&AOl-", "é"),
        # A letter that needs no encoding.
        (b"&AGE-", "a"),
    ],
)
def test_names_that_are_spelled_otherwise_are_readable_and_open(raw: bytes, name: str) -> None:
    decoded = decode_mailbox_name(raw)
    assert decoded == name
    assert unquote(encode_mailbox_name(decoded)) == raw
    for copied in (pickle.loads(pickle.dumps(decoded)), copy.deepcopy(decoded)):
        assert unquote(encode_mailbox_name(copied)) == raw
    assert type(str(decoded)) is str
    # Written down and read again it is only text, and the standard's spelling is tried.
    assert decode_mailbox_name(unquote(encode_mailbox_name(str(decoded)))) == name
    # A server that takes UTF-8 now has not told this spelling.
    assert unquote(encode_mailbox_name(decoded, utf8=True)) == name.encode()


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"Caf\xe9", "Caf\uf7e9"),
        (b"a\x01b", "a\uf701b"),
        (b"&2D0-", "\uf7262D0-"),
        (b"&AA0ACg-", "\uf726AA0ACg-"),
        (b"&94A-", "\uf72694A-"),
        (b"&AEkATgBCAE8AWA-", "\uf726AEkATgBCAE8AWA-"),
    ],
)
def test_names_that_nobody_can_read_are_escaped(raw: bytes, name: str) -> None:
    assert decode_mailbox_name(raw) == name
    assert not isinstance(decode_mailbox_name(raw), MailboxName)


def test_an_ampersand_is_one_in_utf8() -> None:
    assert decode_mailbox_name(b"A&B", utf8=True) == "A&B"


def test_no_two_names_of_a_list_are_alike() -> None:
    raws = [b"Caf\xc3\xa9", b"Caf&AOk-", b"Caf&AOk", b"&AGE-", b"&AGE", b"x"]
    names = decode_mailbox_names(raws)
    assert names[b"Caf&AOk-"] == "Café"
    assert names[b"&AGE-"] == "a"
    assert len(set(names.values())) == len(raws)
    for raw, name in names.items():
        assert unquote(encode_mailbox_name(name)) == raw


@pytest.mark.parametrize("utf8", [False, True])
@pytest.mark.parametrize("name", ["a\rb", "a\nb", "a\0b", "\uf70d", "\uf70a\uf700", "x\r\nA1 LOGOUT"])
def test_no_command_can_be_smuggled_in(name: str, utf8: bool) -> None:
    with pytest.raises(ValueError, match="CR, LF and NUL"):
        encode_mailbox_name(name, utf8=utf8)


@pytest.mark.parametrize("utf8", [False, True])
def test_half_a_surrogate_pair_is_refused(utf8: bool) -> None:
    with pytest.raises(ValueError, match="surrogate"):
        encode_mailbox_name("a\ud800", utf8=utf8)


@pytest.mark.parametrize("value", ["a\r", "\n", b"\0"])
def test_quote_refuses_line_ends(value: str | bytes) -> None:
    with pytest.raises(ValueError, match="remove them"):
        quote(value)


def test_what_a_server_can_be_asked_for() -> None:
    assert can_be_mailbox_name("Entwürfe & more")
    assert not any(map(can_be_mailbox_name, ("", "a\nb", "a\rb", "a\0b", "a\udcfcb")))
    # A server may have names that are no text; they are asked for as it spells them.
    assert can_be_mailbox_name(decode_mailbox_name(b"a\xfc"))
