"""What can be done with a mailbox as a whole."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

import imapipe
from imapipe.connection import NewMessage
from imapipe.testing import Server

pytestmark = pytest.mark.asyncio


async def test_a_mailbox_is_made_filled_renamed_and_removed() -> None:
    async with Server() as server, imapipe.create_pool(server.url, password=server.password) as pool:
        work = pool.mailbox("Work/Übersicht")
        await work.create()
        with pytest.raises(imapipe.CommandNo):
            await work.create()
        day = datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)
        told = await work.append(
            [NewMessage(b"Subject: one\r\n\r\n1\r\n", ["$Work"], day), NewMessage(b"Subject: two\r\n\r\n2\r\n")]
        )
        assert [result.uid for result in told.results] == [1, 2]
        box = server.mailboxes["Work/Übersicht"]
        assert (box.flags_of(1), box.internal_date_of(1)) == (frozenset({"$Work"}), day)
        names = []
        for subscribed in (True, False):
            await work.subscribe(subscribed)
            entries = await pool.mailboxes()
            names.append([entry.name for entry in entries if entry.is_subscribed and entry.name != "INBOX"])
        assert names == [["Work/Übersicht"], []]
        renamed = await work.rename("Done")
        assert (renamed.name, (await renamed.status()).messages) == ("Done", 2)
        with pytest.raises(imapipe.CommandNo, match="holds 2 messages"):
            await renamed.delete()
        assert "Done" in server.mailboxes
        await renamed.delete(with_messages=True)
        assert "Done" not in server.mailboxes
