"""What other users of the machine can see of exported mail, and what they can do to it: nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.sinks.conftest import Shop

import imapipe
from imapipe import sinks

KINDS = ("Attachments", "EmlFolder", "JsonLines", "Maildir", "Mbox", "Parquet")
FILES = ("JsonLines", "Mbox")


def make(kind: str, path: Path) -> imapipe.Sink:
    if kind == "Parquet":
        pytest.importorskip("pyarrow")
    made: imapipe.Sink = getattr(sinks, kind)(path)
    return made


@pytest.fixture
def careless() -> Iterator[None]:
    """A process that leaves everything open to everybody."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(path: Path) -> set[int]:
    return {stat.S_IMODE(each.stat().st_mode) for each in (path, *path.rglob("*")) if each.is_file()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("careless")
@pytest.mark.asyncio
async def test_files_are_for_their_owner_only_from_the_beginning(shop: Shop, tmp_path: Path, kind: str) -> None:
    seen: set[int] = set()
    sink = make(kind, tmp_path / "out" / "mail")

    class Watched:
        """The sink, and a look at its files after each group that is written and not committed."""

        def __getattr__(self, name: str) -> object:
            return getattr(sink, name)

        async def write(self, messages: list[imapipe.Message]) -> object:
            failed = await sink.write(messages)
            seen.update(modes(tmp_path))
            return failed

    assert (await shop.job().run(Watched())).complete  # type: ignore[arg-type]
    assert seen <= {0o600}
    assert modes(tmp_path) == {0o600}
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.asyncio
async def test_an_empty_file_made_beforehand_does_not_keep_its_mode(shop: Shop, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mail"
    path.touch()
    path.chmod(0o666)
    assert (await shop.job().run(make(kind, path))).complete
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.asyncio
async def test_nothing_is_put_into_a_file_of_another_user(
    shop: Shop, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mail"
    path.touch()
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(imapipe.SinkError, match="it belongs to another user"):
        await shop.job().run(make(kind, path))
    assert not path.stat().st_size


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("name", ["mail", "mail.imapipe.lock"])
@pytest.mark.asyncio
async def test_a_link_in_the_way_is_not_followed(shop: Shop, tmp_path: Path, kind: str, name: str) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    (tmp_path / name).symlink_to(other)
    with pytest.raises((imapipe.SinkError, OSError), match="link"):
        await shop.job().run(make(kind, tmp_path / "mail"))
    assert other.read_bytes() == b"precious"


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.asyncio
async def test_a_link_in_the_place_of_a_record_is_replaced(shop: Shop, tmp_path: Path, kind: str) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    record = tmp_path / "mail.imapipe"
    record.symlink_to(other)
    assert (await shop.job().run(make(kind, tmp_path / "mail"))).complete
    assert other.read_bytes() == b"precious"
    assert not record.is_symlink()


@pytest.mark.asyncio
async def test_a_link_in_the_place_of_the_rows_that_are_being_written_is_not_followed(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name can be told beforehand; whoever is quick enough puts a link there after what lay there was removed."""
    pytest.importorskip("pyarrow")
    other = tmp_path / "other"
    other.write_bytes(b"precious")

    def remove(path: str) -> None:
        Path(path).unlink(missing_ok=True)
        if path.endswith(".imapipe-part"):
            Path(path).symlink_to(other)

    monkeypatch.setattr("imapipe.sinks.parquet.remove", remove)
    with pytest.raises(imapipe.SinkError, match="File exists"):
        await shop.job().run(make("Parquet", tmp_path / "rows"))
    assert other.read_bytes() == b"precious"
