"""What changed, as a real server tells it, by each of the three ways."""

from __future__ import annotations

from pathlib import Path

import pytest

import imapipe
from dovecot_server import DovecotServer
from imapipe import Arrived, FlagsChanged, Vanished
from imapipe.changes.look import enable_qresync, look
from imapipe.models.flag_table import FlagTable
from imapipe.testing.messages import make_messages
from imapipe.wire.command.append import NewMessage
from imapipe.wire.command.store import FlagChange
from imapipe.wire.uid_set import UidSet

pytestmark = pytest.mark.asyncio

COUNT = 300


def _uids(*numbers: int) -> UidSet:
    return UidSet.from_numbers(numbers)


async def _change_something(pool: imapipe.Pool) -> None:
    async with pool.acquire("INBOX", write=True) as connection:
        await connection.uid_store(_uids(7), FlagChange.ADD, ["\\Flagged", "$Work"])
        await connection.uid_store(_uids(9, 100), FlagChange.ADD, ["\\Deleted"])
        await connection.uid_expunge(_uids(9, 100))
        await connection.append("INBOX", NewMessage(b"Subject: new\r\n\r\nnew\r\n"))


async def test_only_what_changed_is_told(dovecot: DovecotServer, tmp_path: Path) -> None:
    user = dovecot.new_user()
    dovecot.fill(user, "INBOX", make_messages(COUNT))
    async with imapipe.create_pool(dovecot.url(user), password=dovecot.password) as pool:
        changes = pool.mailbox("INBOX").changes(tmp_path / "sync.json")
        assert [change async for change in changes] == [Arrived(uid, frozenset()) for uid in range(1, COUNT + 1)]
        await _change_something(pool)
    async with imapipe.create_pool(dovecot.url(user), password=dovecot.password) as pool:
        changes = pool.mailbox("INBOX").changes(tmp_path / "sync.json")
        assert [change async for change in changes] == [
            Arrived(COUNT + 1, frozenset()),
            FlagsChanged(7, frozenset({"\\Flagged", "$Work"})),
            Vanished(9),
            Vanished(100),
        ]
        # With the login. The flags of all messages alone would be more.
        assert 0 < pool.connections.wire_bytes < 5_000
        assert [change async for change in changes] == []


@pytest.mark.parametrize("refused", [(), ("FETCH (VANISHED)",), ("FETCH (VANISHED)", "FETCH (CHANGEDSINCE)")])
async def test_each_way_gives_the_same(dovecot: DovecotServer, refused: tuple[str, ...]) -> None:
    user = dovecot.new_user()
    dovecot.fill(user, "INBOX", make_messages(COUNT))
    async with imapipe.create_pool(dovecot.url(user), password=dovecot.password, max_size=2) as pool:
        async with pool.acquire() as connection:
            before = await connection.examine("INBOX", condstore=True)
            known = await look(connection, before, FlagTable(), None)
        assert known == FlagTable({frozenset(): UidSet.from_ranges([(1, COUNT)])})
        await _change_something(pool)
        async with pool.acquire() as connection:
            await enable_qresync(connection)
            assert "QRESYNC" in connection.session.enabled
            connection.ways.refused.update(refused)
            received = connection.plane.bytes_received
            after = await connection.examine("INBOX", condstore=True)
            now = await look(connection, after, known, before.highest_modseq)
            received = connection.plane.bytes_received - received
            assert connection.ways.refused == set(refused)
    flagged = _uids(7)
    others = UidSet.from_ranges([(1, COUNT + 1)]) - _uids(7, 9, 100)
    assert now == FlagTable({frozenset(): others, frozenset({"\\Flagged", "$Work"}): flagged})
    assert (received > 30 * COUNT) is (len(refused) == 2)
