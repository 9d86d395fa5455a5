"""Mirroring: a sink follows flags and deletions, and removes no more than is allowed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.sinks.conftest import files_below
from tests.sinks.mirrors import MIRRORS, State

import imapipe
from imapipe import search as q
from imapipe import sinks
from imapipe.changes.mirror import mirrors_of
from imapipe.store import MemoryCheckpointStore
from imapipe.testing import Server


class Copy:
    """A server, its mirror, and the way from one to the other."""

    def __init__(self, server: Server, folder: Path, kind: str) -> None:
        self.server = server
        self.box = server.mailboxes["INBOX"]
        self.make, self.read = MIRRORS[kind]
        self.path = folder / "mirror"
        self.state = folder / "state.json"

    async def run(self, max_deletions: int | str | None = None) -> imapipe.MirrorReport:
        """Bring what is new, then mirror."""
        async with imapipe.create_pool(self.server.url, password=self.server.password) as pool:
            checkpoint = imapipe.Checkpoint(self.state, on_uidvalidity="restart")
            inbox = pool.mailbox("INBOX")
            assert (await inbox.search(q.ALL).fetch("full").use(checkpoint).run(self.make(self.path))).complete
            changes = inbox.changes(self.state, on_uidvalidity="restart")
            return await changes.mirror(self.make(self.path), max_deletions=max_deletions)

    def there(self) -> State:
        """What is on the server."""
        return {(self.box.uidvalidity, message.uid): frozenset(message.flags) for message in self.box}


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", MIRRORS)
async def test_flags_and_deletions_are_followed(tmp_path: Path, kind: str) -> None:
    async with Server(20) as server:
        copy = Copy(server, tmp_path, kind)
        assert await copy.run() == imapipe.MirrorReport("INBOX", 20)
        copy.box.set_flags(2, {"\\Flagged", "\\Seen"})
        copy.box.set_flags(3, {"\\Answered"})
        copy.box.expunge([1, 20])
        copy.box.append(b"Subject: new\r\n\r\nnew\r\n")
        # Without a bound nothing is removed, and nothing forgotten.
        assert await copy.run() == imapipe.MirrorReport("INBOX", 21, flags_changed=2, kept=2)
        assert await copy.run("10%") == imapipe.MirrorReport("INBOX", 19, removed=2)
        assert copy.read(copy.path) == copy.there()
        assert await copy.run("10%") == imapipe.MirrorReport("INBOX", 19)
        # What a mail program did meanwhile, or what was lost of the state, is made good.
        copy.state.unlink()
        copy.box.set_flags(3, set())
        copy.box.expunge([4])
        assert await copy.run(1) == imapipe.MirrorReport("INBOX", 18, flags_changed=1, removed=1)
        assert copy.read(copy.path) == copy.there()
        assert not [path for path in files_below(tmp_path) if path.name.endswith(".imapipe.lock")]


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", MIRRORS)
async def test_more_than_is_allowed_is_not_removed(tmp_path: Path, kind: str) -> None:
    async with Server(20) as server:
        copy = Copy(server, tmp_path, kind)
        await copy.run()
        copy.box.set_flags(20, {"\\Seen"})
        copy.box.expunge([1, 2, 3])
        with pytest.raises(
            imapipe.DeletionsRefused, match=r"^3 of 20 messages .* no more than 10% .*, so none was"
        ) as caught:
            await copy.run("10%")
        assert (caught.value.deletions, caught.value.held, caught.value.allowed) == (3, 20, "10%")
        held = copy.read(copy.path)
        assert len(held) == 20
        assert held[copy.box.uidvalidity, 20] == {"\\Seen"}
        with pytest.raises(imapipe.DeletionsRefused):
            await copy.run(2)
        assert (await copy.run(3)).removed == 3
        assert copy.read(copy.path) == copy.there()


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", MIRRORS)
async def test_a_renumbered_mailbox_removes_nothing_in_silence(tmp_path: Path, kind: str) -> None:
    async with Server(10) as server:
        copy = Copy(server, tmp_path, kind)
        await copy.run("10%")
        old = copy.read(copy.path)
        copy.box.change_uidvalidity()
        with pytest.raises(imapipe.DeletionsRefused, match="10 of 20 messages"):
            await copy.run("10%")
        assert copy.read(copy.path) == old | copy.there()
        assert await copy.run(10) == imapipe.MirrorReport("INBOX", 10, removed=10)
        assert copy.read(copy.path) == copy.there()


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", MIRRORS)
async def test_what_is_not_there_under_new_numbers_is_kept_under_the_old_ones(tmp_path: Path, kind: str) -> None:
    async with Server(10) as server:
        copy = Copy(server, tmp_path, kind)
        await copy.run()
        copy.box.change_uidvalidity()
        async with imapipe.create_pool(server.url, password=server.password) as pool:
            inbox = pool.mailbox("INBOX")
            await inbox.search(q.ALL).fetch("full").limit(9).run(copy.make(copy.path))
            changes = inbox.changes(copy.state, on_uidvalidity="restart")
            report = await changes.mirror(copy.make(copy.path), max_deletions="100%")
        assert report == imapipe.MirrorReport("INBOX", 19, kept=10, missing=1)
        assert len(copy.read(copy.path)) == 19


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", MIRRORS)
async def test_all_mailboxes_and_those_without_changes_cost_nothing(tmp_path: Path, kind: str) -> None:
    make, read = MIRRORS[kind]
    async with Server({"INBOX": 10, "Archive": 5, "Lists": 5}) as server:
        async with imapipe.create_pool(server.url, password=server.password) as pool:
            group, sink, state = pool.each("*"), make(tmp_path / "out"), tmp_path / "state.json"
            backup = group.search(q.ALL).fetch("full").use(imapipe.Checkpoint(state))

            async def run() -> imapipe.AccountMirrorReport:
                assert (await backup.run(sink)).complete
                return await group.mirror(sink, state, max_deletions="20%")

            first = await run()
            assert (first.complete, sorted(first.reports), first.unchanged) == (True, ["Archive", "INBOX", "Lists"], ())
            server.mailboxes["INBOX"].set_flags(1, {"\\Seen"})
            server.mailboxes["Archive"].expunge([1, 2])
            server.mailboxes["Lists"].expunge([5])
            report = await run()
            assert (report.flags_changed, report.removed, report.complete) == (1, 1, False)
            assert {name: type(error) for name, error in report.errors.items()} == {"Archive": imapipe.DeletionsRefused}
            assert "Archive: 2 of 5 messages" in report.table()
            assert json.loads(report.to_json())["mailboxes"]["INBOX"]["flags_changed"] == 1
            again = await run()
            assert (again.unchanged, list(again.errors)) == (("INBOX", "Lists"), ["Archive"])
        held = read(tmp_path / "out")
        assert held[server.mailboxes["INBOX"].uidvalidity, 1] == {"\\Seen"}


@pytest.mark.asyncio
async def test_what_was_kept_without_a_bound_is_removed_with_one_though_nothing_changed(tmp_path: Path) -> None:
    async with Server(5) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        group, sink, state = pool.each("*"), sinks.Maildir(tmp_path / "out"), tmp_path / "state.json"
        await group.search(q.ALL).fetch("full").run(sink)
        server.mailboxes["INBOX"].expunge([1])
        assert (await group.mirror(sink, state)).kept == 1
        assert (await group.mirror(sink, state, max_deletions=1)).removed == 1
        assert (await group.mirror(sink, state, max_deletions=1)).unchanged == ("INBOX",)


@pytest.mark.asyncio
async def test_a_maildir_keeps_what_mail_programs_do_to_it(tmp_path: Path) -> None:
    async with Server(4) as server:
        copy = Copy(server, tmp_path, "maildir")
        await copy.run()
        files = sorted((copy.path / "cur").iterdir(), key=lambda file: file.name.split("M")[0])
        # Read and given a keyword of its own by a mail program; and one that it has moved to new again.
        files[0].rename(files[0].with_name(files[0].name.partition(":")[0] + ":2,Sab"))
        files[1].rename(copy.path / "new" / files[1].name.partition(":")[0])
        (copy.path / "cur" / "stranger:2,S").write_bytes(b"x")
        copy.box.set_flags(1, {"\\Flagged"})
        copy.box.set_flags(2, {"\\Seen"})
        assert await copy.run("50%") == imapipe.MirrorReport("INBOX", 4, flags_changed=2)
        names = {file.name.rpartition(":2,")[2] for file in (copy.path / "cur").iterdir()}
        assert names == {"Fab", "S", ""}
        assert (copy.path / "cur" / "stranger:2,S").exists()


def test_what_cannot_mirror_and_what_is_no_bound_is_told(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="takes a sink that can follow changes, such as"):
        mirrors_of(sinks.Mbox(tmp_path / "mbox"))
    for wrong in ("ten", "-1", "101%", "1.5", True, ""):
        with pytest.raises(ValueError, match="max_deletions takes a number such as 100"):
            imapipe.DeletionBound.parse(wrong)
    for given, allowed in ((0, 0), ("12", 12), ("10%", 3), ("0%", 0), ("2.5 %", 1)):
        bound = imapipe.DeletionBound.parse(given)
        assert bound is not None
        assert bound.allowed(25) == allowed


@pytest.mark.asyncio
async def test_a_tee_mirrors_into_all_of_its_sinks(tmp_path: Path) -> None:
    """For one mailbox and for an account; each by what it has itself."""
    (make, read), (make_other, read_other) = MIRRORS["maildir"], MIRRORS["sqlite"]
    async with Server({"INBOX": 6, "Archive": 4}) as server:
        box, other = tmp_path / "maildir", tmp_path / "all.sqlite"
        async with imapipe.create_pool(server.url, password=server.password) as pool:
            group, state = pool.each("*"), tmp_path / "state.json"
            sink = sinks.Tee(make(box), make_other(other))
            backup = group.search(q.ALL).fetch("full").use(imapipe.Checkpoint(state))
            await backup.run(sink)
            server.mailboxes["INBOX"].set_flags(1, {"\\Flagged"})
            server.mailboxes["INBOX"].expunge([2])
            # One of them has followed already.
            await pool.mailbox("INBOX").changes(MemoryCheckpointStore()).mirror(make(box), max_deletions=1)
            report = await group.mirror(sink, state, max_deletions=1)
            assert (report.flags_changed, report.removed, report.held, report.complete) == (1, 1, 9, True)
            server.mailboxes["INBOX"].expunge([3])
            tee = sinks.Tee(make(box), make_other(other))
            report_of_one = await pool.mailbox("INBOX").changes(MemoryCheckpointStore()).mirror(tee, max_deletions=1)
            assert report_of_one == imapipe.MirrorReport("INBOX", 4, removed=1)
            there = {
                (server.mailboxes["INBOX"].uidvalidity, message.uid): frozenset(message.flags)
                for message in server.mailboxes["INBOX"]
            }
            assert read(box) == read_other(other) == there
            with pytest.raises(TypeError, match="not <Attachments"):
                await group.mirror(sinks.Tee(make(box), sinks.Attachments(tmp_path / "files")), state)
