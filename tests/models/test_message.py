"""`Message`: the same fields whether it was recognised by its shape or put together item by item."""

from __future__ import annotations

import io
import pickle
import stat
import sys
from base64 import encodebytes
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import BinaryIO

import pytest
from tests.wire.response.spooled import Spooled

from imapipe.errors import NotFetched, ProtocolError
from imapipe.models.message import FoundItem, Gmail, Message, MessageContext
from imapipe.net.spool import SpoolFile
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.response.fetch import scan_fetch
from imapipe.wire.response.literal import Literal
from imapipe.wire.response.shape import compile_shape

RAW = (
    b"From: =?utf-8?q?Ann_M=C3=BCller?= <ann@example.org>\r\n"
    b"To: bob@example.org\r\n"
    b"Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\n"
    b"Date: Wed, 17 Jul 1996 02:23:25 -0700\r\n"
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="x"\r\n'
    b"\r\n"
    b"--x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHall\xc3\xb6chen\r\n"
    b"--x\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<b>Hi</b>\r\n"
    b'--x\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename="a.pdf"\r\n'
    b"Content-Transfer-Encoding: base64\r\n\r\nJVBERg==\r\n--x--\r\n"
)
HEADER = RAW[: RAW.index(b"\r\n\r\n") + 2]
ENVELOPE = (
    b'("Wed, 17 Jul 1996 02:23:25 -0700" "=?utf-8?b?R3LDvMOfZQ==?=" (("Ann" NIL "ann" "example.org"))'
    b' NIL NIL NIL NIL NIL NIL "<x@example.org>")'
)
STRUCTURE = b'("text" "plain" ("charset" "utf-8") NIL NIL "7bit" 5 1)'


def by_shape(fetch: Fetch, text: bytes, literals: tuple[Literal, ...]) -> Message:
    scan = scan_fetch(text, literals)
    shape = compile_shape(tuple(scan.items))
    assert shape is not None
    match = shape.match(text)
    assert match is not None
    return Message(MessageContext("INBOX", 7, fetch), int(match[shape.uid_group]), len(text), match, shape, literals)


def by_items(fetch: Fetch, text: bytes, literals: tuple[Literal, ...]) -> Message:
    scan = scan_fetch(text, literals)
    assert scan.uid is not None
    found = {name: FoundItem(text, literals, span) for name, span in scan.items.items()}
    return Message.from_items(MessageContext("INBOX", 7, fetch), scan.uid, len(text), found, literals)


def pickled(fetch: Fetch, text: bytes, literals: tuple[Literal, ...]) -> Message:
    made = by_items(fetch, text, literals)
    restored = pickle.loads(pickle.dumps(made))
    assert isinstance(restored, Message)
    return restored


def _spooled(data: bytes) -> Literal:
    """A literal in a real file."""
    file = SpoolFile(len(data), None)
    file.write(memoryview(data))
    return file.finish()


Make = Callable[[Fetch, bytes, tuple[Literal, ...]], Message]
ways = pytest.mark.parametrize("make", [by_shape, by_items, pickled])
both = pytest.mark.parametrize("make", [by_shape, by_items])

COMMON = b'* 3 FETCH (UID 17 FLAGS (\\Seen a) INTERNALDATE "17-Jul-1996 02:44:25 -0700" RFC822.SIZE 4286'


@ways
def test_envelope(make: Make) -> None:
    message = make(Fetch("envelope"), COMMON + b" ENVELOPE " + ENVELOPE + b")", ())
    assert (message.uid, message.mailbox, message.uidvalidity) == (17, "INBOX", 7)
    assert message.flags == {"\\Seen", "a"}
    assert message.size == 4286
    zone = timezone(timedelta(hours=-7))
    assert message.internal_date == datetime(1996, 7, 17, 2, 44, 25, tzinfo=zone)
    assert message.internal_date is message.internal_date
    assert message.envelope.subject == message.subject == "Grüße"
    assert message.envelope is message.envelope
    assert message.sender is not None
    assert message.sender.email == "ann@example.org"
    assert message.date == datetime(1996, 7, 17, 2, 23, 25, tzinfo=zone)
    assert repr(message) == "<Message 'INBOX' uid=17>"
    for read in (
        lambda: message.body,
        message.open,
        lambda: message.headers,
        message.email,
        lambda: message.text,
        lambda: message.structure,
        lambda: message.modseq,
        lambda: message.gmail,
        lambda: message.section("1"),
        lambda: message.is_spooled,
    ):
        with pytest.raises(NotFetched, match="was not fetched"):
            read()


