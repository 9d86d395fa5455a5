"""What every sink does when somebody takes away what it writes to: nothing counts that nobody would find."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.sinks.conftest import Shop
from tests.sinks.test_trouble import KINDS, make_sink

import imapipe
from imapipe import sinks


class Thief:
    """Takes a folder or a file away when the second group is committed, before anybody else commits it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._groups = 0

    async def open(self, run: object) -> None:
        pass

    async def write(self, messages: object) -> dict[int, Exception]:
        return {}

    async def commit(self) -> None:
        self._groups += 1
        if self._groups == 2:
            shutil.move(self._path, self._path.with_name("away"))

    async def close(self) -> None:
        pass


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [*KINDS, "list of attachments"])
async def test_what_was_written_to_something_that_is_gone_is_not_done(shop: Shop, tmp_path: Path, kind: str) -> None:
    name = "out"
    if kind == "list of attachments":
        kind, name = "Attachments", "out/attachments.jsonl"
    job = shop.job().batch(10).use(imapipe.Checkpoint(tmp_path / "state.json"))
    sink = sinks.Tee(Thief(tmp_path / name), make_sink(kind, tmp_path / "out"))
    with pytest.raises(imapipe.SinkError):
        # Of whole groups, however long one takes.
        await job.run(sink, commit_every_messages=10, commit_every_seconds=3600)
    report = await job.run(make_sink(kind, tmp_path / "out"), commit_every_messages=10)
    assert (report.done, report.skipped) == (50, 10)
