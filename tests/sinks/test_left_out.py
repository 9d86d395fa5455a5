"""Messages of which a server leaves out what can be done without (Exchange: INTERNALDATE) are written all the same."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tests.sinks.conftest import Shop
from tests.sinks.test_account import holds
from tests.sinks.test_trouble import KINDS, make_sink

import imapipe
from imapipe import sinks
from imapipe.testing import OmitItems, Rewrite, Server


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", KINDS)
async def test_without_the_time_of_arrival_every_message_is_written(shop: Shop, tmp_path: Path, kind: str) -> None:
    shop.server.faults.add(OmitItems({"INTERNALDATE"}))
    report = await shop.job().run(make_sink(kind, tmp_path / "out"))
    assert (report.done, report.failed) == (60, 0)


@pytest.mark.asyncio
async def test_an_archive_knows_the_size_of_what_it_has(shop: Shop, tmp_path: Path) -> None:
    shop.server.faults.add(OmitItems({"RFC822.SIZE"}))
    assert (await shop.job().run(sinks.Sqlite(tmp_path / "out"))).complete
    database = sqlite3.connect(tmp_path / "out")
    wrong = database.execute("SELECT uid FROM messages JOIN contents ON message = id WHERE size <> length(raw)")
    assert wrong.fetchall() == []
    database.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("item", ["INTERNALDATE", "RFC822.SIZE", "FLAGS"])
async def test_an_index_has_all_but_what_it_cannot_do_without(shop: Shop, tmp_path: Path, item: str) -> None:
    shop.server.faults.add(OmitItems({item}, uids={3}))
    async with imapipe.MessageIndex(tmp_path / "mail.index") as index:
        report = await index.update(shop.pool.mailbox("INBOX"))
    without = item != "INTERNALDATE"
    assert (report.total, report.failed) == (60 - without, without)


@pytest.mark.asyncio
async def test_what_no_server_takes_costs_itself_and_not_the_copy(shop: Shop) -> None:
    """A message without a byte, a flag that the grammar does not have, and one without its time of arrival."""
    inbox = shop.server.mailboxes["INBOX"]
    empty = inbox.append(b"")
    shop.server.faults.add(
        OmitItems({"INTERNALDATE"}, uids={2}),
        Rewrite(lambda response: response.replace(b"FLAGS (", b"FLAGS (\\Seen x[y] "), command="UID FETCH"),
    )
    async with Server(0, user="bob") as target, imapipe.create_pool(target.url, password=target.password) as there:
        report = await shop.job().run(sinks.Account(there))
        assert (report.done, list(report.failures)) == (60, [empty])
        assert "no bytes" in str(report.failures[empty])
        assert {flags for _, flags, _ in await holds(there)} == {frozenset({"\\Seen"})}
