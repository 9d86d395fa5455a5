"""EmlFolder: a file a message, under a name that is safe and its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sinks.conftest import Shop, files_below

import imapipe
from imapipe import sinks


@pytest.mark.asyncio
async def test_the_same_bytes_under_names_that_stay_in_the_folder(shop: Shop, tmp_path: Path) -> None:
    folder = tmp_path / "mail"
    assert (await shop.job().run(sinks.EmlFolder(folder))).complete
    files = {int(path.name[:10]): path.read_bytes() for path in files_below(folder)}
    assert files == await shop.bodies()
    assert {path.parent for path in files_below(tmp_path)} == {folder}
    assert (folder / "0000000003 .._.._etc_passwd.eml").exists()


@pytest.mark.asyncio
async def test_running_again_writes_nothing(shop: Shop, tmp_path: Path) -> None:
    sink = sinks.EmlFolder(tmp_path, pattern="{date:%Y}/{sender}/{uid}.eml")
    await shop.job().run(sink)
    before = {path: path.stat().st_ino for path in files_below(tmp_path)}
    assert len(before) == 60
    assert (await shop.job().run(sink)).done == 60
    assert {path: path.stat().st_ino for path in files_below(tmp_path)} == before


@pytest.mark.asyncio
async def test_another_message_of_that_name_keeps_its_file(shop: Shop, tmp_path: Path) -> None:
    sink = sinks.EmlFolder(tmp_path, pattern="{uid}.eml")
    await shop.job().run(sink)
    shop.server.mailboxes["INBOX"].renumber(first_uid=2)
    await shop.job().run(sink)
    bodies = await shop.bodies()
    uidvalidity = (await shop.pool.mailbox("INBOX").status()).uidvalidity
    for uid, body in bodies.items():
        named = tmp_path / f"{uid} ({uidvalidity}-{uid}).eml"
        assert (named if named.exists() else tmp_path / f"{uid}.eml").read_bytes() == body
    assert len(files_below(tmp_path)) == 120


@pytest.mark.parametrize(
    "pattern",
    [
        "{subject}.eml",
        "{uid.__class__}.eml",
        "{uid}{nothing}",
        "../{uid}.eml",
        "/abs/{uid}.eml",
        "{uid}/x.eml",
        "a//{uid}.eml",
        "{uid",
        "{uid!r:>{date}}",
        "{uid:%Y}.eml",
    ],
)
def test_a_pattern_that_cannot_work_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="cannot be used"):
        sinks.EmlFolder("mail", pattern=pattern)


@pytest.mark.asyncio
async def test_a_file_in_the_way_is_an_error(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "mail").write_bytes(b"")
    with pytest.raises(imapipe.SinkError, match="mail"):
        await shop.job().run(sinks.EmlFolder(tmp_path / "mail"))