@ways
def test_an_envelope_that_is_read_once_is_not_kept(make: Make) -> None:
    message = make(Fetch("envelope"), COMMON + b" ENVELOPE " + ENVELOPE + b")", ())
    assert message.read_envelope() is not message.read_envelope()
    assert message.read_envelope() == message.envelope
    assert message.read_envelope() is message.envelope


@both
def test_only_a_short_text_that_is_read_once_is_kept(make: Make) -> None:
    for size, is_kept in ((16_384, True), (16_385, False)):
        for kind in ("text", "html"):
            body = b"Content-Type: text/%b\r\n\r\n%b" % (b"html" if kind == "html" else b"plain", b"x" * size)
            message = make(Fetch(section=""), b"* 3 FETCH (UID 17 BODY[] {%d}\r\n)" % len(body), (body,))
            read = getattr(message, f"read_{kind}")
            assert read() == "x" * size
            assert (read() is read()) is is_kept
            assert getattr(message, kind) is getattr(message, kind) is read()


@both
def test_what_is_passed_over_in_an_envelope_counts_once(make: Make) -> None:
    nested = b'("" (("s")) NIL NIL NIL NIL NIL NIL NIL NIL)'
    message = make(Fetch("envelope"), COMMON + b" ENVELOPE " + nested + b")", ())
    for _ in range(2):
        assert message.read_envelope().notes
    assert message.envelope.notes
    assert list(message._context.notes.values()) == [1]


@both
def test_literals_before_and_in_an_envelope_keep_their_places(make: Make) -> None:
    text = b"* 3 FETCH (UID 17 BODY[HEADER.FIELDS (X)] {4}\r\n ENVELOPE (NIL {3}\r\n NIL NIL NIL NIL NIL NIL NIL NIL))"
    message = make(Fetch("envelope", header_fields=["X"]), text, (b"X: 1", b"sub"))
    assert message.envelope.subject == "sub"
    assert message.headers["x"] == "1"


@both
def test_something_behind_an_open_ended_item(make: Make) -> None:
    fetch = Fetch("envelope")
    text = b"* 3 FETCH (UID 17 ENVELOPE " + ENVELOPE + b")"
    message = make(fetch, text, ())
    assert message.subject == "Grüße"
    shape = compile_shape(("UID", "ENVELOPE"))
    assert shape is not None
    longer = text[:-1] + b" MODSEQ (5))"
    match = shape.match(longer)
    assert match is not None
    message = Message(MessageContext("INBOX", 7, fetch), 17, 1, match, shape, ())
    assert message.subject == "Grüße"
    assert message.modseq == 5


@both
def test_structure(make: Make) -> None:
    message = make(Fetch("structure"), b"* 3 FETCH (UID 17 BODYSTRUCTURE " + STRUCTURE + b")", ())
    assert message.structure is message.structure
    assert message.structure.content_type == "text/plain"


@both
def test_a_field_that_is_broken_fails_alone(make: Make) -> None:
    message = make(Fetch("envelope"), COMMON + b' ENVELOPE ("only one"))', ())
    assert message.size == 4286
    for _ in range(2):
        with pytest.raises(ProtocolError):
            _ = message.envelope


