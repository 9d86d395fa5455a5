"""Answers to a FETCH that break the grammar, in every chunking: what is beyond doubt comes, the rest is named."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from imapipe.errors import NestedTooDeeply, NotFetched, ProtocolError, ResponseTooLarge
from imapipe.models.message import Message, MessageContext
from imapipe.net.command import FetchCommand
from imapipe.net.dataplane import Dataplane
from imapipe.net.options import PlaneOptions
from imapipe.net.session import Session
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.response.limits import Limits
from imapipe.wire.response.shape import compile_shape
from imapipe.wire.uid_set import UidSet
from scripted_server import FakeTransport

pytestmark = pytest.mark.asyncio

DATE = b'INTERNALDATE "17-Jul-1996 02:44:25 -0700"'
FULL = Fetch("full")
WAYS = ("whole", "bytes", "markers")


@dataclass
class Outcome:
    """What one FETCH brought."""

    messages: dict[int, Message] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    missing: str = ""
    incomplete: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)


class Line:
    """A data plane that has been greeted, with one FETCH under way."""

    def __init__(self, uids: str, fetch: Fetch, options: PlaneOptions | None = None) -> None:
        self.plane = Dataplane(Session(logged_in=True), options)
        self.transport = FakeTransport(self.plane)
        self.transport.feed(b"* OK ready\r\n")
        self.messages: list[Message] = []
        self.command = FetchCommand(
            [b"UID FETCH\r\n"],
            UidSet.parse(uids),
            MessageContext("INBOX", 1, fetch),
            compile_shape(("UID", *fetch.names)),
            self.messages.extend,
        )
        self.plane.submit(self.command)

    def feed(self, stream: bytes, way: str = "whole") -> None:
        if way == "bytes":
            self.transport.feed(stream, most=1)
        else:
            for chunk in re.split(rb"(?<=\}\r\n)", stream) if way == "markers" else [stream]:
                self.transport.feed(chunk)


async def play(stream: bytes, way: str, fetch: Fetch = FULL, uids: str = "1:3") -> Outcome:
    line = Line(uids, fetch)
    line.feed(stream + b"P1 OK done\r\n", way)
    assert (await line.command.finished).status == "OK"
    command, holdings = line.command, line.plane.holdings
    assert holdings.held_bytes + holdings.spooled_bytes == sum(message.wire_size for message in line.messages)
    assert not holdings.is_keeping
    assert line.plane.error is None
    return Outcome(
        {message.uid: message for message in line.messages},
        {uid: failure.reason for uid, failure in command.malformed.items()},
        command.missing.text(),
        command.incomplete,
        {note.kind: count for note, count in command.notes.items()},
    )


every_way = pytest.mark.parametrize("way", WAYS)


# -- items that never come -----------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize(
    ("items", "fetch", "missing", "field_name"),
    [
        (b"FLAGS () RFC822.SIZE 3 BODY[] {3}\r\nabc", FULL, "INTERNALDATE", "internal_date"),
        (b"FLAGS () " + DATE + b" BODY[] {3}\r\nabc", FULL, "RFC822.SIZE", "size"),
        (DATE + b" RFC822.SIZE 3 BODY[] {3}\r\nabc", FULL, "FLAGS", "flags"),
        # A number that is none, as good as missing.
        (b"FLAGS () " + DATE + b" RFC822.SIZE abc BODY[] {3}\r\nabc", FULL, "RFC822.SIZE", "size"),
        (b"FLAGS () BODY[] {3}\r\nabc", Fetch("flags", "modseq", section=""), "MODSEQ", "modseq"),
        (b"FLAGS () " + DATE + b" RFC822.SIZE 3", Fetch("envelope"), "ENVELOPE", "envelope"),
        (b"BODY[] {3}\r\nabc", Fetch("email_id", section=""), "EMAILID", "email_id"),
    ],
)
async def test_a_message_without_an_item_is_handed_over_and_the_item_is_named(
    way: str, items: bytes, fetch: Fetch, missing: str, field_name: str
) -> None:
    found = await play(b"* 1 FETCH (UID 2 " + items + b")\r\n", way, fetch)
    assert (list(found.messages), found.missing, found.failures) == ([2], "1,3", {})
    assert found.incomplete == {missing: 1}
    with pytest.raises(NotFetched, match="left it out"):
        getattr(found.messages[2], field_name)
    if fetch.has_body:
        assert found.messages[2].body == b"abc"


@every_way
@pytest.mark.parametrize(
    ("stream", "fetch"),
    [
        # What a server tells unasked is no answer (Exchange says OK and sends nothing).
        (b"* 1 FETCH (UID 2 FLAGS (\\Deleted))\r\n", FULL),
        (b"* 1 FETCH (UID 2 FLAGS (\\Deleted) MODSEQ (7))\r\n", Fetch("envelope", "modseq")),
        (b"* 1 FETCH (UID 2 FLAGS ())\r\n", Fetch("flags", "size")),
        (b"* 1 FETCH (UID 2 RFC822.SIZE abc)\r\n", Fetch("size")),
        # CommuniGate Pro answers only the first item when it does not like the list.
        (b"* 1 FETCH (UID 2)\r\n", FULL),
        (b"* 1 FETCH (UID 2 FLAGS () " + DATE + b" RFC822.SIZE 3)\r\n", FULL),
        # Whose it is cannot be told (offlineimap met UID 0).
        (b"* 1 FETCH (UID 0 FLAGS () " + DATE + b" RFC822.SIZE 3 BODY[] {3}\r\nabc)\r\n", FULL),
    ],
)
async def test_what_is_no_message_stays_missing(way: str, stream: bytes, fetch: Fetch) -> None:
    found = await play(stream, way, fetch)
    assert not found.messages
    assert not found.failures
    assert (found.missing, found.incomplete) == ("1:3", {})


async def test_a_size_that_no_file_can_have_is_the_largest_there_is() -> None:
    found = await play(b"* 1 FETCH (UID 2 RFC822.SIZE 9999999999999999999)\r\n", "whole", Fetch("size"))
    assert found.messages[2].size == 2**63 - 1


async def test_only_flags_asked_are_an_answer_when_only_flags_come() -> None:
    found = await play(b"* 1 FETCH (UID 2 FLAGS (a))\r\n", "whole", Fetch("flags", "modseq"))
    assert found.messages[2].flags == {"a"}
    assert found.incomplete == {"MODSEQ": 1}


async def test_nothing_incomplete_is_handed_over_without_ok() -> None:
    for end in (b"P1 NO later\r\n", b"P1 BAD what\r\n"):
        line = Line("1", FULL)
        line.feed(b"* 1 FETCH (UID 1 BODY[] {3}\r\nabc)\r\n" + end)
        await line.command.finished
        assert (line.messages, line.command.missing.text()) == ([], "1")
        assert not line.plane.holdings.is_keeping


async def test_the_rest_that_comes_late_is_joined() -> None:
    found = await play(
        b"* 1 FETCH (UID 2 BODY[] {3}\r\nabc)\r\n* 1 FETCH (UID 2 FLAGS () RFC822.SIZE 3)\r\n"
        b"* 1 FETCH (UID 2 " + DATE + b")\r\n",
        "whole",
    )
    assert (found.messages[2].size, found.incomplete) == (3, {})


async def test_what_waits_for_its_rest_counts_against_the_memory() -> None:
    """Half messages beyond the bound are not waited for; then they are held like others, and reading pauses."""
    line = Line("1:9", FULL, PlaneOptions(max_held_bytes=7000, limits=Limits(kept_bytes=100_000)))
    part = b"* 1 FETCH (UID %d BODY[] {3000}\r\n" + b"x" * 3000 + b")\r\n"
    for uid in (1, 2):
        line.feed(part % uid)
    assert line.messages == []
    line.feed(part % 3)
    assert [message.uid for message in line.messages] == [3]
    line.feed(part % 4 + part % 5)
    assert [message.uid for message in line.messages] == [3, 4, 5]
    assert line.plane.is_reading_paused
    for message in line.messages:
        line.plane.release(message)
    del line.messages[:]
    line.feed(b"P1 OK done\r\n")
    assert [message.uid for message in line.messages] == [1, 2]
    assert line.command.incomplete == {"FLAGS": 5, "INTERNALDATE": 5, "RFC822.SIZE": 5}
    assert line.plane.holdings.held_bytes == sum(message.wire_size for message in line.messages)


async def test_ever_new_names_fill_nothing() -> None:
    line = Line("1", FULL, PlaneOptions(limits=Limits(kept_bytes=100_000)))
    for number in range(10_000):
        line.feed(b"* 1 FETCH (UID 1 X-%d (a b))\r\n" % number)
        assert not line.command.parts or line.command.parts[1].items == {}
    with pytest.raises(ResponseTooLarge):
        await line.command.finished


# -- answers whose form is broken ----------------------------------------------------------------------------------

WHOLE = b"FLAGS (\\Seen) " + DATE + b" RFC822.SIZE 3 "
OTHER = b"* 2 FETCH (UID 3 " + WHOLE + b"BODY[] {3}\r\nxyz)\r\n"


@every_way
@pytest.mark.parametrize(
    "stream",
    [
        # Xeams: the answer ends behind the body, the rest follows on a line of its own.
        b"* 1 FETCH (UID 2 BODY[] {3}\r\nabc)\r\n FLAGS (\\Seen) RFC822.SIZE 3 " + DATE + b")\r\n",
        b"* 1 FETCH (UID 2 BODY[] {3}\r\nabc)\r\nFLAGS (\\Seen) RFC822.SIZE 3 " + DATE + b"\r\n",
        b"* 1 FETCH (UID 2 " + WHOLE + b"\r\n BODY[] {3}\r\nabc)\r\n",
        # Domino: a line end before the last parenthesis.
        b"* 1 FETCH (UID 2 " + WHOLE + b"BODY[] {3}\r\nabc\r\n)\r\n",
        b"* 1 FETCH (UID 2 BODY[] {3}\r\nabc\r\n " + WHOLE + b")\r\n",
        # Domino: parentheses around an item, around several.
        b"* 1 FETCH (UID 2 (FLAGS (\\Seen)) " + DATE + b" RFC822.SIZE 3 BODY[] {3}\r\nabc)\r\n",
        b"* 1 FETCH (UID 2 (" + WHOLE + b")BODY[] {3}\r\nabc)\r\n",
        b"* 1 FETCH ((UID 2 " + WHOLE + b"BODY[] {3}\r\nabc))\r\n",
        # Items that nobody asked for, with values of several words, or in lists of lists.
        b"* 1 FETCH (UID 2 X-FOO a (b (c)) d " + WHOLE + b"BODY[] {3}\r\nabc)\r\n",
        b"* 1 FETCH (X-FOO (a {2}\r\n)( (b)) UID 2 " + WHOLE + b"BODY[] {3}\r\nabc)\r\n",
        b"* 1 FETCH (UID 2 X-EMPTY " + WHOLE + b"BODY[] {3}\r\nabc X-LAST a (b) c)\r\n",
        b"* 1 FETCH (UID 2 ANNOTATION (/comment (value.priv NIL (x) y)) z " + WHOLE + b"BODY[] {3}\r\nabc)\r\n",
        # A value left out in the middle.
        b"* 1 FETCH (UID 2 MODSEQ " + WHOLE + b"BODY[] {3}\r\nabc)\r\n",
    ],
)
async def test_nothing_is_lost(way: str, stream: bytes) -> None:
    found = await play(stream + OTHER, way)
    assert (sorted(found.messages), found.missing, found.failures, found.incomplete) == ([2, 3], "1", {}, {})
    message = found.messages[2]
    assert (message.body, message.flags, message.size) == (b"abc", frozenset({"\\Seen"}), 3)
    assert message.internal_date is not None
    assert found.messages[3].body == b"xyz"


@every_way
@pytest.mark.parametrize(
    ("raw", "flags"),
    [
        (b"(\\Seen odd()", {"\\Seen", "odd("}),
        (b"(\\Seen $Label(1))", {"\\Seen", "$Label(1)"}),
        (b"(\\Seen a) b)", {"\\Seen", "a)", "b"}),
        (b'(\\Seen "quo ted")', {"\\Seen", "quo", "ted"}),
        (b'(\\Seen a"b)', {"\\Seen", 'a"b'}),
        (b"(\\Seen [Gmail]/Important a]b)", {"\\Seen", "[Gmail]/Important", "a]b"}),
        (b"(\\Seen Caf\xc3\xa9 \x04Junk {3})", {"\\Seen", "Café", "\x04Junk", "{3}"}),
        (b"( \\Seen  x )", {"\\Seen", "x"}),
        (b"NIL", set()),
    ],
)
@pytest.mark.parametrize("last", [False, True])
async def test_odd_flags(way: str, raw: bytes, flags: set[str], last: bool) -> None:
    rest = DATE + b" RFC822.SIZE 3 BODY[] {3}\r\nabc"
    items = rest + b" FLAGS " + raw if last else b"FLAGS " + raw + b" " + rest
    found = await play(b"* 1 FETCH (UID 2 " + items + b")\r\n" + OTHER, way)
    assert (sorted(found.messages), found.failures) == ([2, 3], {})
    assert found.messages[2].flags == flags
    assert found.messages[2].body == b"abc"


@every_way
@pytest.mark.parametrize(
    ("items", "missing"),
    [
        (b'FLAGS () ENVELOPE ("never ends NIL) RFC822.SIZE 3 BODY[] {3}\r\nabc', {"ENVELOPE", "RFC822.SIZE"}),
        (b'FLAGS () RFC822.SIZE 3 BODY[] {3}\r\nabc ENVELOPE ("never ends NIL)', {"ENVELOPE"}),
        (b"FLAGS (a b RFC822.SIZE 3 ENVELOPE (NIL) BODY[] {3}\r\nabc", {"FLAGS", "RFC822.SIZE", "ENVELOPE"}),
        (b"FLAGS () RFC822.SIZE 3 ENVELOPE ((NIL BODY[] {3}\r\nabc", {"ENVELOPE"}),
        (b'FLAGS () RFC822.SIZE 3 ENVELOPE "x BODY[] {3}\r\nabc', {"ENVELOPE"}),
    ],
)
async def test_the_body_behind_what_cannot_be_read(way: str, items: bytes, missing: set[str]) -> None:
    fetch = Fetch("flags", "size", section="") | Fetch("envelope")
    found = await play(b"* 1 FETCH (UID 2 " + items + b")\r\n", way, fetch)
    assert list(found.messages) == [2]
    assert found.messages[2].body == b"abc"
    assert set(found.incomplete) == missing | {"INTERNALDATE"}
    assert "fetch-item" in found.notes


@every_way
@pytest.mark.parametrize(
    "stream",
    [
        # A length counted short: what stands behind the literal is the rest of the body, whatever it looks like.
        b"* 1 FETCH (UID 2 FLAGS () BODY[] {3}\r\nabcdef)\r\n",
        b"* 1 FETCH (UID 2 FLAGS (() BODY[] {3}\r\nabc\r\nFLAGS (forged)\r\n)\r\n",
        b"* 1 FETCH (UID 2 FLAGS () BODY[] {3}\r\nabc\r\nmore of it\r\n)\r\n",
        b"* 1 FETCH (UID 2 FLAGS () BODY[] {3}\r\nabc\r\n* 9 EXISTS\r\n)\r\n",
        b"* 1 FETCH (UID 2 " + WHOLE + b"BODY[] {3}\r\nabc\r\n)\r\nmore of it)\r\n",
        b"* 1 FETCH (UID 2 " + WHOLE + b"BODY[] {3}\r\nabc\r\n)\r\n)\r\n",
        b"* 1 FETCH (UID 2 FLAGS () BODY[] {3}\r\nabc\r\n",
        b"* 1 FETCH (UID 2 FLAGS () BODY[] {3}\r\nabc) FLAGS (forged)\r\n",
        b"* 1 FETCH (UID 2 FLAGS (\\Seen BODY[] {3}\r\nabc\r\n",
        # No string of a mail can write the line end that makes a literal.
        b'* 1 FETCH (UID 2 ENVELOPE (NIL "x BODY[] {3} forged)\r\n',
    ],
)
async def test_what_may_be_half_a_body_is_malformed(way: str, stream: bytes) -> None:
    found = await play(stream + OTHER, way)
    assert list(found.messages) == [3]
    assert found.failures == {2: "malformed"}


async def test_a_broken_form_of_what_is_told_unasked_costs_no_message() -> None:
    found = await play(b"* 1 FETCH (UID 3 (FLAGS (\\Deleted)))\r\n" + OTHER, "whole")
    assert (list(found.messages), found.failures) == ([3], {})


async def test_what_is_broken_and_no_message_is_malformed() -> None:
    found = await play(b'* 1 FETCH (UID 3 FLAGS () RFC822.SIZE "12\r\n', "whole", Fetch("flags", "size"))
    assert (found.messages, found.failures) == ({}, {3: "malformed"})


async def test_two_uids_in_an_answer_are_none() -> None:
    found = await play(b"* 1 FETCH (UID 2 X a (b) c (FLAGS ()) BODY[] {3}\r\nabc UID 3)\r\n", "whole")
    assert (found.messages, found.missing) == ({}, "1,3")
    assert found.failures == {2: "malformed"}


SPAM = b"X-Spam-Flag: NO\r\nP1 OK done\r\n* BYE\r\n* 1 FETCH (UID 3 FLAGS ())\r\n)\r\n"
PARTS = Fetch(section="1.1") | Fetch(section="1.2")
MOMENT = datetime(2026, 2, 9, 10, tzinfo=UTC)


@every_way
@pytest.mark.parametrize(
    ("items", "fetch", "values"),
    [
        # asimap 429: INTERNALDATE as headers have dates.
        (b'INTERNALDATE "Mon, 09 Feb 2026 10:00:00 +0000"', Fetch("envelope"), {"internal_date": MOMENT}),
        # Domino (MailKit 1236).
        (
            b'INTERNALDATE "00-Jan-0000 00:00:00 +0000" RFC822.SIZE 3',
            Fetch("envelope"),
            {"internal_date": None, "size": 3},
        ),
        # emailjs-imap-handler 20: sections without a byte, in another order.
        (b"BODY[1.2] {0}\r\n BODY[1.1] {0}\r\n", PARTS, {}),
        # curl 20320: the beginning of a literal in a quoted string.
        (b'BODY[HEADER] "Subject: {50} Test"', Fetch("headers"), {"subject": "{50} Test"}),
        # omamail 74: a header that looks like a reply, at GMX; here with everything else that a body may hold.
        (b"BODY[] {%d}\r\n%b" % (len(SPAM), SPAM), FULL, {"body": SPAM}),
        # Literals as clients write them, with zeros before them, and those of BINARY.
        (b"RFC822.SIZE 3 BODY[] {3+}\r\nabc", FULL, {"body": b"abc", "size": 3}),
        (b"RFC822.SIZE 3 BODY[] {03}\r\nabc", FULL, {"body": b"abc", "size": 3}),
        (b"RFC822.SIZE 3 BODY[] ~{3}\r\nabc", FULL, {"body": b"abc", "size": 3}),
        # No spaces between items.
        (b"FLAGS ()" + DATE + b"RFC822.SIZE 3 BODY[]{3}\r\nabc", FULL, {"body": b"abc", "size": 3}),
        # MODSEQ without its parentheses; a size with a fraction.
        (b"FLAGS () MODSEQ 7", Fetch("flags", "modseq"), {"modseq": 7}),
        (b"FLAGS () RFC822.SIZE 3.0", Fetch("flags", "size"), {"size": 3}),
    ],
)
async def test_what_other_clients_could_not_read(
    way: str, items: bytes, fetch: Fetch, values: dict[str, object]
) -> None:
    found = await play(b"* 1 FETCH (UID 2 " + items + b")\r\n", way, fetch)
    assert (list(found.messages), found.failures, found.missing) == ([2], {}, "1,3")
    message = found.messages[2]
    if fetch is PARTS:
        assert (message.section("1.1"), message.section("1.2")) == (b"", b"")
    else:
        assert {name: getattr(message, name) for name in values} == values


@every_way
async def test_a_stray_line_belongs_to_the_answer_directly_before_it(way: str) -> None:
    half = b"* 1 FETCH (UID 2 BODY[] {3}\r\nabc)\r\n"
    stray = b" FLAGS (\\Seen) RFC822.SIZE 3 " + DATE + b")\r\n"
    for between in (OTHER, b"* 7 EXISTS\r\n", b"* OK still here\r\n"):
        found = await play(half + between + stray, way)
        assert found.messages[2].body == b"abc"
        assert found.incomplete == {"FLAGS": 1, "INTERNALDATE": 1, "RFC822.SIZE": 1}
    for strange in (b" UID 3 FLAGS ()\r\n", b" FLAGS () what\r\n", b"\x01\r\n", b"P9 OK\r\n", b" )x\r\n"):
        found = await play(half + strange, way)
        assert "FLAGS" in found.incomplete


# -- names --------------------------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize(
    ("fetch", "label"),
    [
        (Fetch(header_fields=["Subject", "From"]), b"BODY[HEADER.FIELDS (FROM SUBJECT)]"),
        (Fetch(header_fields=["Subject", "From"]), b'BODY[HEADER.FIELDS ("Subject" "From")]'),
        (Fetch(header_fields=["Subject", "From"]), b"body[header.fields (subject from)]"),
        (Fetch(header_fields=["Subject", "From"]), b"BODY[HEADER.FIELDS(SUBJECT FROM)]"),
        (Fetch(header_fields=["Subject", "From"]), b"BODY[HEADER.FIELDS (  Subject  From Subject )]"),
        (Fetch(header_fields=["Subject", "From"]), b"BODY[HEADER.FIELDS (DATE FROM SUBJECT TO CC)]"),
        (Fetch(header_fields=["Subject"]), b"BODY[HEADER.FIELDS ({7}\r\nSubject)]"),
        (Fetch("headers"), b"RFC822.HEADER"),
        (Fetch("headers"), b"BODY[0]"),
        (Fetch("headers"), b"BODY.PEEK[HEADER]"),
        (Fetch("full"), b"RFC822"),
        (Fetch("full"), b"BODY.PEEK[]"),
        (Fetch("full"), b"BODY[]<0>"),
        (Fetch(section="TEXT"), b"RFC822.TEXT"),
        (Fetch(section="TEXT"), b"BODY[ Text ]"),
        (Fetch(section="", partial=(0, 100)), b"BODY[]<0.100>"),
        (Fetch(section="", partial=(0, 100)), b"BODY[]"),
        (Fetch(section="1.2", partial=(5, 100)), b"BODY[1.2]<5.100>"),
    ],
)
async def test_labels_are_compared_by_what_they_mean(way: str, fetch: Fetch, label: bytes) -> None:
    body = b"Subject: a\r\nFrom: b@c\r\n\r\n"
    items = b" FLAGS () " + DATE + b" RFC822.SIZE 3 " + label + b" {%d}\r\n%b" % (len(body), body)
    found = await play(b"* 1 FETCH (UID 2" + items + b")\r\n", way, fetch)
    assert (list(found.messages), found.incomplete) == ([2], {})
    message = found.messages[2]
    if fetch.header_name:
        assert message.headers.raw == body
        assert message.subject == "a"
    else:
        assert message.body == body


@pytest.mark.parametrize(
    ("fetch", "label"),
    [
        (Fetch(header_fields=["Subject", "From"]), b"BODY[HEADER.FIELDS (SUBJECT)]"),
        (Fetch(header_fields=["Subject"]), b"BODY[HEADER.FIELDS.NOT (SUBJECT)]"),
        (Fetch(section="", partial=(5, 100)), b"BODY[]"),
        (Fetch(section="", partial=(5, 100)), b"BODY[]<0>"),
        (Fetch(section="1"), b"BODY[1.2]"),
        (Fetch(section="1", binary=True), b"BODY[1]"),
        (Fetch(section="TEXT"), b"BODY[1.TEXT]"),
        (Fetch("full"), b"BODY[TEXT]"),
    ],
)
async def test_another_part_is_not_taken_for_the_one_that_was_asked_for(fetch: Fetch, label: bytes) -> None:
    items = b"FLAGS () " + DATE + b" RFC822.SIZE 3 " + label + b" {3}\r\nabc"
    found = await play(b"* 1 FETCH (UID 2 " + items + b")\r\n", "whole", fetch)
    assert (found.messages, found.missing) == ({}, "1:3")


async def test_a_label_of_exactly_the_name_goes_first() -> None:
    fetch = Fetch(section="") | Fetch(section="", partial=(0, 2))
    found = await play(b"* 1 FETCH (UID 2 BODY[]<0> {2}\r\nab BODY[] {3}\r\nabc)\r\n", "whole", fetch)
    assert (found.messages[2].body, found.messages[2].section(origin=0)) == (b"abc", b"ab")


# -- values that cannot be parsed -----------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("last", [False, True])
async def test_a_structure_nested_too_deeply_costs_the_structure_only(way: str, last: bool) -> None:
    deep = b"(" * 101 + b'"text" "plain" NIL NIL NIL "7bit" 5 1' + b' "mixed")' * 101
    envelope = b"ENVELOPE (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"
    items = [b"FLAGS ()", DATE, b"RFC822.SIZE 3", envelope]
    items.insert(4 if last else 0, b"BODYSTRUCTURE " + deep.replace(b')"mixed"', b') "mixed"'))
    found = await play(b"* 1 FETCH (UID 2 " + b" ".join(items) + b")\r\n", way, Fetch("structure"))
    message = found.messages[2]
    assert (message.subject, message.size, found.incomplete) == ("", 3, {})
    with pytest.raises(NestedTooDeeply) as caught:
        message.structure  # noqa: B018
    assert "server" not in str(caught.value)


# -- a command always ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [b"", b"P1 OK done\r\n"])
async def test_a_size_that_is_none_ends_no_command(last: bytes) -> None:
    sizes: list[int] = []
    line = Line("1:2", Fetch("size"))
    line.command.deliver = lambda messages: sizes.extend(message.size for message in messages)
    line.feed(b"* 1 FETCH (UID 1 RFC822.SIZE abc)\r\n* 2 FETCH (UID 2 RFC822.SIZE 7)\r\n" + last)
    if not last:
        line.feed(b"P1 OK done\r\n")
    assert (await line.command.finished).status == "OK"
    assert (sizes, line.command.missing.text()) == ([7], "1")


@pytest.mark.parametrize("error", [ProtocolError("x"), ZeroDivisionError("x"), RuntimeError("x")])
async def test_what_a_taker_of_messages_raises_in_the_packet_of_the_ok_ends_the_command(error: Exception) -> None:
    def take(messages: list[Message]) -> None:
        raise error

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    line = Line("1", Fetch("size"))
    line.command.deliver = take
    line.feed(b"* 1 FETCH (UID 1 RFC822.SIZE 7)\r\nP1 OK done\r\n")
    assert line.command.finished.done()
    with pytest.raises((ProtocolError, ConnectionError)):
        await line.command.finished
    assert line.transport.is_aborted


async def test_a_listener_that_raises_is_told_and_nothing_else() -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    line = Line("1", Fetch("size"))
    error = ZeroDivisionError("x")

    def listen(*_: object) -> None:
        raise error

    session = line.plane._owner
    assert isinstance(session, Session)
    session.on_status = listen
    line.feed(b"* OK [ALERT] see\r\n* 1 FETCH (UID 1 RFC822.SIZE 7)\r\nP1 OK done\r\n")
    assert (await line.command.finished).status == "OK"
    assert [message.size for message in line.messages] == [7]
    assert (told, session.alerts, line.plane.error) == ([error, error], ["see"], None)
