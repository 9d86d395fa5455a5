"""One budget for several processes: a file that all of them name."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.limits.test_byte_budget import Clock, batch_of, bring, sent, spend
from tests.middleware.fakes import FakeRun

from imapipe import ByteBudget
from imapipe.errors import CheckpointCorrupt, CheckpointError, CheckpointLocked
from imapipe.limits.byte_usage import ByteUsage
from imapipe.limits.shared_bytes import SharedBytes
from imapipe.middleware.base import Layer
from imapipe.models.batch import Batch, BatchResult
from imapipe.runtime.lock_file import LockFile

ROOT = Path(__file__).parents[2]


def shared_budget(path: Path, bytes_per_day: int = 10_000, clock: Clock | None = None) -> ByteBudget:
    clock = clock or Clock()
    return ByteBudget(bytes_per_day, on_exhausted="stop", shared=path, clock=clock)


_WORKER = """
import asyncio, sys
from tests.limits.test_shared_bytes import *

async def main(path, killed_in):
    run = FakeRun()
    layer = await run.start(shared_budget(path))
    print("ready", flush=True)
    sys.stdin.readline()

    async def slowly(batch):
        if batch.number == killed_in:
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(0.05)
        return await bring(run, 100)(batch)

    async def work(numbers):
        return [await layer(batch_of(10, number), slowly) for number in numbers]

    done = await asyncio.gather(work(range(1, 8)), work(range(8, 15)))
    await layer.stop()
    print(sum(map(sent, done)), flush=True)

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


