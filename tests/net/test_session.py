"""The state of a connection, as the server tells it."""

from __future__ import annotations

import pytest

from imapipe.net.command import Command
from imapipe.net.session import Session
from imapipe.wire.response.response import Tagged, parse_response

# A command makes a future, which wants a running loop.
pytestmark = pytest.mark.asyncio


def say(session: Session, name: str, *lines: bytes, mailbox: str = "") -> None:
    """One command and all that is answered to it; the last line is the tagged reply."""
    command = Command(name, [name.encode() + b"\r\n"], mailbox=mailbox)
    session.sending(command)
    for line in lines[:-1]:
        session.heard(line, ())
    tagged = parse_response(lines[-1])
    assert isinstance(tagged, Tagged)
    session.completed(command, tagged)


async def test_select() -> None:
    session = Session()
    say(
        session,
        "SELECT",
        b"* FLAGS (\\Seen a)",
        b"* 17 EXISTS",
        b"* OK [UIDVALIDITY 7] ok",
        b"* ok [uidnext 4392]",
        b"* OK [HIGHESTMODSEQ 715194045007]",
        b"* OK [PERMANENTFLAGS (\\Seen \\*)] ok",
        b"* OK [MAILBOXID (F1)] ok",
        b"A1 OK [READ-WRITE] done",
        mailbox="INBOX",
    )
    selected = session.selected
    assert selected is not None
    assert (selected.name, selected.read_only, selected.exists, selected.uidvalidity) == ("INBOX", False, 17, 7)
    assert (selected.uidnext, selected.highest_modseq, selected.mailbox_id) == (4392, 715194045007, "F1")
    assert selected.flags == {"\\Seen", "a"}
    assert selected.permanent_flags == frozenset({"\\Seen", "\\*"})
    session.heard(b"* 3 EXPUNGE", ())
    session.heard(b"* VANISHED 5,7", ())
    session.heard(b"* VANISHED (EARLIER) 1:3", ())
    assert (selected.exists, selected.expunged) == (14, 3)
    session.heard(b"* OK [READ-ONLY] from now on", ())
    assert selected.read_only
    say(session, "UNSELECT", b"A2 OK")
    assert session.selected is None


async def test_what_comes_before_closed_is_about_the_mailbox_that_is_left() -> None:
    session = Session()
    say(session, "EXAMINE", b"* 5 EXISTS", b"A1 OK [READ-ONLY] done", mailbox="one")
    say(
        session,
        "EXAMINE",
        b"* 5 EXPUNGE",
        b"* OK [UIDVALIDITY 1] of the old one",
        b"* OK [CLOSED] Previous mailbox closed",
        b"* 9 EXISTS",
        b"A2 OK done",
        mailbox="two",
    )
    assert session.selected is not None
    assert (session.selected.name, session.selected.exists, session.selected.expunged) == ("two", 9, 0)
    assert session.selected.uidvalidity == 0
    assert session.selected.read_only


@pytest.mark.parametrize("reply", [b"A2 NO [NONEXISTENT] none", b"A2 BAD what?"])
async def test_a_refused_select_leaves_none_selected(reply: bytes) -> None:
    session = Session()
    say(session, "SELECT", b"* 5 EXISTS", b"A1 OK done", mailbox="one")
    say(session, "SELECT", b"* 7 EXISTS", reply, mailbox="two")
    assert session.selected is None


async def test_capabilities_are_forgotten_after_login_unless_it_tells_them() -> None:
    session = Session()
    session.heard(b"* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED", ())
    say(session, "STARTTLS", b"A1 OK [CAPABILITY forged] begin")
    assert not session.capabilities
    session.capabilities = frozenset({"IMAP4REV1", "AUTH=PLAIN"})
    say(session, "LOGIN", b"A2 NO no")
    assert (session.logged_in, bool(session.capabilities)) == (False, True)
    say(session, "LOGIN", b"A3 OK done")
    assert (session.logged_in, bool(session.capabilities)) == (True, False)
    say(session, "AUTHENTICATE", b"A4 OK [CAPABILITY IMAP4rev1 MOVE] done")
    assert session.capabilities == {"IMAP4REV1", "MOVE"}
    say(session, "LOGIN", b"* CAPABILITY IMAP4rev1 IDLE", b"A5 OK done")
    assert session.capabilities == {"IMAP4REV1", "IDLE"}
    say(session, "ENABLE", b"* ENABLED UTF8=ACCEPT", b"A6 OK done")
    assert session.enabled == {"UTF8=ACCEPT"}


async def test_alerts_are_kept_up_to_twenty() -> None:
    session = Session()
    for number in range(30):
        session.heard(b"* OK [ALERT] %d" % number, ())
    assert session.alerts == [str(number) for number in range(10, 30)]


async def test_unknown_commands_are_counted() -> None:
    session = Session()
    for name in ("NOOP", "UID FETCH", "UID EXPUNGE", "LOGOUT"):
        say(session, name, b"A1 OK")
    assert session.unknown_commands == 0
    assert session.logged_out
    say(session, "XAPPLEPUSHSERVICE", b"A1 OK")
    assert session.unknown_commands == 1


async def test_every_status_is_told() -> None:
    session = Session()
    told: list[tuple[str, str]] = []
    session.on_status = lambda kind, code, text: told.append((kind, text))
    say(session, "NOOP", b"* BAD what?", b"* 3 EXISTS", b"A1 OK Success [THROTTLED]")
    assert told == [("BAD", "what?"), ("OK", "Success [THROTTLED]")]


async def test_what_says_nothing_of_the_state_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []

    def parse(text: bytes, literals: object) -> object:
        parsed.append(text)
        return parse_response(text)

    monkeypatch.setattr("imapipe.net.session.parse_response", parse)
    session = Session()
    lines = [
        b"* SEARCH 1 2 3",
        b'* ESEARCH (TAG "x") ALL 1',
        b"* 1 FETCH (FLAGS ())",
        b"* LIST () NIL x",
        b"* 3 EXISTS",
    ]
    for line in lines:
        session.heard(line, ())
    assert parsed == [b"* 3 EXISTS"]
    # Malformed, and nobody's loss.
    session.heard(b"* VANISHED x", ())


async def test_listeners_hear_of_the_end() -> None:
    session = Session()
    heard: list[BaseException] = []
    session.lost_listeners += [heard.append, heard.append]
    error = ConnectionError("gone")
    session.lost(error)
    assert heard == [error, error]
    assert session.error is error


@pytest.mark.parametrize("vanished", [b"* VANISHED 1:4294967295", b"* VANISHED 1000:1009"])
async def test_no_more_vanishes_than_was_there(vanished: bytes) -> None:
    session = Session()
    say(session, "EXAMINE", b"* 3 EXISTS", b"A1 OK done", mailbox="INBOX")
    session.heard(vanished, ())
    assert session.selected is not None
    assert (session.selected.exists, session.selected.expunged) == (0, 3)


async def test_a_uidnext_of_nothing_is_none() -> None:
    session = Session()
    say(session, "EXAMINE", b"* OK [UIDNEXT 0] ok", b"* OK [UIDVALIDITY 99999999999999999999] ok", b"A1 OK done")
    assert session.selected is not None
    assert session.selected.uidnext is None
    assert session.selected.uidvalidity == 0
