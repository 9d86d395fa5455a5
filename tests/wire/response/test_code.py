"""Response codes: the facts in brackets, and what is left of them when they are malformed."""

from __future__ import annotations

import pytest

from imapipe.wire.response.code import Code, InProgress, MessageLimit, parse_response_text
from imapipe.wire.uid_set import UidSet


def code_of(text: bytes) -> Code:
    code, _ = parse_response_text(text)
    assert code is not None
    return code


@pytest.mark.parametrize(
    ("text", "code", "rest"),
    [
        (b"plain", None, "plain"),
        (b"", None, ""),
        (b"[ALERT] look", Code("ALERT"), "look"),
        (b"[alert]", Code("ALERT"), ""),
        (b"[ALERT]look", Code("ALERT"), "look"),
        (b"[UIDNEXT 5 ] next", Code("UIDNEXT", b"5"), "next"),
        (b"[PERMANENTFLAGS (a] b)] ok", Code("PERMANENTFLAGS", b"(a] b)"), "ok"),
        (b'[X "a ] b"] ok', Code("X", b'"a ] b"'), "ok"),
        (b'[X "a ] ok', Code("X", b'"a'), "ok"),
        (b"[X (a ] ok", Code("X", b"(a"), "ok"),
        (b"[no end", None, "[no end"),
        (b"[] x", None, "[] x"),
        (b"x [THROTTLED]", None, "x [THROTTLED]"),
    ],
)
def test_code_and_text(text: bytes, code: Code | None, rest: str) -> None:
    assert parse_response_text(text) == (code, rest)


def test_numbers() -> None:
    assert code_of(b"[UIDVALIDITY 3857529045] ok").uidvalidity == 3857529045
    assert code_of(b"[UIDNEXT 4392] ok").uidnext == 4392
    assert code_of(b"[UNSEEN 12] ok").unseen == 12
    assert code_of(b"[HIGHESTMODSEQ 715194045007] ok").highest_modseq == 715194045007
    for broken in (Code("UIDNEXT", b"x"), Code("UIDNEXT"), Code("UIDVALIDITY", b"5"), Code("UIDNEXT", b"1" * 21)):
        assert broken.uidnext is None


def test_numbers_beyond_what_the_rfcs_allow_are_no_advice() -> None:
    huge = b"9" * 20
    # Milliseconds (Dynadot: go-imap 612; GreenMail: MailKit 723; neomutt 3830).
    assert code_of(b"[UIDVALIDITY 1713632002544] ok").uidvalidity == 1713632002544
    assert code_of(b"[UIDVALIDITY 9223372036854775808] ok").uidvalidity is None
    assert code_of(b"[UIDNEXT %b] ok" % huge).uidnext is None
    assert code_of(b"[UNSEEN %b] ok" % huge).unseen is None
    assert code_of(b"[HIGHESTMODSEQ 9223372036854775807] ok").highest_modseq == 2**63 - 1
    assert code_of(b"[HIGHESTMODSEQ 9223372036854775808] ok").highest_modseq is None
    assert code_of(b"[MESSAGELIMIT %b 5] ok" % huge).message_limit is None
    assert code_of(b"[MESSAGELIMIT 1000 4294967296] ok").message_limit is None
    assert code_of(b"[COPYUID %b 1 2] ok" % huge).copy_uid is None
    assert code_of(b"[COPYUID -1 1 2] ok").copy_uid is None
    assert code_of(b"[APPENDUID %b 1] ok" % huge).append_uid is None
    assert code_of(b'[INPROGRESS ("A" %b 7)] ok' % huge).in_progress == InProgress("A", None, 7)


def test_marks() -> None:
    assert Code("ALERT").is_alert
    assert Code("NOMODSEQ").no_modseq
    assert Code("THROTTLED").is_throttled
    assert Code("OVERQUOTA").is_throttled
    assert Code("LIMIT").is_throttled
    assert not any((Code("X").is_alert, Code("X").is_throttled, Code("X").no_modseq))


def test_lists() -> None:
    assert code_of(rb"[PERMANENTFLAGS (\Deleted \*)] ok").permanent_flags == frozenset({"\\Deleted", "\\*"})
    assert code_of(b"[PERMANENTFLAGS ()] ok").permanent_flags == frozenset()
    assert Code("PERMANENTFLAGS", b"(").permanent_flags is None
    assert code_of(b"[CAPABILITY IMAP4rev1 move] ok").capabilities == frozenset({"IMAP4REV1", "MOVE"})
    assert code_of(b'[BADCHARSET (UTF-8 "US-ASCII")] no').bad_charset == ("UTF-8", "US-ASCII")
    assert code_of(b"[BADCHARSET] no").bad_charset == ()
    assert Code("BADCHARSET", b"(").bad_charset == ()
    assert (Code("X").permanent_flags, Code("X").capabilities, Code("X").bad_charset) == (None, None, None)


def test_copyuid() -> None:
    found = code_of(b"[COPYUID 38505 304,319:320 3956:3958] Done").copy_uid
    assert found is not None
    assert (found.uidvalidity, found.source, found.destination) == (
        38505,
        UidSet.parse("304,319:320"),
        UidSet.parse("3956:3958"),
    )
    assert list(found.pairs()) == [(304, 3956), (319, 3957), (320, 3958)]


def test_copyuid_pairs_follow_the_order_of_the_server() -> None:
    found = Code("COPYUID", b"1 7,5,3:2 20:23").copy_uid
    assert found is not None
    assert list(found.pairs()) == [(7, 20), (5, 21), (3, 22), (2, 23)]


@pytest.mark.parametrize("arguments", [b"", b"1 2", b"1 2 x", b"x 1 2", b"1 2 3 4", b"1 * 3", b"1 0 3"])
def test_broken_uids(arguments: bytes) -> None:
    assert Code("COPYUID", arguments).copy_uid is None
    assert Code("APPENDUID", arguments + b" y").append_uid is None
    assert Code("X", arguments).copy_uid is None


def test_appenduid() -> None:
    found = code_of(b"[APPENDUID 38505 3955:3957] Done").append_uid
    assert found == (38505, UidSet.parse("3955:3957"))
    assert Code("APPENDUID", b"1 x").append_uid is None


def test_messagelimit() -> None:
    assert code_of(b"[MESSAGELIMIT 1000 23221] partial").message_limit == MessageLimit(1000, 23221)
    assert code_of(b"[MESSAGELIMIT 1000] no").message_limit == MessageLimit(1000, None)
    assert Code("MESSAGELIMIT").message_limit is None
    assert Code("MESSAGELIMIT", b"x").message_limit is None


def test_modified() -> None:
    assert code_of(b"[MODIFIED 7,9:10] no").modified == UidSet.parse("7,9:10")
    assert Code("MODIFIED", b"x").modified is None
    assert Code("X", b"7").modified is None


def test_inprogress() -> None:
    assert code_of(b'[INPROGRESS ("A001" 454 1000)] wait').in_progress == InProgress("A001", 454, 1000)
    assert code_of(b'[INPROGRESS ("A001" NIL NIL)] wait').in_progress == InProgress("A001", None, None)
    assert code_of(b"[INPROGRESS] wait").in_progress == InProgress(None, None, None)
    assert Code("INPROGRESS", b"(").in_progress is None
    assert Code("X").in_progress is None


def test_mailboxid() -> None:
    assert code_of(b"[MAILBOXID (F2212ea8)] ok").mailbox_id == "F2212ea8"
    assert Code("MAILBOXID").mailbox_id is None
    assert Code("X", b"(F)").mailbox_id is None
