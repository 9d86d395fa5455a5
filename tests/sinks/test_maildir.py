r"""Maildir: whole files, flags in their names, each message once."""

from __future__ import annotations

import errno
import mailbox
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.sinks.conftest import Shop

import imapipe
from imapipe import search as q
from imapipe import sinks
from imapipe.middleware.base import Run
from imapipe.sinks.maildir import letters_of
from imapipe.testing import Mailbox, Server
from imapipe.testing.messages import make_messages


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "cur").iterdir())


@pytest.mark.asyncio
async def test_the_same_bytes_flags_and_times(shop: Shop, tmp_path: Path) -> None:
    async with shop.pool.acquire("INBOX", write=True) as connection:
        await connection.imap.uid("store", "3", "+FLAGS", r"(\Seen \Answered)")
    report = await shop.job().run(sinks.Maildir(tmp_path / "mail"))
    assert report.complete
    bodies = await shop.bodies()
    read = mailbox.Maildir(tmp_path / "mail", create=False)
    assert sorted(map(read.get_bytes, read.keys())) == sorted(bodies.values())
    assert len(_names(tmp_path / "mail")) == len(bodies)
    third = next(name for name in _names(tmp_path / "mail") if ".U3M" in name)
    assert third.endswith(":2,RS")
    dates = {message.uid: message.internal_date async for message in shop.job("envelope")}
    date = dates[3]
    assert date is not None
    assert (tmp_path / "mail/cur" / third).stat().st_mtime == date.timestamp()
    assert f",S={len(bodies[3])}:" in third
    assert not list((tmp_path / "mail/tmp").iterdir())
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "mail/cur").iterdir()} == {0o600}


@pytest.mark.asyncio
async def test_what_is_there_is_known_by_its_name_whatever_became_of_its_flags(shop: Shop, tmp_path: Path) -> None:
    sink = sinks.Maildir(tmp_path / "mail")
    await shop.job().run(sink)
    cur = tmp_path / "mail/cur"
    before = _names(tmp_path / "mail")
    # A mail program sets a flag, and another one moves a message to new without any.
    (cur / before[0]).rename(cur / f"{before[0]}FS")
    (cur / before[1]).rename(tmp_path / "mail/new" / before[1].partition(":")[0])
    report = await shop.job().run(sink)
    assert report.done == 60
    assert len(_names(tmp_path / "mail")) == 59


@pytest.mark.asyncio
async def test_two_mailboxes_and_another_uidvalidity_have_names_of_their_own(shop: Shop, tmp_path: Path) -> None:
    sink = sinks.Maildir(tmp_path / "mail")
    await shop.job().run(sink)
    shop.add("Other", *make_messages(10))
    await shop.job(mailbox="Other").run(sink)
    assert len(_names(tmp_path / "mail")) == 70
    shop.server.mailboxes["INBOX"].renumber()
    await shop.job().run(sink)
    assert len(_names(tmp_path / "mail")) == 130


@pytest.mark.asyncio
async def test_leftovers_are_removed_and_those_of_others_are_not(shop: Shop, tmp_path: Path) -> None:
    tmp = tmp_path / "mail/tmp"
    tmp.mkdir(parents=True)
    (tmp / ".0123456789abcdef.imapipe-part").write_bytes(b"half a mess")
    (tmp / "1234.other.host").write_bytes(b"somebody else's")
    await shop.job().run(sinks.Maildir(tmp_path / "mail"))
    assert [path.name for path in tmp.iterdir()] == ["1234.other.host"]


@pytest.mark.asyncio
async def test_two_runs_do_not_share_a_folder(shop: Shop, tmp_path: Path) -> None:
    first = sinks.Maildir(tmp_path / "mail")

    class Second:
        async def open(self, run: Run) -> None:
            with pytest.raises(imapipe.SinkError, match="another run of imapipe writes to it"):
                await sinks.Maildir(tmp_path / "mail").open(run)

        async def write(self, messages: object) -> dict[int, Exception]:
            return {}

        async def commit(self) -> None:
            pass

        async def close(self) -> None:
            pass

    assert (await shop.job().run(sinks.Tee(first, Second()))).complete


@pytest.mark.asyncio
async def test_a_job_that_fetches_no_bodies_is_refused(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'put \.fetch\("full"\) into the job'):
        await shop.job("envelope").run(sinks.Maildir(tmp_path / "mail"))
    assert not (tmp_path / "mail").exists()


