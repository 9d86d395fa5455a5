"""The transcript of server oddities, framed in every way and then read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from imapipe.wire.response.body_structure import parse_body_structure
from imapipe.wire.response.envelope import parse_envelope
from imapipe.wire.response.fetch import FetchScan, scan_fetch
from imapipe.wire.response.framing import Framer
from imapipe.wire.response.item_value import parse_body, parse_flags, parse_internal_date, parse_modseq, parse_size
from imapipe.wire.response.literal import Literal
from imapipe.wire.response.response import (
    Code,
    Continuation,
    Esearch,
    Exists,
    ListItem,
    MailboxStatus,
    Recent,
    Response,
    Search,
    Status,
    Tagged,
    Vanished,
    parse_greeting,
    parse_response,
)
from imapipe.wire.uid_set import UidSet

TRANSCRIPT = Path(__file__).parent.parent / "transcripts" / "oddities.txt"


def server_bytes() -> bytes:
    """What the server of the transcript sends."""
    lines = [line[3:] for line in TRANSCRIPT.read_text("utf-8").split("\n") if line.startswith("S: ") or line == "S:"]
    return "".join(f"{line}\r\n" for line in lines).replace("\u2400", "\0").replace("\u240a", "\n").encode()


def chunks(data: bytes, way: str) -> Iterator[bytes]:
    """The stream whole, byte by byte, or cut behind each literal marker."""
    if way == "whole":
        yield data
    elif way == "bytes":
        yield from (data[at : at + 1] for at in range(len(data)))
    else:
        yield from re.split(rb"(?<=\}\r\n)", data)


@pytest.fixture(params=["whole", "bytes", "markers"])
def frames(request: pytest.FixtureRequest) -> list[tuple[bytes, tuple[Literal, ...]]]:
    framer = Framer()
    found = [
        (text, literals) for chunk in chunks(server_bytes(), request.param) for text, literals, _ in framer.feed(chunk)
    ]
    assert not framer.partial
    return found


SIMPLE: list[Response] = [
    Status("OK", None, "still here"),
    Exists(4),
    Recent(3),
    Status("OK", Code("UIDVALIDITY", b"7"), ""),
    Status("OK", Code("COPYUID", b"7 1:2 5:6"), ""),
    Continuation(""),
    Tagged("a1", "OK", Code("READ-ONLY"), "done {12}"),
    Tagged("A2", "OK", None, "Success [THROTTLED]"),
    Status("BYE", None, "Autologout; idle for too long"),
    Search(UidSet.from_numbers([3, 5, 9])),
    Search(UidSet()),
    MailboxStatus(b"INBOX", {"MESSAGES": 3, "UIDNEXT": 10}),
    ListItem(frozenset({"\\HasNoChildren"}), "/", b"Sent Items"),
    ListItem(frozenset({"\\HasNoChildren"}), "/", b"control \n character"),
    ListItem(frozenset(), "/", b'a "b" \\ c'),
    Esearch("A4", True, all=UidSet.parse("3,5:9")),
    Vanished(True, UidSet.parse("1:2,4")),
]


def test_everything_before_the_messages(frames: list[tuple[bytes, tuple[Literal, ...]]]) -> None:
    assert parse_greeting(frames[0][0]).kind == "BYE"
    assert [parse_response(text, literals) for text, literals in frames[1 : len(SIMPLE) + 1]] == SIMPLE


def test_the_messages(frames: list[tuple[bytes, tuple[Literal, ...]]]) -> None:
    rest = frames[len(SIMPLE) + 1 :]
    scans: list[FetchScan] = [scan_fetch(text, literals) for text, literals in rest]
    assert [(scan.seq, scan.uid) for scan in scans[:5]] == [(1, 3), (2, 5), (0, 5), (3, None), (0, 9)]
    assert [(scan.seq, scan.uid) for scan in scans[5:]] == [(3, 9)] * 7

    def parsed(number: int) -> tuple[bytes, tuple[Literal, ...], FetchScan]:
        return *rest[number], scans[number]

    text, literals, scan = parsed(0)
    assert parse_envelope(text, literals, scan.items["ENVELOPE"]).subject == "5 * 3 = 15 :) {3}"
    assert parse_flags(text, scan.items["FLAGS"]) == {"\\Seen"}

    text, literals, scan = parsed(1)
    body = parse_body(text, literals, scan.items["BODY[]"])
    assert body == b"A5 OK done\r\n* 9 EXISTS\r\n* 2 FETCH (UID 99 FLAGS (\\Deleted)) {5}\r\n"
    assert list(scan.items) == ["BODY[]", "UID"]

    text, literals, scan = parsed(4)
    assert parse_flags(text, scan.items["FLAGS"]) == {"\\Draft"}

    for number in (5, 6):
        text, literals, scan = parsed(number)
        assert parse_body(text, literals, scan.items["BODY[]"]) is None

    text, literals, scan = parsed(7)
    assert parse_size(text, scan.items["RFC822.SIZE"]) == 9_373_600
    assert parse_modseq(text, scan.items["MODSEQ"]) == 0
    assert parse_internal_date(text, scan.items["INTERNALDATE"]) is None

    envelopes = [
        parse_envelope(text, literals, scan.items["ENVELOPE"]) for text, literals, scan in map(parsed, (8, 9, 10))
    ]
    assert [envelope.subject for envelope in envelopes] == ['a 5" disk (new)', "C:\\", "grüße"]
    assert [envelope.from_[0].name for envelope in envelopes] == ['Bob "B" Lee', "Ann", "Zoë"]

    text, literals, scan = parsed(11)
    structure = parse_body_structure(text, literals, scan.items["BODYSTRUCTURE"])
    assert [part.content_type for part in structure.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "application/octet-stream",
        "text/plain",
        "message/rfc822",
    ]
    assert (structure.parts[2].lines, structure.parts[2].is_attachment) == (None, True)
