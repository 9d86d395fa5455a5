"""UIDs that mean other messages now: what was written under them before is not taken for the new messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import imapipe
from imapipe import search as q
from imapipe import sinks
from imapipe.errors import UidValidityChanged
from imapipe.pipeline.delivery.sink import Sink
from imapipe.testing import Server


def _parquet(path: Path) -> Sink:
    pytest.importorskip("pyarrow")
    return sinks.Parquet(path)


SINKS: dict[str, Callable[[Path], Sink]] = {
    "attachments": sinks.Attachments,
    "json lines": lambda path: sinks.JsonLines(path / "mail.jsonl"),
    "maildir": sinks.Maildir,
    "mbox": lambda path: sinks.Mbox(path / "mail.mbox"),
    "parquet": _parquet,
    "sqlite": lambda path: sinks.Sqlite(path / "mail.sqlite"),
    "tee": lambda path: sinks.Tee(sinks.EmlFolder(path / "eml"), sinks.Maildir(path / "maildir")),
}


async def _export(server: Server, sink: Sink, state: Path) -> imapipe.RunReport:
    checkpoint = imapipe.Checkpoint(state, on_uidvalidity="restart")
    async with imapipe.create_pool(server.url, password=server.password) as pool:
        return await pool.mailbox("INBOX").search(q.ALL).fetch("full").use(checkpoint).run(sink)


def _rewind(server: Server) -> None:
    box = server.mailboxes["INBOX"]
    box.rewind_uidnext(4)
    box.append(b"Subject: new\r\n\r\nnew\r\n")


@pytest.mark.asyncio
@pytest.mark.parametrize("make", SINKS.values(), ids=SINKS.keys())
async def test_what_is_there_under_their_uid_ends_the_run(tmp_path: Path, make: Callable[[Path], Sink]) -> None:
    """The checkpoint begins anew, as it was asked to; without this the new message would be done and nowhere."""
    async with Server(6) as server:
        assert (await _export(server, make(tmp_path / "out"), tmp_path / "state.json")).complete
        # Again without a checkpoint: nothing is in the way of what is known.
        assert (await _export(server, make(tmp_path / "out"), tmp_path / "other.json")).complete
        _rewind(server)
        with pytest.raises(UidValidityChanged, match=r"fell from 7 to 5.*move away what was written to"):
            await _export(server, make(tmp_path / "out"), tmp_path / "state.json")
        report = await _export(server, make(tmp_path / "anew"), tmp_path / "state.json")
        assert (report.done, report.skipped, report.complete) == (4, 0, True)


@pytest.mark.asyncio
async def test_files_that_are_compared_by_their_content_need_no_such_care(tmp_path: Path) -> None:
    async with Server(6) as server:
        for expected in (6, 4):
            sink = sinks.EmlFolder(tmp_path / "eml", pattern="{uid}.eml")
            report = await _export(server, sink, tmp_path / "state.json")
            assert (report.done, report.complete) == (expected, True)
            _rewind(server)
        contents = [path.read_bytes() for path in (tmp_path / "eml").glob("*.eml")]
        assert len(contents) == 7
        assert sum(b"Subject: new" in content for content in contents) == 1
