"""mbox: what is put in comes out, byte for byte, whatever the messages hold."""

from __future__ import annotations

import contextlib
import mailbox
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sinks.conftest import Shop

import imapipe
from imapipe import sinks
from imapipe.sinks.mbox import escaped_lines


def read_mboxrd(data: bytes) -> list[bytes]:
    """The messages of a file, by the rules of mboxrd and nothing of ours."""
    if not data:
        return []
    assert data.startswith(b"From ")
    messages = []
    for part in re.split(rb"(?:\A|(?<=\n\n))From [^\n]*\n", data)[1:]:
        assert part.endswith(b"\n")
        messages.append(re.sub(rb"(?m)^>(>*From )", rb"\1", part[:-1]))
    return messages


@pytest.mark.asyncio
async def test_the_same_bytes(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "all.mbox"
    assert (await shop.job().run(sinks.Mbox(file))).complete
    bodies = [body for _, body in sorted((await shop.bodies()).items())]
    whole = [body if body.endswith(b"\n") else body + b"\n" for body in bodies]
    assert read_mboxrd(file.read_bytes()) == whole
    with contextlib.closing(mailbox.mbox(file, create=False)) as read:
        assert len(read) == 60
    assert file.stat().st_mode & 0o777 == 0o600
    first = file.read_bytes().split(b"\n", 1)[0]
    assert re.fullmatch(rb"From ann@example\.org [A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}", first)


@pytest.mark.asyncio
async def test_running_again_adds_nothing(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "all.mbox"
    sink = sinks.Mbox(file)
    await shop.job().run(sink)
    before = file.read_bytes()
    assert (await shop.job().run(sink)).done == 60
    assert file.read_bytes() == before


@pytest.mark.asyncio
async def test_what_was_there_before_and_what_others_append_stays(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "all.mbox"
    theirs = b"From old@example.org Thu Jan  1 00:00:00 1970\nSubject: old\n\nold\n\n"
    file.write_bytes(theirs.removesuffix(b"\n"))
    await shop.job().limit(5).run(sinks.Mbox(file))
    with file.open("ab") as others:
        others.write(theirs)
    assert (await shop.job().run(sinks.Mbox(file))).complete
    messages = read_mboxrd(file.read_bytes())
    assert len(messages) == 62
    assert messages[0] == messages[6] == b"Subject: old\n\nold\n"


@pytest.mark.asyncio
async def test_a_cut_off_group_is_removed(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "all.mbox"
    await shop.job().limit(5).run(sinks.Mbox(file))
    whole = file.read_bytes()
    record = tmp_path / "all.mbox.imapipe"
    # As if the process had been killed: the record is not closed, and half a group is in the file.
    assert b'"closed":true' in record.read_bytes()
    record.write_bytes(record.read_bytes().replace(b'"closed":true', b'"closed":false'))
    with file.open("ab") as killed:
        killed.write(b"From x@y Thu Jan  1 00:00:00 1970\nSubject: ha")
    await shop.job().limit(6).run(sinks.Mbox(file))
    assert file.read_bytes().startswith(whole)
    assert len(read_mboxrd(file.read_bytes())) == 6


@pytest.mark.asyncio
async def test_a_file_that_is_gone_is_made_anew_and_one_that_was_shortened_is_refused(
    shop: Shop, tmp_path: Path
) -> None:
    file = tmp_path / "all.mbox"
    sink = sinks.Mbox(file)
    await shop.job().run(sink)
    whole = file.read_bytes()
    file.unlink()
    assert (await shop.job().run(sink)).done == 60
    assert file.read_bytes() == whole
    file.write_bytes(whole[:100])
    with pytest.raises(imapipe.SinkError, match=r"it has 100 bytes, and \d+ were written to it"):
        await shop.job().run(sink)
    (tmp_path / "all.mbox.imapipe").write_bytes(b"[]\n")
    with pytest.raises(imapipe.SinkError, match="no record of what was written"):
        await shop.job().run(sink)


@given(
    st.lists(st.sampled_from([b"From ", b">", b">>From x", b"\n", b"\r\n", b"a", b"From", b" "]), max_size=12),
    st.integers(1, 7),
)
def test_escaping_does_not_depend_on_the_pieces(parts: list[bytes], size: int) -> None:
    data = b"".join(parts)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    escaped = b"".join(escaped_lines(pieces))
    assert escaped == re.sub(rb"(?m)^(>*From )", rb">\1", data)
    assert re.sub(rb"(?m)^>(>*From )", rb"\1", escaped) == data


def test_a_line_without_end_goes_through_in_pieces() -> None:
    pieces = [b"From " + b"x" * 2**20, b"From y\nFrom z"]
    assert list(escaped_lines(pieces)) == [b">From " + b"x" * 2**20, b"From y\n", b">From z"]


@pytest.mark.asyncio
@pytest.mark.parametrize("limit", [0, 9])
async def test_what_others_append_between_two_groups_stays(shop: Shop, tmp_path: Path, limit: int) -> None:
    file = tmp_path / "all.mbox"
    theirs = b"From old@example.org Thu Jan  1 00:00:00 1970\nSubject: theirs\n\nFrom\n\n"

    class Others:
        """A mail program that delivers to the file whenever a group is safe, and before the first one."""

        async def open(self, run: object) -> None:
            await self.commit()

        async def write(self, messages: object) -> dict[int, Exception]:
            return {}

        async def commit(self) -> None:
            with file.open("ab") as end:
                end.write(theirs)

        async def close(self) -> None:
            await self.commit()

    bodies = [body for _, body in sorted((await shop.bodies()).items())][:limit]
    whole = [body if body.endswith(b"\n") else body + b"\n" for body in bodies]
    for _ in range(2):
        tee = sinks.Tee(sinks.Mbox(file), Others())
        assert (await shop.job().limit(limit).run(tee, commit_every_messages=3, commit_every_seconds=3600)).complete
    messages = read_mboxrd(file.read_bytes())
    assert [message for message in messages if b"Subject: theirs" not in message] == whole
    # Before the first group, behind each of three, at the end; the second run finds nothing to do.
    assert len(messages) - limit == 2 * (2 + limit // 3)


@pytest.mark.asyncio
async def test_what_others_append_before_the_process_is_killed_stays(shop: Shop, tmp_path: Path) -> None:
    file, record = tmp_path / "all.mbox", tmp_path / "all.mbox.imapipe"
    await shop.job().limit(3).run(sinks.Mbox(file))
    # The last line is written when the run ends in order; killed behind its last group, it has not.
    record.write_bytes(b"".join(record.read_bytes().splitlines(True)[:-1]))
    with file.open("ab") as others:
        others.write(b"From old@example.org Thu Jan  1 00:00:00 1970\nSubject: theirs\n\n\n")
    assert (await shop.job().limit(4).run(sinks.Mbox(file))).complete
    assert len(read_mboxrd(file.read_bytes())) == 5


@pytest.mark.parametrize("end", [b"From x\n", b"Fro m\n", b"From ", b"x From y\nFrom z", b""])
@pytest.mark.parametrize("size", [2**20, 2**20 + 3])
def test_a_line_may_begin_with_ever_so_many_marks(end: bytes, size: int) -> None:
    data = b">" * (2**21) + end
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert b"".join(escaped_lines(pieces)) == re.sub(rb"(?m)^(>*+From )", rb">\1", data)
