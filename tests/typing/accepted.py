"""What users write, and type checkers must accept. Never run: mypy and pyright read it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import assert_type

import imapipe
from imapipe import oauth, sinks
from imapipe import search as q
from imapipe.connection import NewMessage
from imapipe.contrib.jobs import Job, JobManager, JobState, Pools, Work
from imapipe.events import Event, ServerAwaited
from imapipe.middleware import Call, Layer, Run


async def first_loop() -> None:
    async with imapipe.create_pool("imaps://ann@imap.example.org", password="secret", max_size=4) as pool:
        assert_type(pool, imapipe.Pool)
        async for message in pool.mailbox("INBOX").search(q.since(days=30) & q.UNSEEN).fetch("envelope"):
            assert_type(message, imapipe.Message)
            assert_type(message.uid, int)
            assert_type(message.subject, str)
            assert_type(message.flags, frozenset[str])
            assert_type(message.date, datetime | None)
            assert_type(message.text, str)
            if message.sender is not None:
                assert_type(message.sender.email, str)


async def logging_in(pool: imapipe.Pool) -> None:
    client = oauth.OAuthClient.of("imap.gmail.com", client_id="id")
    token = await oauth.log_in_by_browser(client, show=print, user="ann@gmail.com")
    await oauth.TokenFile("ann.token").save(client, token)
    imapipe.create_pool("imaps://ann@imap.gmail.com", token=oauth.TokenFile("ann.token"))
    assert_type((await imapipe.autodiscover("ann@example.org")).url, str)
    examination = await imapipe.doctor.examine(pool)
    assert_type(examination.findings, tuple[imapipe.doctor.Finding, ...])


async def job(pool: imapipe.Pool, handle: imapipe.HandlerRetry) -> None:
    pipeline = (
        pool.mailbox("INBOX")
        .search(q.ALL | ~q.SEEN)
        .batch(imapipe.AdaptiveBatch(start=100))
        .fetch("full", imapipe.Fetch(header_fields=("Subject",)))
        .use(imapipe.Checkpoint("state.json"), imapipe.Retry(5), imapipe.RateLimit(messages_per_second=200))
        .limit(10)
        .newest_first()
    )
    assert_type(pipeline, imapipe.Pipeline)

    async def handler(message: imapipe.Message) -> None:
        assert_type(message.uid, int)

    def blocking(message: imapipe.Message) -> int:
        return message.uid

    report = await pipeline.run(handler, concurrency=8, handler_retry=handle)
    assert_type(report, imapipe.RunReport)
    assert_type(report.failures, Mapping[int, imapipe.Failure])
    await pipeline.run(imapipe.in_threads(blocking))
    async with pipeline.stream() as stream:
        async for message in stream:
            stream.fail(message, ValueError())
    async for messages in pipeline.batches():
        assert_type(messages, list[imapipe.Message])
    moved = imapipe.move_to("Processed")
    assert_type(moved, imapipe.MessageChange)
    changed = await pipeline.run(handler, on_done=moved, on_failed=imapipe.add_flags("$Failed", "\\Flagged"))
    assert_type(changed.change_failures, Mapping[int, imapipe.Failure])
    async with pipeline.stream(on_done=imapipe.delete(permanently=True)) as stream:
        assert_type(stream, imapipe.Stream)
    assert_type(await pipeline.follow(handler, on_done=imapipe.copy_to("Copies")), imapipe.FollowReport)
    assert_type(await pool.each().search().run(handler, on_done=moved), imapipe.AccountReport)
    found = await pipeline.uids()
    assert_type(found, imapipe.SearchResult)
    assert_type((await found.refine(q.UNSEEN)).pipeline(), imapipe.Pipeline)
    assert_type(await pipeline.plan(), imapipe.JobPlan)
    assert_type(await pool.each().search(q.ALL).plan(), imapipe.AccountPlan)


async def appended(pool: imapipe.Pool, messages: AsyncIterator[NewMessage]) -> None:
    report = await pool.mailbox("Work").append(messages, use=[imapipe.Retry()])
    assert_type(report, imapipe.AppendReport)
    assert_type(report.results, tuple[imapipe.Appended, ...])
    await pool.mailbox("Work").append([NewMessage(b"Subject: x")])


async def leases(pool: imapipe.Pool) -> None:
    async with pool.acquire("INBOX", write=True) as connection:
        await connection.noop()
        assert_type(await connection.enable("CONDSTORE"), frozenset[str])


class Lines:
    """A sink."""

    async def open(self, run: Run) -> None:
        assert_type(run.mailbox, str)

    async def write(self, messages: Sequence[imapipe.Message]) -> Mapping[int, Exception]:
        return {message.uid: ValueError() for message in messages}

    async def commit(self) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        """Nothing is open."""


class Noting(imapipe.Middleware):
    """A middleware."""

    async def start(self, run: Run) -> Layer:
        run.events.subscribe(self.hear)
        return NotingLayer()

    def hear(self, event: Event) -> None:
        if isinstance(event, ServerAwaited):
            assert_type(event.reason, str)


class NotingLayer(Layer):
    """Its layer."""

    async def __call__(self, batch: imapipe.Batch, call_next: Call) -> imapipe.BatchResult:
        return await call_next(batch.narrow(batch.uids))


async def own_parts(pool: imapipe.Pool) -> None:
    await pool.mailbox("INBOX").search().use(Noting()).run(Lines(), commit_every_messages=100)


async def what_changed(pool: imapipe.Pool) -> None:
    changes = pool.mailbox("INBOX").changes("sync.json", name="mirror", on_uidvalidity="restart")
    assert_type(changes, imapipe.Changes)
    async for change in changes:
        match change:
            case imapipe.Arrived() | imapipe.FlagsChanged():
                assert_type(change.flags, frozenset[str])
            case imapipe.Vanished():
                assert_type(change.uid, int)
    async with changes.stream() as stream:
        assert_type(stream, imapipe.ChangeStream)


async def what_arrives(pool: imapipe.Pool) -> None:
    async def handle(message: imapipe.Message) -> None: ...

    for job in (pool.mailbox("INBOX").search(q.ALL), pool.each("*").search(q.ALL)):
        following = job.follow(handle, concurrency=4, on_error="raise", way="idle")
        assert_type(following.health.mailboxes["INBOX"], imapipe.MailboxHealth)
        assert_type(await following, imapipe.FollowReport)
        async with job.follow(poll_seconds=30) as messages:
            assert_type(messages, imapipe.FollowStream)
            async for message in messages:
                assert_type(message, imapipe.Message)


async def changes(pool: imapipe.Pool) -> None:
    moving = pool.mailbox("INBOX").search(q.SEEN).use(imapipe.Retry()).move_to("Archive").limit(10)
    assert_type(moving, imapipe.ChangePipeline)
    assert_type(await moving.plan(), imapipe.ChangePlan)
    assert_type(await moving.run(journal="moving.jsonl", max_messages=10), imapipe.RunReport)
    assert_type(await imapipe.undo("moving.jsonl", pool), imapipe.UndoReport)
    assert_type(await pool.mailbox("Old").rename("New"), imapipe.Mailbox)


async def services() -> None:
    async def open_pool(account: str) -> imapipe.Pool:
        return imapipe.create_pool(f"imaps://{account}@imap.example.org", password="secret")

    async def handle(message: imapipe.Message) -> None: ...

    pools = Pools(open_pool)
    jobs = JobManager(pools, folder="jobs", max_running=10)

    @jobs.job
    def texts(pool: imapipe.Pool, mailbox: str = "INBOX") -> Work[imapipe.Pipeline]:
        return Work(pool.mailbox(mailbox).search(q.ALL).fetch("text"), lambda job: job.run(handle, concurrency=32))

    @jobs.job
    def follow(pool: imapipe.Pool) -> Work[imapipe.AccountPipeline]:
        return Work(pool.each("*").search(q.ALL), lambda job: job.follow(handle))

    @jobs.job
    async def archive(pool: imapipe.Pool) -> Work[imapipe.ChangePipeline]:
        return Work(
            pool.mailbox("INBOX").search(q.SEEN).move_to("Archive"), lambda job: job.run(journal="moving.jsonl")
        )

    async with pools, jobs:
        job = await jobs.start("texts", "ann", {"mailbox": "INBOX"})
        assert_type(job, Job)
        assert_type(job.state, JobState)
        async for event in job.events():
            assert_type(event.kind, str)
        assert_type((await job.wait()).progress, imapipe.ProgressSnapshot | None)


async def another_account(old: imapipe.Pool, new: imapipe.Pool) -> None:
    folders = await sinks.map_folders(old, new, {"Sent Items": "Sent"})
    assert_type(folders, sinks.FolderMap)
    job = old.each("*", exclude=folders.left_out).search(q.ALL).fetch("full")
    report = await job.run(sinks.Account(new, folders, state="moved.copied", labels="first"))
    await job.run(sinks.Account(new, {"Sent Items": "Sent"}))
    await job.run(sinks.Account(new, lambda name: f"Old/{name}"))
    compared = await sinks.verify_copy(old, new, folders, list(report.reports), labels="first")
    assert_type(compared.folders, Mapping[str, sinks.FolderDifferences])