@ways
@pytest.mark.parametrize("kind", [bytes, bytearray, Spooled])
def test_full(make: Make, kind: Callable[[bytes], Literal], tmp_path: Path) -> None:
    if make is pickled and kind is Spooled:
        make = by_items
    text = COMMON + b" BODY[] {%d}\r\n)" % len(RAW)
    message = make(Fetch("full"), text, (kind(RAW),))
    assert message.body == RAW
    assert isinstance(message.body, bytes)
    with message.open() as file:
        assert file.read() == RAW
    assert message.headers.raw == HEADER
    assert message.headers["subject"] == message.subject == "Grüße"
    assert message.sender is not None
    assert (message.sender.name, message.sender.email) == ("Ann Müller", "ann@example.org")
    assert message.text.strip() == "Hallöchen"
    assert message.html.strip() == "<b>Hi</b>"
    assert [part.filename for part in message.attachments] == ["a.pdf"]
    assert message.email() is message.email()
    assert message.section("") == RAW
    message.save_to(tmp_path / "mail.eml")
    assert (tmp_path / "mail.eml").read_bytes() == RAW
    assert [path.name for path in tmp_path.iterdir()] == ["mail.eml"]
    spooled = kind is Spooled
    assert message.is_spooled is spooled
    assert message.spooled_size == (len(RAW) if spooled else 0)


def test_a_body_in_memory_is_copied_once() -> None:
    text = COMMON + b" BODY[] {%d}\r\n)" % len(RAW)
    message = by_shape(Fetch("full"), text, (bytearray(RAW),))
    assert message.body is message.body
    assert message.spooled_size == 0


def test_a_file_that_cannot_be_written_is_not_left_half(tmp_path: Path) -> None:
    class Failing(Spooled):
        def open(self) -> BinaryIO:
            class File(io.BytesIO):
                def read(self, size: int | None = -1, /) -> bytes:
                    raise OSError("disk on fire")

                def readinto(self, buffer: object, /) -> int:
                    raise OSError("disk on fire")

            return File(RAW)

    message = by_shape(Fetch("full"), COMMON + b" BODY[] {1}\r\n)", (Failing(RAW),))
    with pytest.raises(OSError, match="disk on fire"):
        message.save_to(tmp_path / "mail.eml")
    assert list(tmp_path.iterdir()) == []


@both
def test_headers_only(make: Make) -> None:
    text = COMMON + b" BODY[HEADER] {%d}\r\n)" % len(HEADER)
    message = make(Fetch("headers"), text, (HEADER,))
    assert message.headers.raw == HEADER
    assert message.headers is message.headers
    assert message.subject == "Grüße"
    assert message.date == datetime(1996, 7, 17, 9, 23, 25, tzinfo=UTC)
    # The header is no body.
    with pytest.raises(NotFetched):
        _ = message.body


@both
def test_sections(make: Make) -> None:
    fetch = Fetch(header_fields=["subject"]) | Fetch(section="1.2") | Fetch(section="2", partial=(10, 3))
    text = b"* 3 FETCH (UID 17 BODY[HEADER.FIELDS (SUBJECT)] {14}\r\n BODY[1.2] {3}\r\n BODY[2]<10> {3}\r\n)"
    message = make(fetch, text, (b"Subject: x\r\n\r\n", b"one", b"two"))
    assert message.section("1.2") == message.body == b"one"
    assert message.section("2", origin=10) == b"two"
    assert message.subject == "x"
    with pytest.raises(NotFetched):
        message.section("2")


def test_a_part_that_a_message_does_not_have() -> None:
    fetch = Fetch(section="7")
    message = by_items(fetch, b"* 3 FETCH (UID 17 BODY[7] NIL)", ())
    assert message.body == message.section("7") == b""
    assert message.open().read() == b""
    message = by_items(fetch, b'* 3 FETCH (UID 17 BODY[7] "quoted \\" ")', ())
    assert message.body == b'quoted " '


def test_a_partial_header_is_no_header() -> None:
    fetch = Fetch(section="HEADER", partial=(0, 5))
    message = by_items(fetch, b"* 3 FETCH (UID 17 BODY[HEADER]<0> {5}\r\n)", (b"Subje",))
    with pytest.raises(NotFetched):
        _ = message.headers
    assert message.section("header", origin=0) == b"Subje"


