"""Large bodies in temporary files that have no name."""

from __future__ import annotations

import asyncio
import errno
import gc
import io
import os
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

import imapipe
from imapipe.errors import SpoolError
from imapipe.net import spool
from imapipe.net.spool import SpooledFile, SpoolFile
from imapipe.testing import Server


def spooled(data: bytes, folder: Path, *, step: int = 1000) -> SpooledFile:
    file = SpoolFile(len(data), str(folder))
    for start in range(0, len(data), step):
        file.write(memoryview(data)[start : start + step])
    return file.finish()


def open_files() -> int:
    gc.collect()
    return psutil.Process().num_fds()


def is_empty(folder: Path) -> bool:
    return not list(folder.iterdir())


DATA = bytes(range(256)) * 100


def test_what_was_written_is_read_by_many_at_a_time(tmp_path: Path) -> None:
    literal = spooled(DATA, tmp_path)
    assert len(literal) == len(DATA)
    assert literal.read() == DATA
    with literal.open() as first, literal.open() as second:
        assert first.read(300) == DATA[:300]
        assert second.read() == DATA
        assert first.read(5) == DATA[300:305]
        assert first.tell() == 305
        assert first.seek(-3, io.SEEK_END) == len(DATA) - 3
        assert first.read() == DATA[-3:]
        assert first.seek(10) == 10
        assert first.seek(5, io.SEEK_CUR) == 15
        with pytest.raises(ValueError):
            first.seek(-1)
        assert not first.writable()
    with literal.open() as lines:
        assert list(lines) == list(io.BytesIO(DATA))


def test_no_name_is_left_while_it_lives_and_no_file_when_it_is_gone(tmp_path: Path) -> None:
    before = open_files()
    literal = spooled(DATA, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert open_files() == before + 1
    reader = literal.open()
    del literal
    # An open reader keeps it.
    assert reader.read() == DATA
    reader.close()
    del reader
    assert open_files() == before


def test_the_last_holder_may_be_in_another_thread(tmp_path: Path) -> None:
    before = open_files()
    holders = [spooled(DATA, tmp_path)]

    def use() -> None:
        assert holders.pop().read() == DATA

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert open_files() == before


def test_what_does_not_come_leaves_nothing(tmp_path: Path) -> None:
    before = open_files()
    file = SpoolFile(100, str(tmp_path))
    file.write(memoryview(b"half"))
    file.discard()
    assert open_files() == before
    del file


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match=r"no temporary file for a large body in .*missing: No such file") as caught:
        SpoolFile(10, str(tmp_path / "missing"))
    assert isinstance(caught.value, OSError)


@contextmanager
def small_disk() -> Iterator[None]:
    """No file may grow above 10,000 bytes: the system says so as it does when the disk is full.

    Only around the write: the limit holds for whatever pytest writes its report to as well.
    """
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_a_clear_error(tmp_path: Path) -> None:
    before = open_files()
    with small_disk(), pytest.raises(SpoolError, match="make room, or name another folder with spool_dir="):
        spooled(DATA, tmp_path)
    assert open_files() == before


def test_a_short_file_is_a_clear_error(tmp_path: Path) -> None:
    file = SpoolFile(1000, str(tmp_path))
    file.write(memoryview(b"x" * 999))
    with pytest.raises(SpoolError, match="999 of 1000 bytes"):
        file.finish().read()


def test_a_disk_that_cannot_be_read_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    literal = spooled(DATA, tmp_path)

    def fail(number: int, count: int, offset: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(SpoolError, match="Input/output error"):
        literal.read()


def _broken(*_: object) -> int:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_windows_that_cannot_be_written_or_read_are_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = SpoolFile(1000, str(tmp_path))
    monkeypatch.setattr(os, "pwrite", _broken)
    with pytest.raises(SpoolError, match="Input/output error; make room, or name another folder"):
        file.write_at(memoryview(b"x" * 10), 500)
    monkeypatch.setattr(os, "pread", _broken)
    with pytest.raises(SpoolError, match="could not be read: Input/output error"):
        file.read(10, 500)
    file.discard()
    # Its number may be another file's by now.
    for use in (lambda: file.write_at(memoryview(b"x"), 0), lambda: file.read(1, 0), lambda: file.finish().read()):
        with pytest.raises(SpoolError, match="is gone: the run ended"):
            use()


def test_windows_are_written_in_any_order_also_where_the_system_cannot_write_at_a_position(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(spool.os, "pwrite")  # type: ignore[attr-defined]
    file = SpoolFile(30, str(tmp_path))
    for position in (20, 0, 10):
        file.write_at(memoryview(bytes([position]) * 10), position)
    assert file.read(3, 9) == bytes([0, 10, 10])
    assert file.finish().read() == bytes([0]) * 10 + bytes([10]) * 10 + bytes([20]) * 10


def test_where_the_system_cannot_read_at_a_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no pread."""
    monkeypatch.delattr(spool.os, "pread")  # type: ignore[attr-defined]
    monkeypatch.delattr(spool.os, "preadv")  # type: ignore[attr-defined]
    literal = spooled(DATA, tmp_path)
    assert literal.read() == DATA
    with literal.open() as first, literal.open() as second:
        assert first.read(300) + second.read(300) + first.read(300) == DATA[:300] + DATA[:300] + DATA[300:600]


@pytest.mark.asyncio
async def test_a_full_disk_ends_the_run_and_leaves_nothing(tmp_path: Path) -> None:
    handled: list[int] = []

    async def handle(message: imapipe.Message) -> None:
        handled.append(message.uid)

    small, large = b"Subject: s\r\n\r\nx", b"Subject: l\r\n\r\n" + b"x" * 50_000
    async with Server([small, small, large, small]) as server:
        before = open_files()
        async with imapipe.create_pool(server.url, password="secret", spool_above=1024, spool_dir=tmp_path) as pool:
            job = pool.mailbox("INBOX").search().fetch("full")
            with small_disk(), pytest.raises(SpoolError, match="name another folder with spool_dir="):
                await job.run(handle)
            # The account is fine, and so is the pool.
            async with pool.acquire() as connection:
                await connection.noop()
        for _ in range(100):
            await asyncio.sleep(0)
        assert server.counters.open_connections == 0
        assert open_files() <= before
    assert is_empty(tmp_path)
    assert handled == [1, 2]


@pytest.mark.parametrize("more", [{}, {"spool_above": 1024}, {"compress": True, "spool_above": 4096}], ids=repr)
@pytest.mark.asyncio
async def test_no_bound_can_stop_a_consumer_of_whole_batches(more: dict[str, int]) -> None:
    bodies = [b"Subject: %d\r\n\r\n" % number + b"x" * (number * 7919 % 30_000) for number in range(80)]
    async with (
        Server(bodies) as server,
        imapipe.create_pool(
            server.url,
            password="secret",
            max_held_bytes=50_000,
            max_spool_bytes=60_000,
            **more,  # type: ignore[arg-type]
        ) as pool,
        asyncio.timeout(60),
    ):
        batches = pool.mailbox("INBOX").search().batch(40).fetch("full").batches()
        found = [message.body async for batch in batches for message in batch]
    assert sorted(found) == sorted(bodies)


def test_a_file_that_the_collector_comes_to_before_its_owner_is_closed_without_a_complaint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # It goes by age, as a rule.
    older = [tempfile.TemporaryFile(buffering=0)]  # noqa: SIM115
    number = older[0].fileno()
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: older.pop())
    circle: list[object] = [SpoolFile(1, None)]
    circle.append(circle)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        del circle
        gc.collect()
    assert not told
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