@pytest.mark.asyncio
async def test_names_of_mailboxes_become_names_of_folders(tmp_path: Path) -> None:
    sink = sinks.Maildir(tmp_path)
    assert sink.for_mailbox("INBOX", "/").path == tmp_path
    assert sink.for_mailbox("Archive/2024", "/").path == tmp_path / ".Archive.2024"
    assert sink.for_mailbox("a.b/..", "/").path == tmp_path / ".a%2Eb.%2E%2E"
    folders = sinks.Maildir(tmp_path, layout="folders")
    assert folders.for_mailbox("a/../../b", "/").path == tmp_path / "a" / "%2E%2E" / "%2E%2E" / "b"
    assert folders.for_mailbox("Archive.2024", ".").path == tmp_path / "Archive" / "2024"
    with pytest.raises(ValueError, match="layout="):
        sinks.Maildir(tmp_path, layout="zip")  # type: ignore[arg-type]


def test_letters() -> None:
    assert letters_of({"\\Seen", "\\FLAGGED", "$Forwarded", "\\Recent", "$Junk"}) == "FPS"
    assert letters_of(()) == ""


@pytest.mark.asyncio
async def test_a_mailbox_in_a_folder_of_its_own(tmp_path: Path) -> None:
    async with Server(3) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        server.mailboxes.add("Lists/a.b", Mailbox(make_messages(4)))
        sink = sinks.Maildir(tmp_path).for_mailbox("Lists/a.b", "/")
        report = await pool.mailbox("Lists/a.b").search(q.ALL).fetch("full").run(sink)
    assert report.complete
    read = mailbox.Maildir(tmp_path, create=False)
    assert read.list_folders() == ["Lists.a%2Eb"]
    assert len(read.get_folder("Lists.a%2Eb")) == 4


@pytest.mark.asyncio
async def test_a_name_is_not_too_long_whatever_the_levels(shop: Shop, tmp_path: Path) -> None:
    long = "/".join(["Почта и архив за много лет подряд"] * 6)
    for name in (long, f"{long}/x"):
        shop.add(name, b"Subject: far down\r\n\r\n")
    report = await shop.pool.each(f"{long[:5]}*").search(q.ALL).fetch("full").run(sinks.Maildir(tmp_path / "mail"))
    assert report.complete, report.table()
    assert report.done == 2
    assert len(list((tmp_path / "mail").glob(".*/cur/*"))) == 2


@pytest.mark.asyncio
async def test_the_probe_of_a_killed_process_is_removed(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "mail" / "tmp").mkdir(parents=True)
    left = tmp_path / "mail" / "tmp" / ".0123456789abcdef.imapipe-part:2,S"
    left.touch()
    assert (await shop.job().run(sinks.Maildir(tmp_path / "mail"))).complete
    assert not left.exists()


@pytest.mark.asyncio
async def test_where_names_take_no_colon_flags_stand_behind_another_sign(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows, and some file systems of it on other systems: `!` is what mutt and mbsync take there, too."""

    def without_colon(call: Callable[..., object]) -> Callable[..., object]:
        def called(path: object, *more: object, **named: object) -> object:
            if ":" in Path(str(path)).name or any(":" in Path(str(each)).name for each in more):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return call(path, *more, **named)

        return called

    for name in ("open", "replace", "rename"):
        monkeypatch.setattr(os, name, without_colon(getattr(os, name)))
    shop.server.mailboxes["INBOX"].set_flags(2, {"\\Seen", "\\Flagged"})
    sink = sinks.Maildir(tmp_path / "mail")
    assert (await shop.job().run(sink)).complete
    assert (await shop.job().run(sink)).complete
    names = [path.name for path in (tmp_path / "mail/cur").iterdir()]
    assert len(names) == 60
    assert [name.partition(",")[2].partition("!")[2] for name in names if ".U2M" in name] == ["2,FS"]
    shop.server.mailboxes["INBOX"].set_flags(2, {"\\Seen"})
    report = await shop.pool.mailbox("INBOX").changes(tmp_path / "state.json").mirror(sink)
    assert (report.held, report.flags_changed, report.missing) == (60, 1, 0)
    assert [path.name[-4:] for path in (tmp_path / "mail/cur").glob("*.U2M*")] == ["!2,S"]