@pytest.mark.parametrize(
    ("raw", "header"),
    [
        (b"A: 1\r\n\r\nbody\r\n\r\nmore", b"A: 1\r\n"),
        (b"A: 1\n\nbody", b"A: 1\n"),
        (b"\r\nno header\r\n\r\nat all", b""),
        (b"A: 1\r\n", b"A: 1\r\n"),
        (b"", b""),
    ],
)
@pytest.mark.parametrize("kind", [bytes, Spooled])
def test_where_the_header_of_a_whole_message_ends(raw: bytes, header: bytes, kind: Callable[[bytes], Literal]) -> None:
    message = by_shape(Fetch("full"), COMMON + b" BODY[] {1}\r\n)", (kind(raw),))
    assert message.headers.raw == header


def test_the_date_falls_back_to_when_it_was_received() -> None:
    message = by_shape(Fetch("full"), COMMON + b" BODY[] {1}\r\n)", (b"Date: nonsense\r\n\r\n",))
    assert message.date == message.internal_date
    message = by_items(Fetch("headers"), b"* 3 FETCH (UID 17 BODY[HEADER] {1}\r\n)", (b"X: y\r\n\r\n",))
    assert message.date is None
    assert message.sender is None


def test_charsets_that_nobody_knows_do_not_hide_the_text() -> None:
    raw = b"Content-Type: text/plain; charset=x-none\r\n\r\nGr\xc3\xbc\xc3\x9fe"
    message = by_shape(Fetch("full"), COMMON + b" BODY[] {1}\r\n)", (raw,))
    assert "Gr" in message.text
    assert message.html == ""
    assert message.attachments == []


def test_extensions() -> None:
    fetch = Fetch("gmail", "modseq", "email_id", "thread_id", "saved_date", "preview")
    text = (
        b"* 3 FETCH (UID 17 X-GM-MSGID 1278455344230334865 X-GM-THRID 1266894439832287888 "
        b'X-GM-LABELS (\\Inbox "Entw&APw-rfe") MODSEQ (624140003) EMAILID (M6d99ac3275bb4e) THREADID NIL '
        b'SAVEDATE "17-Jul-1996 02:44:25 -0700" PREVIEW "Hello")'
    )
    message = by_items(fetch, text, ())
    assert isinstance(message.gmail, Gmail)
    assert (message.gmail.message_id, message.gmail.thread_id) == (1278455344230334865, 1266894439832287888)
    assert set(message.gmail.labels) == {"\\Inbox", "Entwürfe"}
    assert (message.modseq, message.email_id, message.thread_id) == (624140003, "M6d99ac3275bb4e", None)
    assert message.saved_date is not None
    assert message.preview == "Hello"


def test_items_from_several_answers() -> None:
    one, two = b"* 3 FETCH (UID 17 BODY[] {3}\r\n)", b"* 3 FETCH (UID 17 FLAGS (\\Seen))"
    spooled = Spooled(b"abc")
    found = {
        "BODY[]": FoundItem(one, (spooled,), scan_fetch(one, (spooled,)).items["BODY[]"]),
        "FLAGS": FoundItem(two, (), scan_fetch(two).items["FLAGS"]),
    }
    message = Message.from_items(MessageContext("INBOX", 7, Fetch("full")), 17, 60, found, (spooled,))
    assert (message.body, message.spooled_size) == (b"abc", 3)
    assert message.flags == {"\\Seen"}
    assert spooled.reads == 1


def test_a_message_is_small_and_parses_nothing_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    text = COMMON + b" ENVELOPE " + ENVELOPE + b")"
    message = by_shape(Fetch("envelope"), text, ())
    assert not hasattr(message, "__dict__")
    assert sys.getsizeof(message) <= 160

    def fail(*_: object) -> None:
        raise AssertionError("parsed although nobody asked")

    monkeypatch.setattr("imapipe.models.attributes.parse_envelope", fail)
    assert (message.uid, message.size) == (17, 4286)
    with pytest.raises(AssertionError, match="nobody asked"):
        _ = message.subject


def whole(raw: bytes, kind: Callable[[bytes], Literal] = bytes) -> Message:
    return by_shape(Fetch("full"), COMMON + b" BODY[] {1}\r\n)", (kind(raw),))


