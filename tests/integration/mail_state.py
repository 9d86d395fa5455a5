"""Accounts with mail in them, and what is there, as far as no change may touch it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import imapipe
from dovecot_server import DovecotServer
from dovecot_server.maildir import Mail as StoredMail
from imapipe import search as q
from imapipe.testing import Mailbox, Server
from imapipe.testing.messages import make_messages

_FIRST: Final = datetime(2023, 5, 1, tzinfo=UTC)
_FLAGS: Final = ((), ("\\Seen",), ("\\Seen", "$Old"), ("\\Flagged",))


class Mail(NamedTuple):
    """A message."""

    message_id: str
    internal_date: datetime | None
    size: int
    flags: frozenset[str]


class Account(NamedTuple):
    """Where to log in."""

    url: str
    password: str


@asynccontextmanager
async def open_account(
    server: str, dovecot: DovecotServer, count: int, *, missing: Collection[str] = ()
) -> AsyncIterator[Account]:
    """An account with so many messages of various flags in its INBOX, and an empty Archive.

    Args:
        server: `dovecot` or `embedded`.
        dovecot: The Dovecot.
        count: How many messages.
        missing: Extensions that the embedded server does not have.
    """
    messages = make_messages(count, size=600)
    if server == "dovecot":
        user = dovecot.new_user()
        dovecot.fill(
            user,
            "INBOX",
            (
                StoredMail(content, _FLAGS[number % len(_FLAGS)], _FIRST + timedelta(minutes=number // 2))
                for number, content in enumerate(messages)
            ),
        )
        client = dovecot.login(user)
        client.create("Archive")
        client.create("Other")
        client.logout()
        yield Account(dovecot.url(user), dovecot.password)
        return
    box = Mailbox()
    for number, content in enumerate(messages):
        box.append(content, _FLAGS[number % len(_FLAGS)], _FIRST + timedelta(minutes=number // 2))
    boxes = {"INBOX": box, "Archive": Mailbox(), "Other": Mailbox()}
    async with Server(boxes, remove_extensions=missing) as embedded:
        yield Account(embedded.url, embedded.password)


async def read_mail(pool: imapipe.Pool, mailbox: str) -> list[Mail]:
    """All messages of a mailbox, in an order that does not depend on their UIDs."""
    fetch = imapipe.Fetch("flags", "internal_date", "size", header_fields=("Message-ID",))
    found = [
        Mail(
            message.headers.get("Message-ID", ""),
            message.internal_date,
            message.size,
            message.flags - {"\\Recent"},
        )
        async for message in pool.mailbox(mailbox).search(q.ALL).fetch(fetch)
    ]
    return sorted(found, key=lambda mail: (mail.message_id, sorted(mail.flags)))
