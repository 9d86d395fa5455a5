"""JSON Lines and Parquet: a row a message, with every field that the job fetches."""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.sinks.conftest import Shop

import imapipe
from imapipe import sinks
from imapipe.middleware.base import Run
from imapipe.sinks.place import Place
from imapipe.testing.messages import make_messages


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def _parts(folder: Path) -> list[Path]:
    return list(folder.glob("*.parquet"))


def _people(addresses: tuple[imapipe.Address, ...]) -> list[dict[str, str]]:
    return [{"name": address.name, "email": address.email} for address in addresses]


@pytest.mark.asyncio
@pytest.mark.parametrize("fetch", ["envelope", "full", "structure", "text", "headers", "flags"])
async def test_every_field_that_was_fetched(shop: Shop, tmp_path: Path, fetch: str) -> None:
    file = tmp_path / "mail.jsonl"
    assert (await shop.job(fetch).run(sinks.JsonLines(file))).complete
    rows = {row["uid"]: row for row in _lines(file)}
    assert len(rows) == 60
    async for message in shop.job(fetch):
        row = rows[message.uid]
        assert (row["mailbox"], row["uidvalidity"]) == ("INBOX", message.uidvalidity)
        assert row["flags"] == sorted(message.flags)
        if fetch == "flags":
            assert set(row) == {"account", "mailbox", "uidvalidity", "uid", "flags"}
            continue
        assert row["subject"] == message.subject
        assert row["size"] == message.size
        assert row["date"] == (message.date and message.date.astimezone(UTC).isoformat().replace("+00:00", "Z"))
        if fetch in ("envelope", "structure", "text"):
            for name, addresses in (("from", message.envelope.from_), ("to", message.envelope.to)):
                assert row[name] == _people(addresses)
        if fetch in ("full", "text"):
            assert row["text"] == message.text
        if fetch in ("full", "text", "structure"):
            assert [a["filename"] for a in row["attachments"]] == [a.filename for a in message.attachments]
        assert "html" not in row


