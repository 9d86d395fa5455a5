"""An account where mailboxes are labels."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from imapipe.testing import GmailMailboxes, Server

Connect = Callable[[int], Awaitable[Any]]

ALL = "[Gmail]/All Mail"


def _account(count: int = 3) -> GmailMailboxes:
    account = GmailMailboxes()
    for number in range(1, count + 1):
        labels = ["\\Inbox", "Work"] if number % 2 else ["\\Inbox"]
        account.deliver(f"Subject: {number}\r\n\r\n".encode(), labels=labels)
    return account


def _where(account: GmailMailboxes) -> dict[str, list[int]]:
    """The last digit of the Gmail number of every message, by mailbox."""
    return {name: [message.gmail_id % 10 for message in box] for name, box in account.items() if len(box)}


@pytest.mark.asyncio
async def test_labels_are_mailboxes(connect: Connect) -> None:
    account = _account()
    async with Server(account, extensions="gmail") as server:
        assert _where(account) == {"INBOX": [1, 2, 3], ALL: [1, 2, 3], "Work": [1, 3]}
        client = await connect(server.port)
        await client.login("Work")
        listed = await client.ok('LIST "" *')
        assert b'LIST (\\HasNoChildren \\All) "/" "[Gmail]/All Mail"' in listed
        assert b'LIST (\\Noselect \\HasChildren) "/" "[Gmail]"' in listed
        lines = await client.ok("UID FETCH 1:* (X-GM-MSGID X-GM-LABELS)")
        assert lines[1] == b'2 FETCH (UID 2 X-GM-MSGID 1700000000000000003 X-GM-LABELS ("\\\\Inbox"))'
        await client.ok(f'SELECT "{ALL}"')
        lines = await client.ok("UID FETCH 3 (X-GM-LABELS)")
        assert lines == [b'3 FETCH (UID 3 X-GM-LABELS ("Work" "\\\\Inbox"))']


@pytest.mark.asyncio
async def test_changes_are_of_the_message(connect: Connect) -> None:
    account = _account()
    async with Server(account, extensions="gmail") as server:
        client, other = await connect(server.port), await connect(server.port)
        await client.login()
        await other.login("Work")
        await client.ok("UID STORE 3 +FLAGS.SILENT (\\Seen \\Flagged)")
        assert account[ALL][3].flags == {"\\Seen", "\\Flagged"}
        # Of the label that came with the star, too.
        assert await other.ok("NOOP") == [b"2 FETCH (FLAGS (\\Flagged \\Seen))"]
        assert _where(account)["[Gmail]/Starred"] == [3]
        await client.ok("UID STORE 2 +X-GM-LABELS (New)")
        assert _where(account)["New"] == [2]
        await client.ok("UID COPY 1 New")
        await client.ok("UID COPY 1 New")
        assert _where(account)["New"] == [2, 1]
        # Taking it out of the inbox archives it.
        await client.ok("UID STORE 1 +FLAGS.SILENT (\\Deleted)")
        await client.ok("UID EXPUNGE 1")
        assert _where(account) == {
            "INBOX": [2, 3],
            "[Gmail]/Starred": [3],
            ALL: [1, 2, 3],
            "Work": [1, 3],
            "New": [2, 1],
        }
        await client.ok("UID MOVE 2 Work")
        assert account[ALL][2].labels == ("New", "Work")
        await client.ok('UID MOVE 3 "[Gmail]/Trash"')
        assert _where(account) == {ALL: [1, 2], "[Gmail]/Trash": [3], "Work": [1, 2], "New": [2, 1]}
        await client.ok("RENAME New Newer")
        await client.ok("DELETE Work")
        assert _where(account) == {ALL: [1, 2], "[Gmail]/Trash": [3], "Newer": [2, 1]}
        assert account[ALL][1].labels == ("Newer",)
        await client.ok(b"APPEND Newer {1+}\r\nx")
        assert _where(account)[ALL] == [1, 2, 4]
        await client.ok(f'SELECT "{ALL}"')
        await client.ok("UID STORE 2 +FLAGS.SILENT (\\Deleted)")
        await client.ok("UID EXPUNGE 2")
        assert _where(account) == {ALL: [1, 4], "[Gmail]/Trash": [3], "Newer": [1, 4]}


def test_a_large_account_is_made_in_linear_time() -> None:
    account = _account(3000)
    assert (len(account[ALL]), len(account["INBOX"]), len(account["Work"])) == (3000, 3000, 1500)
