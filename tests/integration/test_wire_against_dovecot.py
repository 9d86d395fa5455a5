"""What a real Dovecot sends, framed and parsed, against the standard library's reading of the same messages."""

from __future__ import annotations

import email
import email.policy
import imaplib
import re
from collections.abc import Iterator
from email.message import EmailMessage
from email.utils import getaddresses

import pytest

from dovecot_server import DovecotServer
from imapipe.wire.encoded_word import decode_header
from imapipe.wire.response.body_structure import BodyStructure, parse_body_structure
from imapipe.wire.response.envelope import parse_envelope
from imapipe.wire.response.fetch import scan_fetch
from imapipe.wire.response.framing import Framer
from imapipe.wire.response.item_value import parse_body, parse_flags, parse_internal_date, parse_size
from imapipe.wire.response.literal import Literal
from imapipe.wire.response.response import Esearch, ListItem, MailboxStatus, Search, Status, Tagged, parse_response
from imapipe.wire.uid_set import UidSet

Frame = tuple[bytes, tuple[Literal, ...]]

HEADERS = [
    b'From: "O\\"Neil, \\\\ Bob" <bob@example.org>\r\nSubject: say "hi" \\o/\r\nTo: a@b.c, "D (E)" <d@e.f>\r\n',
    b"From: =?utf-8?Q?Z=C3=AB?= <z@e.f>\r\nSubject: =?utf-8?B?w6k=?= =?utf-8?Q?x?=\r\nTo: undisclosed-recipients:;\r\n",
    b"From: plain@e.org\r\nSubject: smile :) (( 5 * 3 {5}\r\nTo: team: a@b.c, Bee <b@b.c>;, c@d.e\r\nCc: root\r\n",
    "From: Zoë <zoe@example.org>\r\nSubject: grüße\r\nTo: x@y.z\r\n".encode(),
    b"From: a@b.c\r\nSubject: folded\r\n over\r\n\tlines\r\nTo: x@y.z\r\nIn-Reply-To: <q@r>\r\n",
    b"Subject:\r\n",
    b"",
]


def plain(number: int) -> bytes:
    return (
        b"Date: Wed, 17 Jul 1996 02:44:%02d -0700\r\nMessage-ID: <%d@example.org>\r\n" % (number, number)
        + HEADERS[number]
        + b"\r\nbody {3}\r\n* 1 EXISTS\r\n"
    )


def mixed() -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@b.c", "d@e.f", "mixed"
    message.set_content("text\n")
    message.add_alternative("<p>text</p>\n", subtype="html")
    message.add_attachment(b"\x89PNG", maintype="image", subtype="png", filename='né "x" \\ (1).png')
    inner = EmailMessage()
    inner["From"], inner["Subject"] = "inner@b.c", "inner"
    inner.set_content("inner\n")
    inner.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="a" * 90 + ".pdf")
    message.add_attachment(inner)
    return message.as_bytes(policy=email.policy.SMTP)


def talk(client: imaplib.IMAP4, command: bytes) -> Iterator[Frame]:
    """Send a command of our own and frame what comes back, up to its end."""
    client.send(b"X1 " + command + b"\r\n")
    framer = Framer()
    while True:
        for text, literals, _ in framer.feed(client.readline()):
            yield text, literals
            if text.startswith(b"X1 "):
                assert parse_response(text) == Tagged("X1", "OK", *_code_and_text(text))
                return


def _code_and_text(text: bytes) -> tuple[None, str]:
    return None, text.partition(b" OK ")[2].decode()


@pytest.fixture
def client(dovecot: DovecotServer) -> Iterator[imaplib.IMAP4]:
    user = dovecot.new_user()
    dovecot.fill(user, "INBOX", [*(plain(number) for number in range(len(HEADERS))), mixed()])
    with dovecot.login(user) as client:
        client.select("INBOX", readonly=True)
        yield client


def test_envelopes(client: imaplib.IMAP4) -> None:
    frames = list(talk(client, b"UID FETCH 1:7 (FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)"))[:-1]
    assert len(frames) == len(HEADERS)
    assert any(literals for _, literals in frames)
    for number, (text, literals) in enumerate(frames):
        scan = scan_fetch(text, literals)
        envelope = parse_envelope(text, literals, scan.items["ENVELOPE"])
        assert scan.uid == number + 1
        assert parse_size(text, scan.items["RFC822.SIZE"]) == len(plain(number))
        assert parse_internal_date(text, scan.items["INTERNALDATE"]) is not None
        assert isinstance(parse_flags(text, scan.items["FLAGS"]), frozenset)
        message = email.message_from_bytes(plain(number))
        assert envelope.message_id == message["Message-ID"]
        assert envelope.date is not None
        assert envelope.date.second == number
        assert envelope.in_reply_to == (message["In-Reply-To"] or "")
        unfolded = re.sub(rb"\r\n[ \t]", b" ", HEADERS[number])
        raw = dict(line.split(b": ", 1) for line in unfolded.split(b"\r\n") if b": " in line)
        assert envelope.subject == decode_header(raw.get(b"Subject", b""))
        names = [
            (decode_header(name.encode()), address) for name, address in getaddresses([raw.get(b"From", b"").decode()])
        ]
        assert [(address.name, address.email) for address in envelope.from_] == [pair for pair in names if pair[1]]
        assert envelope.from_ == envelope.sender == envelope.reply_to


