"""What is safe when a commit returns: every file with its last byte, and the name of each in its folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.sinks.conftest import Shop, files_below
from tests.sinks.mirrors import MIRRORS
from tests.sinks.test_mirror import Copy
from tests.sinks.test_trouble import KINDS, make_sink

import imapipe
from imapipe import sinks
from imapipe.testing import Server


class Disk:
    """What was made safe, as the system was asked for it.

    Attributes:
        sizes: Of files by their number: how long each was when it was synced last.
        named: When a name came last to each folder, counted in calls.
        synced: When the names of each folder were made safe.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: dict[int, int] = {}
        self.named: dict[int, int] = {}
        self.synced: dict[int, int] = {}
        self._calls = 0
        self._fsync, self._replace, self._rename, self._unlink = os.fsync, os.replace, os.rename, os.unlink
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "replace", self.replace)
        monkeypatch.setattr(os, "rename", self.rename)
        monkeypatch.setattr(os, "unlink", self.unlink)

    def fsync(self, fd: int) -> None:
        self._calls += 1
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            self.synced[status.st_ino] = self._calls
        else:
            self.sizes[status.st_ino] = status.st_size
        self._fsync(fd)

    def replace(self, source: str | Path, target: str | Path) -> None:
        self._names(target)
        self._replace(source, target)

    def rename(self, source: str | Path, target: str | Path) -> None:
        self._names(target)
        self._rename(source, target)

    def unlink(self, path: str | Path, **options: int) -> None:
        # What has no name of its own, such as a lock, may come back.
        if not Path(path).name.startswith(".") and Path(path).suffix != ".lock":
            self._names(path)
        self._unlink(path, **options)

    def _names(self, path: str | Path) -> None:
        self._calls += 1
        self.named[Path(path).parent.stat().st_ino] = self._calls

    def is_safe(self, file: Path) -> bool:
        """Whether a file and its name are."""
        content, folder = file.stat(), file.parent.stat().st_ino
        return self.sizes.get(content.st_ino) == content.st_size and self.synced.get(folder, -1) > self.named.get(
            folder, 0
        )


def files_of(folder: Path) -> list[Path]:
    return [path for path in files_below(folder) if path.stat().st_size and path.suffix != ".lock"]


# SQLite syncs by itself: see test_sqlite.
@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "Sqlite"])
async def test_what_is_committed_is_safe(
    shop: Shop, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    sink = make_sink(kind, tmp_path / "out" / "place")
    commits = 0
    commit = type(sink).commit

    async def checked(self: imapipe.Sink) -> None:
        nonlocal commits
        await commit(self)
        commits += 1
        unsafe = [file for file in files_of(tmp_path / "out") if not disk.is_safe(file)]
        assert not unsafe

    monkeypatch.setattr(type(sink), "commit", checked)
    report = await shop.job().run(sink, commit_every_messages=20)
    assert report.complete
    assert commits >= 3
    assert files_of(tmp_path / "out")


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [kind for kind in MIRRORS if kind != "sqlite"])
async def test_what_was_mirrored_is_safe(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    async with Server(20) as server:
        copy = Copy(server, tmp_path, kind)
        changes: list[Callable[[], object]] = [
            lambda: None,
            lambda: copy.box.set_flags(2, {"\\Flagged", "\\Seen"}),
            lambda: copy.box.expunge([3, *range(8, 15)]),
            copy.box.change_uidvalidity,
        ]
        for change in changes:
            change()
            await copy.run("100%")
            assert not [file for file in files_of(copy.path) if not disk.is_safe(file)]


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in {"Sqlite", "Parquet"}])
async def test_without_durable_nothing_is_waited_for(
    shop: Shop, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    sink: imapipe.Sink = getattr(sinks, kind)(tmp_path / "out", durable=False)
    assert (await shop.job().run(sink)).complete
    assert (disk.sizes, disk.synced) == ({}, {})