@pytest.mark.asyncio
async def test_columns_are_chosen_and_checked(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "mail.jsonl"
    await shop.job("full").limit(3).run(sinks.JsonLines(file, columns=["uid", "subject", "html"]))
    assert set(_lines(file)[0]) == {"account", "mailbox", "uidvalidity", "uid", "subject", "html"}
    with pytest.raises(ValueError, match="'colour' is no column; there are account, mailbox"):
        sinks.JsonLines(file, columns=["colour"])
    with pytest.raises(TypeError, match="a list of names"):
        sinks.JsonLines(file, columns="subject")
    with pytest.raises(ValueError, match="fetches nothing that gives the column 'text'"):
        await shop.job("envelope").run(sinks.JsonLines(tmp_path / "other.jsonl", columns=["text"]))


@pytest.mark.asyncio
async def test_running_again_adds_no_line(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "mail.jsonl"
    for _ in range(2):
        assert (await shop.job("envelope").run(sinks.JsonLines(file))).done == 60
    assert sorted(row["uid"] for row in _lines(file)) == list(range(1, 61))


@pytest.mark.asyncio
async def test_parquet_is_one_table_for_duckdb_and_polars(shop: Shop, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    duckdb = pytest.importorskip("duckdb")
    polars = pytest.importorskip("polars")
    folder = tmp_path / "mail"
    sink = sinks.Parquet(folder, rows_per_file=25)
    for _ in range(2):
        assert (await shop.job("full").run(sink)).done == 60
    shop.add("Other", *make_messages(10))
    assert (await shop.job("envelope", mailbox="Other").run(sink)).complete
    assert len(list(folder.iterdir())) == 4
    frame = polars.read_parquet(folder / "*.parquet").sort("mailbox", "uid")
    assert frame.height == 70
    found = duckdb.sql(
        f"select count(*), count(distinct (mailbox, uid)), count(text), min(uid) from '{folder}/*.parquet'"
    ).fetchall()
    assert found == [(70, 70, 60, 1)]
    rows = {(row["mailbox"], row["uid"]): row for row in frame.to_dicts()}
    async for message in shop.job("full"):
        row = rows["INBOX", message.uid]
        assert row["text"] == message.text
        assert row["subject"] == message.subject
        assert row["internal_date"] == message.internal_date
        assert row["from"] == _people(message.headers.addresses("From"))
        assert [(a["filename"], a["size"]) for a in row["attachments"]] == [
            (a.filename, a.size) for a in message.attachments
        ]
    assert rows["Other", 1]["text"] is None
    assert isinstance(rows["Other", 1]["date"], datetime)


@pytest.mark.asyncio
async def test_parquet_leaves_nothing_unfinished(shop: Shop, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    folder = tmp_path / "mail"

    class Breaks:
        async def open(self, run: object) -> None:
            pass

        async def write(self, messages: object) -> dict[int, Exception]:
            raise OSError("the other sink broke")

        async def commit(self) -> None:
            pass

        async def close(self) -> None:
            pass

    with pytest.raises(OSError, match="the other sink broke"):
        await shop.job().run(sinks.Tee(sinks.Parquet(folder), Breaks()))
    assert list(folder.iterdir()) == []
    (folder / "stranger.parquet").write_bytes(b"PAR1")
    assert (await shop.job().run(sinks.Parquet(folder))).complete
    ours = next(path for path in folder.iterdir() if path.name != "stranger.parquet")
    ours.write_bytes(b"no parquet")
    with pytest.raises(imapipe.SinkError, match="does not tell which messages are in it"):
        await shop.job().run(sinks.Parquet(folder))


@pytest.mark.asyncio
async def test_files_of_a_mailbox_with_the_same_tag_are_not_taken_for_those_of_this_one(
    shop: Shop, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    shop.add("Other", b"Subject: other\r\n\r\n")
    other = shop.pool.mailbox("Other")
    account, uidvalidity = shop.pool.account, (await other.status()).uidvalidity
    assert uidvalidity is not None
    await shop.job().run(sinks.Parquet(tmp_path))
    (file,) = _parts(tmp_path)
    # Four bytes tell mailboxes apart, so this may be by chance.
    file.rename(tmp_path / f"{Place(account, 'Other', uidvalidity).tag}-{uidvalidity}-000001.parquet")
    for written in (1, 0):
        before = len(_parts(tmp_path))
        assert (await shop.job(mailbox="Other").run(sinks.Parquet(tmp_path))).complete
        assert len(_parts(tmp_path)) - before == written


class _Weighed:
    """A sink that gets all messages at the end, in two halves; with the first comes what is made once.

    Attributes:
        more_objects: How many more the collector of garbage knows of behind the second one.
    """

    def __init__(self, sink: imapipe.Sink) -> None:
        self.sink = sink
        self.messages: list[imapipe.Message] = []
        self.more_objects = 0

    async def open(self, run: Run) -> None:
        await self.sink.open(run)

    async def write(self, messages: Sequence[imapipe.Message]) -> Mapping[int, Exception]:
        self.messages += messages
        return {}

    async def commit(self) -> None:
        half = len(self.messages) // 2
        await self.sink.write(self.messages[:half])
        before = self._count()
        await self.sink.write(self.messages[half:])
        self.more_objects = self._count() - before
        await self.sink.commit()

    async def close(self) -> None:
        await self.sink.close()

    def _count(self) -> int:
        count = -1
        # What holds something until one round is over is let go of in the next.
        while count != len(gc.get_objects()):
            count = len(gc.get_objects())
            gc.collect()
        return count


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["JsonLines", "Parquet"])
async def test_what_is_written_leaves_nothing_for_the_collector_of_garbage(
    shop: Shop, tmp_path: Path, kind: str
) -> None:
    """Neither rows that wait, nor what was parsed of messages whose bytes are still held."""
    if kind == "Parquet":
        pytest.importorskip("pyarrow")
    sink = _Weighed(getattr(sinks, kind)(tmp_path / "out"))
    assert (await shop.job("envelope").run(sink)).complete
    assert len(sink.messages) == 60
    # One envelope alone is fifteen.
    assert sink.more_objects < 30