def test_groups(client: imaplib.IMAP4) -> None:
    found = []
    for text, literals in list(talk(client, b"UID FETCH 2:3 (ENVELOPE)"))[:-1]:
        envelope = parse_envelope(text, literals, scan_fetch(text, literals).items["ENVELOPE"])
        found.append([address.email for address in envelope.to])
    assert found == [[], ["a@b.c", "b@b.c", "c@d.e"]]


def test_bodies(client: imaplib.IMAP4) -> None:
    for text, literals in list(talk(client, b"UID FETCH 1:7 (BODY.PEEK[] BODY.PEEK[HEADER.FIELDS (Subject From)])"))[
        :-1
    ]:
        scan = scan_fetch(text, literals)
        assert scan.uid is not None
        assert parse_body(text, literals, scan.items["BODY[]"]) == plain(scan.uid - 1)
        assert "BODY[HEADER.FIELDS (SUBJECT FROM)]" in scan.items


def test_structure(client: imaplib.IMAP4) -> None:
    frame, _ = talk(client, b"UID FETCH 8 (BODYSTRUCTURE)")
    structure = parse_body_structure(*frame, scan_fetch(*frame).items["BODYSTRUCTURE"])
    assert [(part.number, part.content_type) for part in structure.walk()] == [
        ("TEXT", "multipart/mixed"),
        ("1", "multipart/alternative"),
        ("1.1", "text/plain"),
        ("1.2", "text/html"),
        ("2", "image/png"),
        ("3", "message/rfc822"),
        ("3.TEXT", "multipart/mixed"),
        ("3.1", "text/plain"),
        ("3.2", "application/pdf"),
    ]
    image, message = structure.parts[1], structure.parts[2]
    assert (image.filename, image.is_attachment) == ('né "x" \\ (1).png', True)
    assert message.envelope is not None
    assert message.envelope.subject == "inner"
    assert message.parts[0].parts[1].filename == "a" * 90 + ".pdf"
    for part in structure.walk():
        _check_section(client, part)


def _check_section(client: imaplib.IMAP4, part: BodyStructure) -> None:
    """The section number of a part fetches as many bytes as the structure says."""
    section = f"BODY[{part.number}]"
    (text, literals), _ = talk(client, f"UID FETCH 8 (BODY.PEEK[{part.number}])".encode())
    body = parse_body(text, literals, scan_fetch(text, literals).items[section])
    assert body is not None
    assert part.is_multipart or len(body) == part.size


def test_the_other_responses(client: imaplib.IMAP4) -> None:
    kinds = [type(parse_response(*frame)).__name__ for frame in talk(client, b"CAPABILITY")]
    assert kinds == ["Capability", "Tagged"]
    search, _ = (parse_response(*frame) for frame in talk(client, b"UID SEARCH ALL"))
    assert search == Search(UidSet.parse("1:8"))
    esearch, _ = (parse_response(*frame) for frame in talk(client, b"UID SEARCH RETURN (MIN MAX COUNT ALL) ALL"))
    assert esearch == Esearch("X1", True, 1, 8, 8, UidSet.parse("1:8"))
    responses = [parse_response(*frame) for frame in talk(client, b'LIST "" * RETURN (STATUS (MESSAGES UIDNEXT))')]
    listed, status = responses[:2]
    assert isinstance(listed, ListItem)
    assert listed.name == b"INBOX"
    assert status == MailboxStatus(b"INBOX", {"MESSAGES": 8, "UIDNEXT": 9})
    namespace, _ = (parse_response(*frame) for frame in talk(client, b"NAMESPACE"))
    assert type(namespace).__name__ == "Namespace"
    client.send(b"X2 EXAMINE INBOX\r\n")
    codes = {}
    while not (line := client.readline()).startswith(b"X2"):
        response = parse_response(line[:-2])
        if isinstance(response, Status) and response.code is not None:
            codes[response.code.name] = response.code
    assert codes["UIDNEXT"].uidnext == 9
    assert codes["UIDVALIDITY"].uidvalidity is not None
    assert codes["PERMANENTFLAGS"].permanent_flags == frozenset()
