"""SEARCH keys, against a straightforward reading of the messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from imapipe.testing import GmailMailboxes, Mailbox, Server

Connect = Callable[[int], Awaitable[Any]]


def _mailbox() -> Mailbox:
    box = Mailbox()
    start = datetime(2024, 3, 1, 12, tzinfo=UTC)
    senders = ["Ann <ann@example.org>", "=?utf-8?Q?Jos=C3=A9?= <jose@example.org>", "bob@example.org"]
    for number in range(1, 13):
        raw = (
            f"Date: {start + timedelta(days=number):%a, %d %b %Y %H:%M:%S} +0000\r\nFrom: {senders[number % 3]}\r\n"
            f"To: list@example.org\r\nSubject: Report {number}\r\nX-Key: v{number}\r\n\r\n"
            f"Body number {number} of Köln\r\n"
        )
        head, _, body = raw.partition("\r\n\r\n")
        text = head + "\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\n" + body * number
        flags = [flag for flag, every in (("\\Seen", 2), ("\\Flagged", 3), ("$Work", 4)) if number % every == 0]
        box.append(text.encode("iso-8859-1"), flags, start + timedelta(days=number))
    box.expunge([6])
    return box


CASES: dict[str, list[int]] = {
    "ALL": [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12],
    "SEEN": [2, 4, 8, 10, 12],
    "UNSEEN FLAGGED": [3, 9],
    "NOT SEEN": [1, 3, 5, 7, 9, 11],
    "OR FLAGGED KEYWORD $work": [3, 4, 8, 9, 12],
    "UNKEYWORD $Work SEEN": [2, 10],
    "NOT (OR SEEN NOT FLAGGED)": [3, 9],
    "OR (SEEN FLAGGED) OR UID 1 UID 5": [1, 5, 12],
    "UID 2:4,11:*": [2, 3, 4, 11, 12],
    "1:2,11": [1, 2, 12],
    "NOT 1:9": [11, 12],
    "SINCE 10-Mar-2024": [9, 10, 11, 12],
    "BEFORE 4-Mar-2024": [1, 2],
    "ON 4-Mar-2024": [3],
    'SENTSINCE "10-Mar-2024" SENTBEFORE 12-Mar-2024': [9, 10],
    "SENTON 5-Mar-2024": [4],
    "FROM ann": [3, 9, 12],
    "FROM jos": [1, 4, 7, 10],
    "TO LIST@example.org SUBJECT 'report": [],
    "SUBJECT report": [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12],
    "HEADER X-Key v1": [1, 10, 11, 12],
    'HEADER X-Key ""': [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12],
    'HEADER X-None ""': [],
    'BODY "number 11"': [11],
    "TEXT v12": [12],
    'CHARSET UTF-8 BODY "köln" UID 1:2': [1, 2],
    'CHARSET UTF-8 FROM "josé"': [1, 4, 7, 10],
    "LARGER 400": [],
    "CC ann": [],
    "NEW": [],
    "OLD UID 1": [1],
    "DELETED": [],
    "UNANSWERED UNDRAFT UNDELETED UID 1:2": [1, 2],
    "OLDER 1 UID 3": [3],
    "YOUNGER 10": [],
    "SAVEDATESUPPORTED UID 1": [1],
    "SAVEDSINCE 10-Mar-2024": [9, 10, 11, 12],
}


@pytest.mark.asyncio
async def test_search_keys(connect: Connect) -> None:
    async with Server(messages=_mailbox()) as server:
        client = await connect(server.port)
        await client.login()
        sizes = {message.uid: message.content.size for message in server.mailboxes["INBOX"]}
        cases = dict(CASES)
        cases["LARGER 400"] = [uid for uid, size in sizes.items() if size > 400]
        cases["SMALLER 300"] = [uid for uid, size in sizes.items() if size < 300]
        for criteria, expected in cases.items():
            (line,) = await client.ok(f"UID SEARCH {criteria}")
            assert [int(word) for word in line.split()[1:]] == expected, criteria
        (line,) = await client.ok("SEARCH UID 7:8")
        assert line == b"SEARCH 6 7"


@pytest.mark.asyncio
async def test_keys_of_extensions(connect: Connect) -> None:
    account = GmailMailboxes()
    for number in (1, 2, 3):
        labels = ["\\Inbox", "Work"] if number == 2 else ["\\Inbox"]
        account.deliver(f"Subject: number {number}\r\n\r\nbody {number}\r\n".encode(), labels=labels)
    async with Server(account, extensions="gmail") as server:
        box = server.mailboxes["INBOX"]
        client = await connect(server.port)
        await client.login()
        for criteria, expected in {
            f"X-GM-MSGID {box[2].gmail_id}": b"2",
            f"X-GM-THRID {box[3].gmail_thread_id}": b"3",
            "X-GM-LABELS work": b"2",
            'X-GM-RAW "number 1"': b"1",
            'X-GM-RAW "body 3"': b"3",
        }.items():
            assert await client.ok(f"UID SEARCH {criteria}") == [b"SEARCH " + expected], criteria


@pytest.mark.asyncio
async def test_keys_of_identities_and_changes(connect: Connect) -> None:
    async with Server(messages=_mailbox(), extensions="everything") as server:
        box = server.mailboxes["INBOX"]
        client = await connect(server.port)
        await client.login()
        assert await client.ok(f"UID SEARCH EMAILID {box[2].email_id}") == [b"SEARCH 2"]
        assert await client.ok("UID SEARCH THREADID nothing") == [b"SEARCH"]
        await client.ok("UID STORE 3 +FLAGS (\\Draft)")
        changed = box[3].modseq
        assert await client.ok(f"UID SEARCH MODSEQ {changed}") == [b"SEARCH 3 (MODSEQ %d)" % changed]
        named = f'UID SEARCH MODSEQ "/flags/\\\\draft" all {changed}'
        assert await client.ok(named) == [b"SEARCH 3 (MODSEQ %d)" % changed]


@pytest.mark.asyncio
async def test_mail_that_breaks_the_rules_is_searched_as_it_is(connect: Connect) -> None:
    box = Mailbox()
    box.append(b"Date: nonsense\r\nSubject: =?no-charset?Q?abc?=\r\n\r\nfirst\r\n")
    box.append(b"Content-Type: text/plain; charset=no-charset\r\n\r\nsecond \xe9\r\n")
    box.append(b"Content-Type: image/png\r\n\r\nthird\r\n")
    async with Server(messages=box) as server:
        client = await connect(server.port)
        await client.login()
        for criteria, expected in {
            "SENTSINCE 1-Jan-1970": [],
            "SUBJECT no-charset": [1],
            "BODY second": [2],
            "BODY third": [],
        }.items():
            (line,) = await client.ok(f"UID SEARCH {criteria}")
            assert [int(word) for word in line.split()[1:]] == expected, criteria


@pytest.mark.asyncio
async def test_charsets(connect: Connect) -> None:
    async with Server(messages=_mailbox(), search_charsets=["us-ascii"]) as server:
        client = await connect(server.port)
        await client.login()
        assert (await client.run("UID SEARCH CHARSET UTF-8 ALL"))[-1].startswith(b"NO [BADCHARSET")
        assert (await client.run("UID SEARCH CHARSET US-ASCII ALL"))[-1].startswith(b"OK")
        assert (await client.run(b"UID SEARCH SUBJECT {2+}\r\n\xc3\xa9"))[-1].startswith(b"BAD")


@pytest.mark.asyncio
async def test_esearch_returns(connect: Connect) -> None:
    async with Server(messages=_mailbox()) as server:
        client = await connect(server.port)
        await client.login()

        async def search(text: str) -> bytes:
            (line,) = await client.ok(f"UID SEARCH RETURN {text}")
            found: bytes = line
            return found.partition(b" UID")[2]

        assert await search("() ALL") == b" ALL 1:5,7:12"
        assert await search("(MIN MAX COUNT ALL) SEEN") == b" MIN 2 MAX 12 ALL 2,4,8,10,12 COUNT 5"
        assert await search("(MIN MAX COUNT ALL) DRAFT") == b" COUNT 0"
        assert await search("(PARTIAL 1:3 COUNT) ALL") == b" COUNT 11 PARTIAL (1:3 1:3)"
        assert await search("(PARTIAL -1:-3) ALL") == b" PARTIAL (-1:-3 10:12)"
        assert await search("(PARTIAL 100:200) ALL") == b" PARTIAL (100:200 NIL)"
        assert await client.ok("SEARCH RETURN (ALL) UID 7:9") == [b'ESEARCH (TAG "t9") ALL 6:8']
        assert (await client.run("UID SEARCH RETURN (PARTIAL 1:3 ALL) ALL"))[-1].startswith(b"BAD")


@pytest.mark.asyncio
async def test_an_empty_mailbox_has_no_all(connect: Connect) -> None:
    """RFC 4731: MIN, MAX and ALL are left out when nothing was found."""
    async with Server() as server:
        client = await connect(server.port)
        await client.login()
        assert await client.ok("UID SEARCH RETURN (MIN MAX ALL COUNT) ALL") == [b'ESEARCH (TAG "t3") UID COUNT 0']
        assert await client.ok("UID SEARCH ALL") == [b"SEARCH"]


@pytest.mark.asyncio
async def test_saved_result(connect: Connect) -> None:
    async with Server(messages=_mailbox()) as server:
        client = await connect(server.port)
        await client.login()
        assert await client.ok("UID SEARCH RETURN (SAVE) SEEN") == []
        assert await client.ok("UID SEARCH $ FLAGGED") == [b"SEARCH 12"]
        assert len(await client.ok("UID FETCH $ (UID)")) == 5
        server.mailboxes["INBOX"].expunge([12])
        await client.ok("NOOP")
        assert await client.ok("UID SEARCH RETURN (ALL) $") == [b'ESEARCH (TAG "t7") UID ALL 2,4,8,10']
        assert (await client.ok("UID SEARCH RETURN (SAVE MIN) UNSEEN"))[0].endswith(b" MIN 1")
        assert await client.ok("UID FETCH $ (UID)") == [b"1 FETCH (UID 1)"]
        await client.ok("SELECT INBOX")
        assert await client.ok("UID FETCH $ (UID)") == []


@pytest.mark.asyncio
async def test_fetch_partial(connect: Connect) -> None:
    async with Server(messages=_mailbox()) as server:
        client = await connect(server.port)
        await client.login()
        assert await client.ok("UID FETCH 1:* (UID) (PARTIAL 5:6)") == [b"5 FETCH (UID 5)", b"6 FETCH (UID 7)"]
        assert await client.ok("UID FETCH 1:* (UID) (PARTIAL -1:-1)") == [b"11 FETCH (UID 12)"]
