"""Responses of every kind, as the grammar has them and as servers vary them."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imapipe.errors import ProtocolError
from imapipe.wire.response.framing import Framer
from imapipe.wire.response.response import (
    Capability,
    Code,
    Continuation,
    Enabled,
    Esearch,
    Exists,
    Expunge,
    FetchScan,
    Flags,
    Greeting,
    Id,
    ListItem,
    MailboxStatus,
    Namespace,
    NamespacePrefix,
    Partial,
    Recent,
    Response,
    Search,
    Status,
    Tagged,
    UidBatches,
    Unknown,
    Vanished,
    parse_greeting,
    parse_response,
)
from imapipe.wire.uid_set import UidSet


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"A1 OK done", Tagged("A1", "OK", None, "done")),
        (b"A1 OK", Tagged("A1", "OK", None, "")),
        (b"a1 no [unavailable] later", Tagged("a1", "NO", Code("UNAVAILABLE"), "later")),
        (b"A1 BAD [X-Y 1 2]", Tagged("A1", "BAD", Code("X-Y", b"1 2"), "")),
        (b"A1 OK[READ-ONLY] done", Tagged("A1", "OK", Code("READ-ONLY"), "done")),
        (b"A1 OK Success [THROTTLED]", Tagged("A1", "OK", None, "Success [THROTTLED]")),
        (b"A1 OK ends in {12}", Tagged("A1", "OK", None, "ends in {12}")),
        ("A1 NO Ungültig".encode(), Tagged("A1", "NO", None, "Ungültig")),
        (b"A1 NO caf\xe9", Tagged("A1", "NO", None, "caf\ufffd")),
        (b"5 OK done", Tagged("5", "OK", None, "done")),
        (b"* OK still here", Status("OK", None, "still here")),
        (b"* ok", Status("OK", None, "")),
        (b"* BYE Autologout; idle for too long", Status("BYE", None, "Autologout; idle for too long")),
        (b"* NO [ALERT] full", Status("NO", Code("ALERT"), "full")),
        (b"* PREAUTH hello", Status("PREAUTH", None, "hello")),
        (b"OK no star", Status("OK", None, "no star")),
        (b"\0\0* OK nulls", Status("OK", None, "nulls")),
        (b"* [COPYUID 1 2 3]", Status("OK", Code("COPYUID", b"1 2 3"), "")),
        (b"* OK [UIDNEXT 5", Status("OK", None, "[UIDNEXT 5")),
        (b"+", Continuation("")),
        (b"+ ", Continuation("")),
        (b"+ idling", Continuation("idling")),
        (b"+OK", Continuation("OK")),
        (b"* 23 EXISTS", Exists(23)),
        (b"* 23 exists", Exists(23)),
        (b"23 EXISTS", Exists(23)),
        (b"* 5 RECENT", Recent(5)),
        (b"* 44 EXPUNGE", Expunge(44)),
        (b"* 44 EXPUNGE ", Expunge(44)),
        (b"* CAPABILITY IMAP4rev1 idle  X=Y ", Capability(frozenset({"IMAP4REV1", "IDLE", "X=Y"}))),
        (b"* ENABLED condstore", Enabled(frozenset({"CONDSTORE"}))),
        (b"* ENABLED", Enabled(frozenset())),
        (rb"* FLAGS (\Answered \Seen $Junk)", Flags(frozenset({"\\Answered", "\\Seen", "$Junk"}))),
        (b"* FLAGS ()", Flags(frozenset())),
        (b'* ID ("name" "Cyrus" "os" NIL)', Id({"name": "Cyrus", "os": None})),
        (b"* ID NIL", Id({})),
        (b"* ID", Id({})),
        (b"* 7 FROB", Unknown(b"* 7 FROB")),
        (b"* LANGUAGE (DE)", Unknown(b"* LANGUAGE (DE)")),
        (b"A1 HELLO", Unknown(b"A1 HELLO")),
        (b"", Unknown(b"")),
        (b"* ", Unknown(b"* ")),
        (b"\xff\xfe", Unknown(b"\xff\xfe")),
    ],
)
def test_responses(text: bytes, expected: Response) -> None:
    assert parse_response(text) == expected


@pytest.mark.parametrize("keyword", [b"FETCH", b"Fetch", b"fetch"])
def test_fetch_in_any_case(keyword: bytes) -> None:
    scan = parse_response(b"* 12 " + keyword + b" (UID 5 BODY[] {1}\r\n)", (b"x",))
    assert isinstance(scan, FetchScan)
    assert (scan.seq, scan.uid) == (12, 5)


def test_fetch_of_zero_and_uidfetch() -> None:
    zero = parse_response(b"* 0 FETCH (UID 5)")
    assert isinstance(zero, FetchScan)
    assert zero.seq == 0
    uidfetch = parse_response(b"\0* 9 UIDFETCH (FLAGS ())")
    assert isinstance(uidfetch, FetchScan)
    assert uidfetch.uid == 9


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready",
            Greeting("OK", Code("CAPABILITY", b"IMAP4rev1 AUTH=PLAIN"), "ready"),
        ),
        (b"* PREAUTH hi", Greeting("PREAUTH", None, "hi")),
        (b"* BYE too many", Greeting("BYE", None, "too many")),
        (b"* NO [ALERT] Too many", Greeting("BYE", Code("ALERT"), "Too many")),
        (b"* OK", Greeting("OK", None, "")),
    ],
)
def test_greetings(text: bytes, expected: Greeting) -> None:
    assert parse_greeting(text) == expected


@pytest.mark.parametrize("text", [b"220 mail.example.org ESMTP", b"+OK POP3", b"SSH-2.0", b"", b"* 5 EXISTS"])
def test_what_is_no_greeting(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_greeting(text)


# ---------------------------------------------------------------- mailboxes


def listed(text: bytes, literals: tuple[bytes, ...] = ()) -> ListItem:
    item = parse_response(text, literals)
    assert isinstance(item, ListItem)
    return item


def test_list() -> None:
    assert listed(rb'* LIST (\HASNOCHILDREN \Sent \X) "/" "a b"') == ListItem(
        frozenset({"\\HasNoChildren", "\\Sent", "\\X"}), "/", b"a b"
    )
    assert listed(b"* LSUB () NIL INBOX") == ListItem(frozenset(), None, b"INBOX")
    assert listed(b'* LIST () "." {5}\r\n', (b'a"b\\c',)).name == b'a"b\\c'
    assert listed(rb'* LIST () "\\" "a\\b"') == ListItem(frozenset(), "\\", rb"a\b")
    assert listed(b'* LIST () "" INBOX').delimiter is None


def test_list_with_extended_data() -> None:
    item = listed(b'* LIST (\\NonExistent) "/" "New" ("CHILDINFO" ("SUBSCRIBED") "OLDNAME" ("Old &AOk-") "X" (1 (2)))')
    assert item.child_info == {"SUBSCRIBED"}
    assert item.old_name == b"Old &AOk-"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b'* LIST () "/" My Folder', b"My Folder"),
        (b'* LIST () "/" "My "big" Folder"', b'My "big" Folder'),
        (b'* LIST () "/" "control \x01\x02\n"', b"control \x01\x02\n"),
        (b'* LIST () "/" "caf\xc3\xa9"', b"caf\xc3\xa9"),
        (b'* LIST () "/" INBOX ', b"INBOX"),
        (b'* LIST () "\\" "a"', b"a"),
        (b'* LIST () "/" ""', b""),
        (b'* LIST () "/" [Gmail]/All', b"[Gmail]/All"),
        (b'* LIST () "/" a{b', b"a{b"),
        (b'* LIST () "/" "never ends', b'"never ends'),
    ],
)
def test_names_as_servers_write_them(text: bytes, name: bytes) -> None:
    assert listed(text).name == name


@pytest.mark.parametrize(
    "text",
    [b"* LIST", b"* LIST ()", b'* LIST () "/"', b'* LIST () "/" ', b"* LIST () x INBOX", b'* LIST () "/" {3}\r\n'],
)
def test_broken_lists(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_response(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            b'* STATUS "a b" (MESSAGES 231 uidnext 44292 MAILBOXID (F22) HIGHESTMODSEQ 7011231777)',
            MailboxStatus(b"a b", {"MESSAGES": 231, "UIDNEXT": 44292, "MAILBOXID": "F22", "HIGHESTMODSEQ": 7011231777}),
        ),
        (b"* STATUS INBOX ( MESSAGES 1 ) ", MailboxStatus(b"INBOX", {"MESSAGES": 1})),
        (b"* STATUS INBOX ()", MailboxStatus(b"INBOX", {})),
        (b"* STATUS INBOX (MESSAGES 9.3736e+06 SIZE NIL UNSEEN)", MailboxStatus(b"INBOX", {"MESSAGES": 9_373_600})),
        (b"* STATUS My Folder (1) (MESSAGES 2)", MailboxStatus(b"My Folder (1)", {"MESSAGES": 2})),
        (b'* STATUS "a "b" c" (MESSAGES 2)', MailboxStatus(b'a "b" c', {"MESSAGES": 2})),
        (b'* STATUS "never ends (MESSAGES 2)', MailboxStatus(b'"never ends', {"MESSAGES": 2})),
    ],
)
def test_status(text: bytes, expected: MailboxStatus) -> None:
    assert parse_response(text) == expected


def test_status_with_a_literal_name() -> None:
    found = parse_response(b"* STATUS {7}\r\n (MESSAGES 2)", (b'a "b" (',))
    assert found == MailboxStatus(b'a "b" (', {"MESSAGES": 2})


@pytest.mark.parametrize("text", [b"* STATUS", b"* STATUS INBOX", b"* STATUS INBOX (MESSAGES 1", b"* STATUS INBOX (("])
def test_broken_status(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_response(text)


def test_namespace() -> None:
    assert parse_response(b'* NAMESPACE (("" "/")("#x" NIL "X-P" ("a"))) NIL (("Shared/" "/"))') == Namespace(
        (NamespacePrefix(b"", "/"), NamespacePrefix(b"#x", None)), (), (NamespacePrefix(b"Shared/", "/"),)
    )
    assert parse_response(b'* NAMESPACE (("" ".")) NIL') == Namespace((NamespacePrefix(b"", "."),), (), ())
    with pytest.raises(ProtocolError):
        parse_response(b'* NAMESPACE ("" "/") NIL NIL')


# ---------------------------------------------------------------- sets of messages


@pytest.mark.parametrize(
    ("text", "uids", "modseq"),
    [
        (b"* SEARCH 2 84 882", [2, 84, 882], None),
        (b"* SEARCH", [], None),
        (b"* SEARCH ", [], None),
        (b"* search 2 3  ", [2, 3], None),
        (b"* SEARCH 882 2 2", [2, 882], None),
        (b"* SEARCH 2 5 6 (MODSEQ 917162500)", [2, 5, 6], 917162500),
        (b"* SEARCH (MODSEQ 5) ", [], 5),
        (b"SEARCH 7", [7], None),
    ],
)
def test_search(text: bytes, uids: list[int], modseq: int | None) -> None:
    assert parse_response(text) == Search(UidSet.from_numbers(uids), modseq)


@pytest.mark.parametrize("text", [b"* SEARCH x", b"* SEARCH 1 -2", b"* SEARCH 4294967296", b"* SEARCH 1 (MODSEQ x)"])
def test_broken_search(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_response(text)


@pytest.mark.parametrize(
    ("text", "uids"),
    [
        (b"* SEARCH 0 20 21", "20:21"),
        (b"* SEARCH 20 0", "20"),
        (b"* SEARCH 0", ""),
        (b"* SEARCH 000 7 (MODSEQ 5)", "7"),
        (b"* SEARCH 7 4294967296 8", "7:8"),
        (b"* SEARCH 7 99999999999999999999", "7"),
    ],
)
def test_what_is_no_uid_in_a_search_is_passed_over_with_a_note(text: bytes, uids: str) -> None:
    found = parse_response(text)
    assert isinstance(found, Search)
    assert found.uids.text() == uids
    assert [note.kind for note in found.notes] == ["search"]


def test_a_search_that_says_nil_found_nothing() -> None:
    assert parse_response(b"* SEARCH NIL") == Search(UidSet())


def test_a_long_search_with_a_zero_in_it() -> None:
    line = b"* SEARCH 0 " + b" ".join(b"%d" % uid for uid in range(1, 200_000)) + b" 0"
    found = parse_response(line)
    assert isinstance(found, Search)
    assert found.uids == UidSet.from_ranges([(1, 199_999)])


@pytest.mark.parametrize(
    ("text", "uids"),
    [
        (b"* ESEARCH UID COUNT 3 ALL 0,5:6", "5:6"),
        (b"* ESEARCH UID ALL 0:3,5", "5"),
        (b"* ESEARCH UID ALL 5,4294967296,7:8", "5,7:8"),
        (b"* ESEARCH UID ALL 5:*,7", "7"),
        (b"* ESEARCH UID ALL ,5,", "5"),
    ],
)
def test_what_is_no_uid_in_an_esearch_is_passed_over_with_a_note(text: bytes, uids: str) -> None:
    found = parse_response(text)
    assert isinstance(found, Esearch)
    assert found.all is not None
    assert (found.all.text(), [note.kind for note in found.notes]) == (uids, ["search"])


def test_a_range_of_vanished_that_is_none_is_passed_over() -> None:
    assert parse_response(b"* VANISHED 0,5:6") == Vanished(False, UidSet.parse("5:6"))


@pytest.mark.parametrize(
    "text",
    [
        b"* ESEARCH UID COUNT 10 ALL 1:4294967295",
        b"* ESEARCH UID ALL 1:4294967295 COUNT 10",
        b"* ESEARCH UID COUNT 0 ALL 5",
        b"* ESEARCH UID COUNT 4294967296",
        b"* ESEARCH UID MAX 99999999999",
        b"* 4294967296 EXISTS",
        b"* 99999999999999999999 EXPUNGE",
        b"* 18446744073709551615 RECENT",
    ],
)
def test_numbers_that_contradict_each_other_or_the_grammar(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_response(text)


def test_numbers_are_never_larger_than_the_grammar_allows() -> None:
    huge = b"9" * 20
    found = parse_response(
        b"* STATUS x (MESSAGES 5 UIDNEXT 4294967296 UIDVALIDITY %b SIZE %b UNSEEN 9e30" % (huge, huge)
        + b" HIGHESTMODSEQ 9223372036854775807)"
    )
    assert parse_response(b"* STATUS x (UIDVALIDITY 1666390893380)") == MailboxStatus(
        b"x", {"UIDVALIDITY": 1666390893380}
    )
    assert found == MailboxStatus(b"x", {"MESSAGES": 5, "HIGHESTMODSEQ": 2**63 - 1})
    zeros = parse_response(b"* STATUS x (MESSAGES 0 UIDNEXT 0 UIDVALIDITY 0)")
    assert zeros == MailboxStatus(b"x", {"MESSAGES": 0})
    assert parse_response(b"* SEARCH 5 (MODSEQ %b)" % huge) == Search(UidSet.from_numbers([5]), 2**63 - 1)
    assert parse_response(b"* ESEARCH UID MODSEQ %b" % huge) == Esearch(None, True, modseq=2**63 - 1)


@pytest.mark.parametrize(
    ("text", "delimiter", "name"),
    [
        # A delimiter without its quotes.
        (b"* LIST (\\HasNoChildren) / INBOX", "/", b"INBOX"),
        (b"* LIST (\\HasNoChildren) . Sent Items", ".", b"Sent Items"),
        (b'* LIST () \\ "a"', "\\", b"a"),
        (b"* LSUB () | a|b", "|", b"a|b"),
        (b"* LIST () nil NIL", None, b"NIL"),
        # Attributes that are none, or hold parentheses.
        (b'* LIST "/" "a b"', "/", b"a b"),
        (b'* LIST NIL "/" x', "/", b"x"),
        (b'* LIST (\\HasNoChildren (x) y) "/" x', "/", b"x"),
        (b'* LIST (\\HasNoChildren odd() "." x', ".", b"x"),
        # A tab in a name, and none of the quotes it needs (Exchange: MailKit 945).
        (b'* LIST () "/" INBOX/Da\tOggetto\tRicevuto', "/", b"INBOX/Da\tOggetto\tRicevuto"),
        (b'* LIST () "/" two  spaces', "/", b"two  spaces"),
        (b'* LIST () "/" "nul\0"', "/", b"nul\0"),
    ],
)
def test_no_mailbox_vanishes_from_a_list(text: bytes, delimiter: str | None, name: bytes) -> None:
    item = listed(text)
    assert (item.delimiter, item.name) == (delimiter, name)


@pytest.mark.slow
@pytest.mark.no_cover
def test_a_search_of_megabytes_takes_memory_for_its_result_only() -> None:
    line = b"* SEARCH " + b" ".join(b"%d" % uid for uid in range(1_000_000, 1_300_000)) + b" "
    assert len(line) > 2_000_000
    tracemalloc.start()
    try:
        found = parse_response(line)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == Search(UidSet.from_ranges([(1_000_000, 1_299_999)]))
    # 4 bytes a number, twice while an array grows; a list of integers would take 12 MB.
    assert peak < 6_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            b'* ESEARCH (TAG "A282") UID MIN 2 MAX 47 COUNT 25 ALL 2:20,47 MODSEQ 9',
            Esearch("A282", True, 2, 47, 25, UidSet.parse("2:20,47"), 9),
        ),
        (b'* ESEARCH (TAG "A283") ALL 2,10:11', Esearch("A283", False, all=UidSet.parse("2,10:11"))),
        (b'* esearch (tag "A1") uid', Esearch("A1", True)),
        (b'* ESEARCH (TAG "A1") UID COUNT 0', Esearch("A1", True, count=0)),
        (b'* ESEARCH (TAG "A1") UID ALL ', Esearch("A1", True)),
        (b"* ESEARCH UID COUNT 5", Esearch(None, True, count=5)),
        (b"* ESEARCH", Esearch(None, False)),
        (
            b'* ESEARCH (TAG "A1" MAILBOX "x" UIDVALIDITY 1) UID X-NEW (1 "a)" (2)) COUNT 3',
            Esearch("A1", True, count=3),
        ),
        (
            b'* ESEARCH (TAG "A1") UID PARTIAL (-1:-100 200:250)',
            Esearch("A1", True, partial=Partial(-1, -100, UidSet.parse("200:250"))),
        ),
        (b'* ESEARCH (TAG "A1") UID PARTIAL (1:500 NIL)', Esearch("A1", True, partial=Partial(1, 500, UidSet()))),
    ],
)
def test_esearch(text: bytes, expected: Esearch) -> None:
    assert parse_response(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        b"* ESEARCH (",
        b"* ESEARCH UID ALL x",
        b"* ESEARCH UID MIN x",
        b"* ESEARCH UID PARTIAL (x 1)",
        b"* ESEARCH PARTIAL ()",
    ],
)
def test_broken_esearch(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_response(text)


def test_vanished() -> None:
    assert parse_response(b"* VANISHED 5,10:12") == Vanished(False, UidSet.parse("5,10:12"))
    assert parse_response(b"* VANISHED (EARLIER) 300:310,405") == Vanished(True, UidSet.parse("300:310,405"))
    for broken in (b"* VANISHED", b"* VANISHED (EARLIER)", b"* VANISHED x"):
        with pytest.raises(ProtocolError):
            parse_response(broken)


def test_uid_batches() -> None:
    assert parse_response(b'* UIDBATCHES (TAG "A143") 215295:99696,99695:20351,20350') == UidBatches(
        "A143", ((99696, 215295), (20351, 99695), (20350, 20350))
    )
    assert parse_response(b'* UIDBATCHES (TAG "A143")') == UidBatches("A143", ())
    for broken in (b'* UIDBATCHES (TAG "A") x', b'* UIDBATCHES (TAG "A") 0:5', b'* UIDBATCHES (TAG "A") 1:*'):
        with pytest.raises(ProtocolError):
            parse_response(broken)


# ---------------------------------------------------------------- through the framer, and any input

_TRANSCRIPT = (
    b"* OK [CAPABILITY IMAP4rev1] ready {5}\r\n"
    b"* 2 EXISTS\r\n"
    b'* LIST () "/" {7}\r\na"b\r\n c\r\n'
    b"* 1 FETCH (UID 4 BODY[] {32}\r\n* 9 EXISTS\r\nA1 OK done\r\n)x {3}\r\n FLAGS (\\Seen))\r\n"
    b"* SEARCH 4 5 \r\n"
    b"+ \r\n"
    b"A1 OK [READ-ONLY] done {12}\r\n"
)


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_a_transcript_whole_and_in_pieces(chunk: int) -> None:
    framer = Framer()
    found: list[Response] = []
    for at in range(0, len(_TRANSCRIPT), chunk):
        found.extend(parse_response(text, literals) for text, literals, _ in framer.feed(_TRANSCRIPT[at : at + chunk]))
    assert [type(response).__name__ for response in found] == [
        "Status",
        "Exists",
        "ListItem",
        "FetchScan",
        "Search",
        "Continuation",
        "Tagged",
    ]
    assert found[0] == Status("OK", Code("CAPABILITY", b"IMAP4rev1"), "ready {5}")
    assert found[2] == ListItem(frozenset(), "/", b'a"b\r\n c')
    assert found[6] == Tagged("A1", "OK", Code("READ-ONLY"), "done {12}")


_WORDS = (
    rb"*|+|A1|5|0|OK|NO|BYE|LIST|LSUB|STATUS|SEARCH|ESEARCH|VANISHED|UIDBATCHES|NAMESPACE|ID|FLAGS|FETCH|EXISTS|CAPABILITY|NIL"
    rb'|(|)|"|"a"|\|[|]|[COPYUID|UID|ALL|MIN|PARTIAL|1:5|TAG|(TAG "A")|MODSEQ|{|MESSAGES|(EARLIER)|INBOX|"/"'
).split(b"|")


@given(
    st.lists(st.sampled_from(_WORDS) | st.sampled_from([b"{1}\r\n", b"\xff", b"\r", b"\0"]), max_size=14),
    st.sampled_from([b"", b" "]),
    st.integers(0, 3),
)
def test_nothing_but_protocol_error_comes_out(words: list[bytes], space: bytes, count: int) -> None:
    for text in (space.join(words), b"* " + b" ".join(words)):
        try:
            found = parse_response(text, (b"x",) * count)
        except ProtocolError:
            continue
        code = getattr(found, "code", None)
        if isinstance(code, Code):
            for name in dir(Code):
                getattr(code, name)


@given(st.binary(max_size=60))
def test_nor_from_any_bytes(text: bytes) -> None:
    for parse in (parse_response, parse_greeting):
        try:
            parse(text)
        except ProtocolError:
            continue