MIXED = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n"
INNER = (
    b"From: Bob <bob@example.org>\r\nSubject: in\r\n" + MIXED + b"--x\r\n\r\ninside\r\n--x\r\n"
    b"Content-Type: image/png; name=inner.png\r\n\r\nPNG\r\n--x--"
)
FORWARDED = (
    b"From: Ann <ann@example.org>\r\nContent-Type: multipart/mixed; boundary=outer\r\n\r\n--outer\r\n\r\noutside\r\n"
    b"--outer\r\nContent-Type: message/rfc822\r\n\r\n" + INNER + b"\r\n--outer--\r\n"
)


@pytest.mark.parametrize("kind", [bytes, bytearray, Spooled])
def test_an_attached_message_is_an_attachment_and_a_message(kind: Callable[[bytes], Literal]) -> None:
    message = whole(FORWARDED, kind)
    assert message.text == "outside"
    (attachment,) = message.attachments
    assert (attachment.filename, attachment.safe_filename, attachment.section) == ("", "message.eml", "2")
    assert (attachment.content_type, attachment.size, attachment.content) == ("message/rfc822", len(INNER), INNER)
    inner = attachment.message
    assert inner is not None
    assert (inner.uid, inner.mailbox, inner.subject, inner.text, inner.body) == (17, "INBOX", "in", "inside", INNER)
    assert str(inner.sender) == "Bob <bob@example.org>"
    assert [each.filename for each in inner.attachments] == ["inner.png"]
    assert inner.attachments[0].message is None
    with pytest.raises(NotFetched):
        _ = inner.flags


def test_an_attached_message_in_base64() -> None:
    raw = MIXED + b"--x\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    (attachment,) = whole(raw + encodebytes(INNER) + b"--x--").attachments
    assert attachment.message is not None
    assert attachment.message.text == "inside"


@pytest.mark.parametrize("kind", [bytes, bytearray, Spooled])
def test_attachments(kind: Callable[[bytes], Literal], tmp_path: Path) -> None:
    raw = (
        MIXED + b"--x\r\nContent-Type: application/pdf; name=other.pdf\r\nContent-ID: <a@b>\r\n"
        b"Content-Disposition: Inline; filename*=utf-8''..%2F%C3%9Cbersicht.pdf\r\n"
        b"Content-Transfer-Encoding: BASE64\r\n\r\naGVsbG8=\r\n--x--"
    )
    (attachment,) = whole(raw, kind).attachments
    assert (attachment.filename, attachment.safe_filename) == ("../Übersicht.pdf", "Übersicht.pdf")
    assert (attachment.content_type, attachment.content_id) == ("application/pdf", "a@b")
    assert (attachment.disposition, attachment.encoding, attachment.section) == ("inline", "base64", "1")
    assert (attachment.size, attachment.size, attachment.content) == (5, 5, b"hello")
    assert attachment.open().read() == b"hello"
    attachment.save_to(tmp_path / attachment.safe_filename)
    assert (tmp_path / "Übersicht.pdf").read_bytes() == b"hello"
    assert repr(attachment) == "<Attachment 1 application/pdf>"


def test_attachments_of_a_structure_are_described() -> None:
    structure = (
        b'(("text" "plain" NIL NIL NIL "7bit" 5 1 NIL NIL NIL)'
        b'("application" "pdf" ("name" "a.pdf") "<i@d>" NIL "base64" 7800 NIL '
        b'("attachment" ("filename" "a.pdf")) NIL) "mixed" ("boundary" "x") NIL NIL)'
    )
    fetch = Fetch("structure", section="2")
    message = by_items(fetch, b"* 3 FETCH (UID 17 BODYSTRUCTURE " + structure + b")", ())
    (attachment,) = message.attachments
    assert (attachment.filename, attachment.section, attachment.content_id) == ("a.pdf", "2", "i@d")
    assert attachment.size == 5700
    with pytest.raises(NotFetched, match="content"):
        _ = attachment.content
    with pytest.raises(NotFetched):
        _ = message.text
    # With its section, it has a content.
    text = b"* 3 FETCH (UID 17 BODYSTRUCTURE " + structure + b" BODY[2] {8}\r\n)"
    (attachment,) = by_items(fetch, text, (b"aGVsbG8=",)).attachments
    assert (attachment.content, attachment.size) == (b"hello", 5)


