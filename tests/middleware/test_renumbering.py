"""A mailbox that the server has renumbered: what is found again is not fetched again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import imapipe
from dovecot_server import DovecotServer
from imapipe import search as q
from imapipe.errors import CheckpointCorrupt, CheckpointMismatch
from imapipe.models.identity import Identity
from imapipe.store.identity_book import IdentityBook
from imapipe.testing import Mailbox, Server, make_messages
from imapipe.wire.uid_set import UidSet

NEW = b"Message-ID: <new@example.org>\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\nnew\r\n"
NAMELESS = b"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nSubject: no name\r\n\r\nnameless\r\n"


class Job:
    """A job with a checkpoint that matches, and what it handled in its last run."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.state = folder / "state.json"
        self.handled: list[bytes] = []
        self.fails: set[bytes] = set()

    async def run(self, *, fetch: str = "full", check: bool = False) -> imapipe.RunReport | imapipe.JobPlan:
        async with imapipe.create_pool(self.server.url, password=self.server.password) as pool:
            checkpoint = imapipe.Checkpoint(self.state, on_uidvalidity="match")
            job = pool.mailbox("INBOX").search(q.ALL).fetch(fetch).use(checkpoint)
            self.handled.clear()
            return await job.plan() if check else await job.run(self._handle)

    async def _handle(self, message: imapipe.Message) -> None:
        if message.body in self.fails:
            raise ValueError("not now")
        self.handled.append(message.body)

    def fetched(self) -> int:
        return sum("BODY.PEEK[]" in record.arguments for record in self.server.commands.named("UID FETCH"))


def shuffled(messages: list[bytes]) -> list[bytes]:
    return messages[::2] + messages[1::2]


@pytest.mark.parametrize("how", ["uidvalidity", "uidnext"])
@pytest.mark.parametrize("extensions", ["modern", "dovecot"])
@pytest.mark.asyncio
async def test_only_what_is_new_is_fetched(extensions: str, how: str, tmp_path: Path) -> None:
    messages = list(make_messages(30))
    async with Server({"INBOX": Mailbox(messages)}, extensions=extensions) as server:
        job = Job(server, tmp_path)
        job.fails = {messages[4], messages[5]}
        report = await job.run()
        assert isinstance(report, imapipe.RunReport)
        assert (report.done, report.failed) == (28, 2)
        old = server.mailboxes.remove("INBOX")
        # In another order, two of them gone, one that is new.
        left = [*shuffled(messages[2:]), NEW]
        server.mailboxes.add("INBOX", Mailbox(left, uidvalidity=old.uidvalidity + (how == "uidvalidity")))
        job.fails.clear()
        plan = await job.run(check=True)
        assert isinstance(plan, imapipe.JobPlan)
        assert (plan.messages, plan.skipped) == (3, 26)
        report = await job.run()
        assert isinstance(report, imapipe.RunReport)
        assert (report.planned, report.skipped, report.done, report.complete) == (29, 26, 3, True)
        assert sorted(job.handled) == sorted([messages[4], messages[5], NEW])
        # And what was found again is known for good.
        report = await job.run()
        assert isinstance(report, imapipe.RunReport)
        assert (report.skipped, report.done) == (29, 0)
    assert sorted(os.listdir(tmp_path)) == ["state.json", "state.json.identities"]  # noqa: PTH208


@pytest.mark.asyncio
async def test_what_cannot_be_told_apart_is_fetched_again_and_twins_are_matched_one_by_one(tmp_path: Path) -> None:
    async with Server({"INBOX": Mailbox([NEW, NEW, NAMELESS])}, extensions="plain") as server:
        job = Job(server, tmp_path)
        await job.run()
        server.mailboxes["INBOX"].append(NEW)
        server.mailboxes["INBOX"].renumber(first_uid=50)
        report = await job.run()
        assert isinstance(report, imapipe.RunReport)
        assert (report.skipped, report.done) == (2, 2)
        assert sorted(job.handled) == sorted([NEW, NAMELESS])


@pytest.mark.asyncio
async def test_a_checkpoint_that_did_not_match_so_far_learns_what_is_done(tmp_path: Path) -> None:
    messages = list(make_messages(20))
    async with Server({"INBOX": Mailbox(messages)}) as server:
        job = Job(server, tmp_path)
        async with imapipe.create_pool(server.url, password=server.password) as pool:
            await pool.mailbox("INBOX").search(q.ALL).fetch("full").use(imapipe.Checkpoint(job.state)).run(job._handle)
        await job.run()
        server.commands.clear()
        # Once.
        await job.run()
        assert not server.commands.named("UID FETCH")
        server.mailboxes["INBOX"].renumber()
        report = await job.run()
        assert isinstance(report, imapipe.RunReport)
        assert (report.skipped, report.done) == (20, 0)
        assert not job.fetched()


@pytest.mark.asyncio
async def test_the_state_of_another_job_is_not_carried_over(tmp_path: Path) -> None:
    async with Server({"INBOX": 3}) as server:
        job = Job(server, tmp_path)
        await job.run()
        server.mailboxes["INBOX"].renumber()
        with pytest.raises(CheckpointMismatch):
            await job.run(fetch="envelope")
        report = await job.run()
        assert isinstance(report, imapipe.RunReport)
        assert report.skipped == 3


@pytest.mark.asyncio
async def test_dovecot(dovecot: DovecotServer, tmp_path: Path) -> None:
    """A mailbox is put back from a copy, as after a restore: other UIDs, another UIDVALIDITY, one message less."""
    user = dovecot.new_user()
    dovecot.fill(user, "Archive", list(make_messages(25)))
    handled: list[int] = []

    async def handle(message: imapipe.Message) -> None:
        handled.append(message.uid)

    async with imapipe.create_pool(dovecot.url(user), user=user, password=dovecot.password) as pool:
        checkpoint = imapipe.Checkpoint(tmp_path / "state.json", on_uidvalidity="match")
        job = pool.each("Archive").search(q.ALL).fetch("full").use(checkpoint)
        assert (await job.run(handle)).done == 25
        async with pool.acquire("Archive") as connection:
            await connection.create("Copy")
            for part in ("13:24", "1:12"):
                await connection.uid_copy(UidSet.parse(part), "Copy")
        async with pool.acquire() as connection:
            await connection.delete("Archive")
            await connection.rename("Copy", "Archive")
        handled.clear()
        report = await job.run(handle)
    assert (report.planned, report.skipped, report.complete) == (24, 24, True)
    assert not handled


def test_it_needs_a_file_that_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a checkpoint in a file, and one that is kept"):
        imapipe.Checkpoint(tmp_path / "state.json", on_uidvalidity="match", when_complete="delete")


def test_email_ids_count_before_contents(tmp_path: Path) -> None:
    book = IdentityBook(tmp_path / "identities")
    old = {1: Identity(b"a", b"x"), 2: Identity(b"b", b"x"), 3: Identity(None, b"y"), 4: Identity()}
    new = {11: Identity(b"b", b"x"), 12: Identity(b"c", b"x"), 13: Identity(b"d", b"y"), 14: Identity()}
    book.add("old", UidSet.parse("1:4"), old)
    book.add("new", UidSet.parse("11:15"), new)
    assert sorted(book.pairs("old", "new")) == [(1, 12), (2, 11), (3, 13)]
    assert book.uids("new") == UidSet.parse("11:15")
    book.forget("old")
    assert not book.uids("old")
    assert (tmp_path / "identities").stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_none_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "identities").write_bytes(b"no database " * 100)
    with pytest.raises(CheckpointCorrupt, match="move it away"):
        IdentityBook(tmp_path / "identities").uids("old")
