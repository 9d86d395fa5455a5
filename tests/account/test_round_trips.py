"""What a pass over 300 mailboxes costs in which nothing changed: round trips, counted at the server."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import imapipe
from imapipe import search as q
from imapipe.models.cursor import Cursor
from imapipe.store import CheckpointState
from imapipe.store.json_document import write_document
from imapipe.testing import Server
from imapipe.wire.uid_set import UidSet

MAILBOXES = {"INBOX": 2, **{f"Folder {number:03}": 1 for number in range(299)}}


async def _handle(_: imapipe.Message) -> None:
    return


async def _state(pool: imapipe.Pool) -> bytes:
    """The state that a complete run on all mailboxes leaves; 300 real ones would take longer than the rest."""
    job = pool.mailbox("INBOX").search(q.ALL).fetch("flags")
    states = []
    for entry in await pool.mailboxes():
        status = entry.status
        assert status is not None
        assert status.messages is not None
        assert status.uidvalidity is not None
        cursor = Cursor(status.uidnext, status.messages, status.highest_modseq, status.mailbox_id, status.messages)
        state = CheckpointState(
            account=pool.account,
            mailbox=entry.name,
            uidvalidity=status.uidvalidity,
            fingerprint=job.fingerprint,
            done=UidSet.from_ranges([(1, status.messages)]),
            cursor=cursor,
            finished=cursor,
        )
        states.append(state.to_json())
    return write_document("", states, {})


@pytest.mark.parametrize(
    ("extensions", "round_trips", "commands"),
    [("dovecot", 1, {"LIST": 1}), ("plain", 2, {"LIST": 1, "STATUS": 300})],
    ids=["LIST-STATUS", "STATUS"],
)
@pytest.mark.asyncio
async def test_nothing_changed(extensions: str, round_trips: int, commands: dict[str, int], tmp_path: Path) -> None:
    """After a run of this process, and after a restart."""
    async with Server(MAILBOXES, extensions=extensions, latency_seconds=0.01) as server:
        for restarted in (False, True):
            async with imapipe.create_pool(server.url, password=server.password) as pool:
                if not restarted:
                    (tmp_path / "state.json").write_bytes(await _state(pool))
                async with pool.acquire():
                    # What connecting and logging in cost is not of the pass.
                    server.commands.clear()
                job = pool.each().search(q.ALL).fetch("flags").use(imapipe.Checkpoint(tmp_path / "state.json"))
                report = await job.run(_handle)
                assert (len(report.unchanged), report.complete) == (300, True)
                assert server.commands.by_name == Counter(commands)
                assert server.commands.round_trips() == round_trips