def start(path: Path, killed_in: int = 0) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _WORKER, str(path), str(killed_in)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.slow
def test_two_processes_at_once_receive_what_one_may(tmp_path: Path) -> None:
    path = tmp_path / "bytes.json"
    processes = [start(path), start(path)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    counts = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert sum(counts) == 10
    assert [process.returncode for process in processes] == [0, 0]
    assert os.listdir(tmp_path) == ["bytes.json"]  # noqa: PTH208


@pytest.mark.slow
def test_what_a_process_had_under_way_when_it_was_killed_counts(tmp_path: Path) -> None:
    path = tmp_path / "bytes.json"
    process = start(path, killed_in=3)
    process.communicate("go\n", timeout=60)
    assert process.returncode == -signal.SIGKILL
    row = json.loads(path.read_bytes())["accounts"][FakeRun().account]
    received = sum(row["received"]["by_hour"].values())
    under_way = sum(count for _, count in row["under_way"].values())
    assert received > 0
    assert under_way > 0
    assert sent(asyncio.run(spend(shared_budget(path), FakeRun(), 10))) == (10_000 - received - under_way) // 1_000


class Held:
    """A batch that is under way until it is let go."""

    def __init__(self, layer: Layer, run: FakeRun, number: int = 1) -> None:
        self.go = asyncio.Event()
        self.run = run
        self.task = asyncio.create_task(layer(batch_of(10, number), self._call))

    async def _call(self, batch: Batch) -> BatchResult:
        await self.go.wait()
        return await bring(self.run, 100)(batch)

    async def end(self) -> None:
        self.go.set()
        await self.task


@pytest.mark.asyncio
async def test_what_others_have_under_way_is_waited_for_and_not_taken_for_received(tmp_path: Path) -> None:
    path = tmp_path / "bytes.json"
    first, second = FakeRun(), FakeRun()
    one = await first.start(shared_budget(path, 2_000))
    other = await second.start(shared_budget(path, 2_000))
    unknown = Held(one, first)
    await asyncio.sleep(0)
    # Nothing is known of what the first one brings: the second waits until it is back.
    waiting = asyncio.create_task(other(batch_of(10), bring(second, 100)))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await unknown.end()
    assert (await waiting).done
    assert not (await other(batch_of(10), bring(second, 100))).done
    assert second.gave_up_because
    await one.stop()
    await other.stop()
    assert json.loads(path.read_bytes())["accounts"][first.account]["under_way"] == {}


@pytest.mark.asyncio
async def test_what_others_have_under_way_counts_with_what_it_is_thought_to_bring(tmp_path: Path) -> None:
    path = tmp_path / "bytes.json"
    first, second = FakeRun(), FakeRun()
    one = await first.start(shared_budget(path, 3_000))
    other = await second.start(shared_budget(path, 3_000))
    assert (await one(batch_of(10), bring(first, 100))).done
    held = Held(one, first)
    await asyncio.sleep(0.01)
    assert (await other(batch_of(10), bring(second, 100))).done
    waiting = asyncio.create_task(other(batch_of(10), bring(second, 100)))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await held.end()
    assert not (await waiting).done
    assert first.bytes_received + second.bytes_received == 3_000
    await one.stop()
    await other.stop()


@pytest.mark.asyncio
async def test_accounts_lie_side_by_side_and_a_day_later_it_is_free_again(tmp_path: Path) -> None:
    clock, bob = Clock(), FakeRun()
    bob.account = "bob@imap.example.org:993"
    path = tmp_path / "bytes.json"
    assert sent(await spend(shared_budget(path, clock=clock), FakeRun(), 20)) == 10
    assert sent(await spend(shared_budget(path, clock=clock), bob, 20)) == 10
    assert sent(await spend(shared_budget(path, clock=clock), FakeRun(), 1)) == 0
    clock.now += 25 * 3_600
    budget = shared_budget(path, clock=clock)
    assert sent(await spend(budget, FakeRun(), 3)) == 3
    assert budget.used_bytes == 3_000


@pytest.mark.asyncio
async def test_a_batch_that_cannot_be_written_down_does_not_go_and_what_came_is_written_later(tmp_path: Path) -> None:
    path = tmp_path / "bytes.json"
    run = FakeRun()
    layer = await run.start(shared_budget(path))
    held = Held(layer, run)
    await asyncio.sleep(0.01)
    whole = path.read_bytes()
    path.unlink()
    path.mkdir()
    held.go.set()
    with pytest.raises(CheckpointError, match=r"bytes\.json: it cannot be read"):
        await held.task
    with pytest.raises(CheckpointError):
        await layer(batch_of(10), bring(run, 100))
    assert run.bytes_received == 1_000
    path.rmdir()
    path.write_bytes(whole)
    await layer.stop()
    assert sent(await spend(shared_budget(path), FakeRun(), 20)) == 9


_ROW = '{"received": {"by_hour": {}, "under_way": 0}, "bytes_per_message": null, "under_way": {"a": 1}}'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "cannot be read from it"),
        ('{"version": 2, "accounts": {}}', "of another version"),
        ('{"version": 1, "accounts": {"ann": 7}}', "an account is not whole"),
        (f'{{"version": 1, "accounts": {{"ann": {_ROW}}}}}', "no pair of numbers"),
    ],
)
@pytest.mark.asyncio
async def test_a_file_that_is_none_is_said_so_and_left_alone(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "bytes.json"
    path.write_text(content)
    with pytest.raises(CheckpointCorrupt, match=words):
        await FakeRun().start(shared_budget(path))
    assert path.read_text() == content
    assert os.listdir(tmp_path) == ["bytes.json"]  # noqa: PTH208


def _deny(*_: object, **__: object) -> bool:
    raise PermissionError(13, "Permission denied")


@pytest.mark.asyncio
async def test_a_lock_that_cannot_be_made_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bytes.json"
    account = SharedBytes(path, "ann")
    with monkeypatch.context() as patched:
        patched.setattr("imapipe.limits.shared_bytes.LockFile.acquire", _deny)
        with pytest.raises(CheckpointError, match=r"bytes\.json: its lock file cannot be made: Permission denied"):
            account.open()
        with pytest.raises(CheckpointError, match="its lock file cannot be made: Permission denied"):
            async with account.hold(0.0):
                pass
    account.open()
    account.open()
    account.close()
    account.close()
    assert os.listdir(tmp_path) == []  # noqa: PTH208


@pytest.mark.asyncio
async def test_what_could_not_be_written_counts_with_the_next_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = SharedBytes(tmp_path / "bytes.json", "ann")
    account.pending.add(0.0, 500)
    with monkeypatch.context() as patched:
        patched.setattr("imapipe.limits.shared_bytes.save_file", _deny)
        with pytest.raises(CheckpointError, match=r"bytes\.json: it cannot be written: Permission denied"):
            async with account.hold(0.0):
                pass
    async with SharedBytes(tmp_path / "bytes.json", "ann").hold(0.0) as row:
        assert row.usage.used(0.0) == 0
    async with account.hold(0.0) as row:
        assert row.usage.used(0.0) == 500
    async with SharedBytes(tmp_path / "bytes.json", "ann").hold(0.0) as row:
        assert row.usage.used(0.0) == 500


@pytest.mark.asyncio
async def test_a_lock_that_another_process_never_lets_go_is_waited_for_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imapipe.limits.shared_bytes._TRY_EVERY_SECONDS", 0.0)
    path = tmp_path / "bytes.json"
    other = LockFile(f"{path}.lock")
    assert other.acquire()
    loop = asyncio.get_running_loop()
    began, looks = loop.time(), 0

    def time() -> float:
        nonlocal looks
        looks += 1
        return began + 10.0 * looks

    with monkeypatch.context() as patched:
        patched.setattr(loop, "time", time)
        with pytest.raises(
            CheckpointLocked, match=r"another process has held it for 30 seconds \(by .*bytes\.json\.lock"
        ):
            async with SharedBytes(path, "ann").hold(0.0):
                pass
    other.release()
    assert looks >= 4


@pytest.mark.asyncio
async def test_whether_another_process_lives_that_cannot_be_seen_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bytes.json"
    other = SharedBytes(path, "ann")
    async with other.hold(0.0) as row:
        row.under_way[other.token] = 1, 700
    acquire = LockFile.acquire

    def acquire_or_not(lock: LockFile) -> bool:
        return _deny() if other.token in lock.path else acquire(lock)

    with monkeypatch.context() as patched:
        patched.setattr("imapipe.limits.shared_bytes.LockFile.acquire", acquire_or_not)
        with pytest.raises(CheckpointError, match="a lock file of another process cannot be looked at"):
            async with SharedBytes(path, "ann").hold(0.0):
                pass
    # Nothing has changed: it is dead, and what it had under way counts.
    async with SharedBytes(path, "ann").hold(0.0) as row:
        assert (row.under_way, row.usage.used(0.0)) == ({}, 700)


@pytest.mark.asyncio
async def test_a_folder_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="its folder does not exist"):
        await FakeRun().start(shared_budget(tmp_path / "missing" / "bytes.json"))


@pytest.mark.parametrize(
    "under_way",
    [
        {"x/../../precious": [1, 1]},
        {"": [1, 1]},
        {"0123456789abcdef": [1, -5000]},
        {"0123456789abcdef": [1, 2**63]},
        {"0123456789abcdef": [-1, 1]},
    ],
)
@pytest.mark.asyncio
async def test_a_file_that_somebody_made_names_no_other_file_and_counts_no_nonsense(
    tmp_path: Path, under_way: dict[str, list[int]]
) -> None:
    """The token of a process becomes the name of a lock file, which is emptied and removed."""
    path, precious = tmp_path / "bytes.json", tmp_path / "precious.lock"
    precious.write_text("precious")
    run = FakeRun()
    layer = await run.start(shared_budget(path))
    received = {"received": ByteUsage().to_note(0), "bytes_per_message": None, "under_way": under_way}
    path.write_text(json.dumps({"version": 1, "accounts": {"ann": received}}))
    for call in (layer(batch_of(10, 1), bring(run, 100)), layer.stop()):
        with pytest.raises(CheckpointCorrupt, match="under way"):
            await call
    assert precious.read_text() == "precious"
