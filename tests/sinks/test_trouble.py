"""What every sink does when its disk has no room, and when a run is cancelled."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest
from tests.sinks.conftest import Shop, files_below

import imapipe
from imapipe import sinks

KINDS = ("Attachments", "EmlFolder", "JsonLines", "Maildir", "Mbox", "Parquet", "Sqlite")


def make_sink(kind: str, path: Path) -> imapipe.Sink:
    """A sink of a kind."""
    if kind == "Parquet":
        pytest.importorskip("pyarrow")
        return sinks.Parquet(path, rows_per_file=10)
    made: imapipe.Sink = getattr(sinks, kind)(path)
    return made


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "Sqlite"])  # which syncs by itself: see test_sqlite
@pytest.mark.parametrize("at", [3, 4, 9])
async def test_a_disk_that_syncs_no_more_ends_the_run_and_loses_nothing(
    shop: Shop, tmp_path: Path, kind: str, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.fsync, [0]

    def fsync(fd: int) -> None:
        calls[0] += 1
        if calls[0] == at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(fd)

    sink = make_sink(kind, tmp_path / "out")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(imapipe.SinkError, match="No space left on device"):
        await shop.job().run(sink, commit_every_messages=10)
    monkeypatch.setattr(os, "fsync", real)
    assert not [path for path in files_below(tmp_path) if path.name.endswith(".imapipe-part")]
    report = await shop.job().run(sink, commit_every_messages=10)
    assert report.complete
    fresh = make_sink(kind, tmp_path / "fresh")
    await shop.job().run(fresh)
    assert _content(tmp_path / "out") == _content(tmp_path / "fresh")


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["Attachments", "EmlFolder", "JsonLines", "Maildir", "Mbox"])
@pytest.mark.parametrize("at", [3, 4])
async def test_a_full_disk_ends_the_run_and_loses_nothing(
    shop: Shop, tmp_path: Path, kind: str, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.write, [0]

    def write(fd: int, data: memoryview) -> int:
        calls[0] += 1
        if calls[0] >= at:
            # Half of it, and then nothing more.
            if calls[0] == at and len(data) > 1:
                return real(fd, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data)

    sink = make_sink(kind, tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(imapipe.SinkError, match="No space left on device"):
            await shop.job().run(sink, commit_every_messages=10)
    assert not [path for path in files_below(tmp_path) if path.name.endswith((".imapipe-part", ".lock"))]
    assert (await shop.job().run(sink, commit_every_messages=10)).complete
    await shop.job().run(make_sink(kind, tmp_path / "fresh"))
    assert _content(tmp_path / "out") == _content(tmp_path / "fresh")


def _content(path: Path) -> list[bytes]:
    """What was written, whatever the order and the number of files."""
    if path.is_file():
        return sorted(path.read_bytes().split(b"\n"))
    if list(path.glob("*.parquet")):
        polars = pytest.importorskip("polars")
        return [str(row).encode() for row in polars.read_parquet(path / "*.parquet").sort("uid").to_dicts()]
    lists = {path / "attachments.jsonl"}
    whole = [file.read_bytes() for file in files_below(path) if file.suffix != ".imapipe" and file not in lists]
    rows = [line for file in lists if file.exists() for line in file.read_bytes().splitlines()]
    return sorted(whole + rows)


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", KINDS)
async def test_a_cancelled_run_leaves_no_lock_and_nothing_unfinished(shop: Shop, tmp_path: Path, kind: str) -> None:
    sink = make_sink(kind, tmp_path / "out")

    class Signal:
        """Tells when something was written."""

        def __init__(self) -> None:
            self.has_written = asyncio.Event()

        async def open(self, run: object) -> None:
            pass

        async def write(self, messages: object) -> dict[int, Exception]:
            self.has_written.set()
            return {}

        async def commit(self) -> None:
            await asyncio.Event().wait()

        async def close(self) -> None:
            pass

    signal = Signal()
    running = asyncio.create_task(shop.job().run(sinks.Tee(signal, sink), commit_every_messages=5))
    await signal.has_written.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    left = [path.name for path in files_below(tmp_path)]
    assert not [name for name in left if name.endswith((".imapipe-part", ".lock"))]
    assert (await shop.job().run(sink)).complete


def test_a_tee_takes_sinks_only() -> None:
    with pytest.raises(TypeError, match="takes sinks such as"):
        sinks.Tee(print)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="at least one"):
        sinks.Tee()
