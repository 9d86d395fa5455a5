"""A message that is to be sent again is the same message, wherever its bytes come from."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.pipeline.world import OpenWorld

import imapipe
from imapipe.connection import Body, NewMessage
from imapipe.net.options import PlaneOptions
from imapipe.pipeline.append.letter import Letter
from imapipe.pipeline.operation import recovery
from imapipe.testing import CutAfterBytes, CutInput, Fault, Mailbox
from imapipe.testing.messages import make_messages

pytestmark = pytest.mark.asyncio

RAW = b"Message-ID: <1@x>\r\nSubject: s\r\n\r\n" + b"0123456789" * 3_000


async def _pieces(raw: bytes, size: int = 1_000) -> AsyncIterator[bytes]:
    for start in range(0, len(raw), size):
        yield raw[start : start + size]


class _Pipe(io.BytesIO):
    """What can be read once."""

    def seekable(self) -> bool:
        return False


def _in_a_file(raw: bytes) -> Body:
    """In the middle of a file, of which more follows."""
    file = io.BytesIO(b"what was read before" + raw + b"and what is another's")
    file.seek(20)
    return Body(file, len(raw))


FILES = Path("/proc/self/fd")
SOURCES: dict[str, Callable[[bytes], bytes | Body]] = {
    "bytes": lambda raw: raw,
    "a file": _in_a_file,
    "a pipe": lambda raw: Body(_Pipe(raw), len(raw)),
    "pieces": lambda raw: Body(_pieces(raw), len(raw)),
}


def _open_files() -> int:
    """How many this process has, where that can be seen."""
    return len(list(FILES.iterdir())) if FILES.exists() else 0


def _options(folder: Path, spool_above: int) -> PlaneOptions:
    return PlaneOptions(spool_dir=str(folder), spool_above=spool_above)


@pytest.mark.parametrize("spool_above", [1_000, 1_000_000], ids=["on disk", "in memory"])
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
async def test_it_is_known_by_the_same_and_gives_the_same_bytes_each_time(
    tmp_path: Path, source: Callable[[bytes], bytes | Body], spool_above: int
) -> None:
    of_bytes = await Letter.of(1, NewMessage(RAW), _options(tmp_path, spool_above))
    letter = await Letter.of(1, NewMessage(source(RAW), ["$Work"]), _options(tmp_path, spool_above))
    for _ in range(2):
        assert letter.key() == of_bytes.key() == ("<1@x>", len(RAW))
        assert letter.digest() == of_bytes.digest()
        new = letter.new()
        body = new.body
        sent = bytes(body) if not isinstance(body, Body) else body.source.read(body.size)  # type: ignore[union-attr]
        assert (sent, list(new.flags)) == (RAW, ["$Work"])
    letter.close()


@pytest.mark.parametrize("spool_above", [1_000, 1_000_000], ids=["on disk", "in memory"])
@pytest.mark.parametrize("said", [len(RAW) - 1_500, len(RAW) + 1])
async def test_a_source_that_gives_more_or_less_than_was_said_is_refused_and_nothing_is_left(
    tmp_path: Path, spool_above: int, said: int
) -> None:
    before = _open_files()
    with pytest.raises(ValueError, match=f"does not give the {said} bytes that were said"):
        await Letter.of(1, NewMessage(Body(_pieces(RAW), said)), _options(tmp_path, spool_above))
    assert _open_files() == before
    assert os.listdir(tmp_path) == []  # noqa: PTH208


async def test_a_file_that_is_shorter_than_was_said_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not give the 30034 bytes that were said"):
        await Letter.of(1, NewMessage(Body(io.BytesIO(RAW), len(RAW) + 1)), _options(tmp_path, 1_000))


@pytest.mark.parametrize("source", [*SOURCES.values()][1:], ids=[*SOURCES][1:])
@pytest.mark.parametrize("is_answered", [False, True], ids=["in it", "answer lost"])
async def test_a_connection_that_is_cut_neither_doubles_nor_loses_what_comes_from_a_file_or_a_stream(
    open_world: OpenWorld, monkeypatch: pytest.MonkeyPatch, source: Callable[[bytes], bytes | Body], is_answered: bool
) -> None:
    monkeypatch.setattr(recovery, "LOOK_AGAIN_SECONDS", 0.0)
    world = await open_world({"INBOX": Mailbox(), "Work": Mailbox(make_messages(2))}, options={"spool_above": 2048})
    cut: Fault = CutAfterBytes(0, command="APPEND", nth=1) if is_answered else CutInput(20_000, command="APPEND", nth=1)
    world.server.faults.add(cut)
    raw = [RAW.replace(b"<1@x>", b"<%d@x>" % number) for number in range(1, 4)]
    retry = imapipe.Retry(wait_initial_seconds=0)
    report = await world.pool.mailbox("Work").append((NewMessage(source(each)) for each in raw), use=[retry])
    assert (report.done, report.complete, report.retries) == (3, True, 1)
    held = [bytes(message.content.raw) for message in world.server.mailboxes["Work"] if message.uid > 2]
    assert Counter(held) == Counter(raw)
    assert [result.uid for result in report.results] == [held.index(each) + 3 for each in raw]