@pytest.mark.parametrize("kind", [bytes, bytearray, Spooled, _spooled])
def test_the_same_bytes_give_the_same_parts_however_they_are_held(kind: Callable[[bytes], Literal]) -> None:
    content = bytes(range(256)).replace(b"\n", b"") + b"\r\n bare \r and \n \r\r\n"
    raw = (
        MIXED + b"--x\r\n\r\na\rb\r\n--x\r\nContent-Type: application/octet-stream; name=a\r\n"
        b"Content-Transfer-Encoding: 8bit\r\n\r\n" + content + b"\r\n--x--\r\n"
    )
    message = whole(raw, kind)
    assert message.text == "a\rb"
    (attachment,) = message.attachments
    assert (attachment.content, attachment.size) == (content, len(content))
    # The standard library takes a bare CR for a line end, but always in the same way.
    part = message.email().get_payload(1)
    expected = whole(raw).email().get_payload(1)
    assert part.get_payload(decode=True) == expected.get_payload(decode=True)  # type: ignore[union-attr]


def test_a_message_that_is_not_there_has_no_text() -> None:
    for kind in (bytes, _spooled):
        message = whole(b"", kind)
        assert (message.text, message.html, message.attachments) == ("", "", [])
        assert message.text is message.text


def test_text_parts_stand_on_lines_of_their_own() -> None:
    raw = MIXED + b"--x\r\n\r\none\r\n--x\r\n\r\ntwo\r\n\r\n--x\r\n\r\nthree\r\n--x--"
    assert whole(raw).text == "one\ntwo\r\nthree"


@pytest.mark.parametrize(
    ("field", "sender"),
    [
        (b"From: Smith, John <john@example.org>", "Smith, John <john@example.org>"),
        (b"From: Ann [x] <ann@example.org>", "Ann [x] <ann@example.org>"),
        ("From: Müller <m@example.org>".encode("latin-1"), "Müller <m@example.org>"),
        (b"From: a@example.org, b@example.org", "a@example.org"),
        (b"From: undisclosed-recipients:;", None),
        (b"From: undisclosed-recipients:;\r\nSender: ann@example.org", "ann@example.org"),
        (b"From:\r\n =?utf-8?q?M=C3=BCller?=\r\n <m@example.org>", "Müller <m@example.org>"),
        (b"X: y", None),
    ],
)
def test_senders(field: bytes, sender: str | None) -> None:
    found = whole(field + b"\r\n\r\n").sender
    assert (str(found) if found is not None else None) == sender


def test_a_folded_date() -> None:
    message = whole(b"Date: Wed,\r\n 17 Jul 1996\r\n\t02:44:25 GMT +0100\r\n\r\n")
    assert message.date == datetime(1996, 7, 17, 1, 44, 25, tzinfo=UTC)


def test_labels_keep_the_order_of_the_server() -> None:
    text = b"* 3 FETCH (UID 17 X-GM-MSGID 1 X-GM-THRID 2 X-GM-LABELS (zeta \\Inbox alpha beta))"
    assert by_items(Fetch("gmail"), text, ()).gmail.labels == ("zeta", "\\Inbox", "alpha", "beta")


def test_saved_with_the_date_it_was_received(tmp_path: Path) -> None:
    message = whole(RAW)
    message.save_to(tmp_path / ("n" * 255), mtime=message.internal_date, durable=False)
    (path,) = tmp_path.iterdir()
    assert message.internal_date is not None
    assert path.stat().st_mtime == message.internal_date.timestamp()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == RAW


@pytest.mark.parametrize(
    "field",
    [b"Content-Type: text/plain; name*", b'Content-Type: text/plain; charset="\0"', b"Content-Type: multipart/mixed"],
)
def test_fields_that_made_the_standard_library_raise(field: bytes) -> None:
    message = whole(field + b"\r\n\r\nGr\xfc\xdfe")
    assert (message.text, message.html, message.attachments) == ("Grüße", "", [])
