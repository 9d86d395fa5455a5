"""S13: a run goes on where the last one stopped, however that ended."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
from tests.seed import resumable_job
from tests.seed.wire import asked, ignore, sizes

import imapipe
from imapipe import Checkpoint, JobKey, JsonCheckpointStore
from imapipe import search as q
from imapipe.testing import Reply, Server, SyntheticMailbox


async def _work(server: Server, folder: Path, name: str, *, die_after: int = 0) -> tuple[int, bytes, list[int]]:
    """Run the job in a process; gives its exit status, its output, and the UIDs it handled."""
    log = folder / name
    arguments = [server.url, str(folder / "state.json"), str(log), str(die_after)]
    process = await asyncio.create_subprocess_exec(sys.executable, resumable_job.__file__, *arguments, stdout=PIPE)
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output, [int(line) for line in log.read_text().split()]


@pytest.mark.asyncio
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no process kills itself on Windows")
async def test_s13_a_killed_process_loses_nothing_and_repeats_no_more_than_was_in_hand(tmp_path: Path) -> None:
    async with Server({"INBOX": SyntheticMailbox(300, step=2)}) as server:
        status, _, first = await _work(server, tmp_path, "first", die_after=137)
        assert (status, len(first)) == (-signal.SIGKILL, 137)
        kept = JsonCheckpointStore(tmp_path / "state.json").peek(JobKey(f"ann@127.0.0.1:{server.port}", "INBOX"))
        assert kept is not None
        assert set(kept.done) <= set(first)
        before = len(sizes(server))
        status, output, second = await _work(server, tmp_path, "second")
        everything = set(server.mailboxes["INBOX"].uids)
    repeated = set(first) & set(second)
    assert set(first) | set(second) == everything
    assert len(second) == len(set(second))
    assert len(repeated) <= resumable_job.CONCURRENCY + resumable_job.SAVE_EVERY_MESSAGES
    # What was done was not even asked for again.
    assert sum(sizes(server)[before:]) == len(second) == 300 - len(kept.done)
    assert max(sizes(server)) == resumable_job.BATCH
    report = json.loads(output)
    assert status == 0
    assert report["complete"]
    assert (report["done"], report["skipped"], report["done_all_runs"]) == (len(second), len(kept.done), 300)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["first", "second"]  # noqa: ASYNC240


@pytest.mark.asyncio
async def test_s13_a_failed_batch_is_tried_again_although_later_ones_were_done(tmp_path: Path) -> None:
    """A watermark would have passed over it."""
    refused = Reply("NO", "not now", code="NOPERM", command="UID FETCH", nth=2)
    async with (
        Server(messages=100, faults=[refused]) as server,
        imapipe.create_pool(server.url, password="secret") as pool,
    ):
        job = pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(25).depth(1)
        job = job.use(Checkpoint(tmp_path / "state.json"))
        first = await job.run(ignore, connections=1)
        second = await job.run(ignore, connections=1)
        third = await job.run(ignore, connections=1)
    assert (first.done, first.failed, first.failed_uids.text()) == (75, 25, "26:50")
    assert (second.done, second.skipped, second.done_all_runs) == (25, 75, 100)
    assert (third.done, third.skipped, third.complete) == (0, 100, True)
    assert asked(server) == ["1:25", "26:50", "51:75", "76:100", "26:50"]


@pytest.mark.asyncio
async def test_s13_a_damaged_file_and_a_rebuilt_mailbox_are_errors_not_new_beginnings(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    async with Server(messages=50) as server:

        async def run(layer: Checkpoint) -> imapipe.RunReport:
            async with imapipe.create_pool(server.url, password="secret") as pool:
                return await pool.mailbox("INBOX").search(q.ALL).fetch("flags").use(layer).run(ignore)

        await run(Checkpoint(path))
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(imapipe.CheckpointCorrupt):
            await run(Checkpoint(path))
        assert path.read_bytes() == whole[: len(whole) // 2]
        path.write_bytes(whole)
        server.mailboxes["INBOX"].change_uidvalidity()
        with pytest.raises(imapipe.UidValidityChanged):
            await run(Checkpoint(path))
        restarted = await run(Checkpoint(path, on_uidvalidity="restart"))
    assert (restarted.done, restarted.skipped) == (50, 0)
