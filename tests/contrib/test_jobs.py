"""Jobs that outlive whoever started them: started, told of, cancelled, ended by a shutdown and gone on with."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

import imapipe
from imapipe import search as q
from imapipe.contrib.job_events import EventRing
from imapipe.contrib.jobs import (
    Job,
    JobFolderError,
    JobManager,
    JobNotEnded,
    NotServing,
    Pools,
    TooManyJobs,
    UnknownAccount,
    UnknownJob,
    Work,
    WrongParameters,
)
from imapipe.contrib.managed_job import ManagedJob
from imapipe.contrib.service import ServiceCore
from imapipe.models.json_value import JSON
from imapipe.testing import Server

Handle = Callable[[imapipe.Message], Awaitable[None]]


async def _nothing(message: imapipe.Message) -> None:
    """Take a message."""


class _Service:
    """A server, and what the jobs of a test need; a manager is made for each life of the service."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.opened: list[str] = []
        self.known = {"ann", "bob"}
        self.handle: Handle = _nothing

    async def open_pool(self, account: str) -> imapipe.Pool:
        await asyncio.sleep(0)
        if account not in self.known:
            raise KeyError(account)
        self.opened.append(account)
        return imapipe.create_pool(self.server.url, password=self.server.password)

    def pools(self) -> Pools:
        return Pools(self.open_pool)

    @asynccontextmanager
    async def life(self, *, kept: bool = True, **options: int | bool | float) -> AsyncIterator[JobManager]:
        async with self.pools() as pools:
            manager = JobManager(pools, folder=self.folder / "jobs" if kept else None, **options)  # type: ignore[arg-type]

            @manager.job
            def scan(pool: imapipe.Pool, mailbox: str = "INBOX", limit: int | None = None) -> object:
                """Look at every message."""
                job = pool.mailbox(mailbox).search(q.ALL).fetch("flags").batch(10)
                if limit is not None:
                    job = job.limit(limit)
                job = job.use(imapipe.Checkpoint(self.folder / "scan.json", save_every_messages=1))
                return Work(job, lambda job: job.run(self.handle, concurrency=2))

            @manager.job
            async def wrong(pool: imapipe.Pool, text: str) -> object:
                return text

            async with manager:
                yield manager


@asynccontextmanager
async def _service(tmp_path: Path, **options: object) -> AsyncIterator[_Service]:
    async with Server(30, **options) as server:  # type: ignore[arg-type]
        yield _Service(server, tmp_path)


async def _all(job: Job) -> list[tuple[str, dict[str, JSON]]]:
    return [(event.kind, event.data) async for event in job.events()]


def test_a_job_is_asked_and_only_its_manager_changes_it() -> None:
    attributes = {"id", "name", "account", "parameters"}
    asked = {"state", "is_ended", "status", "result", "events", "wait"}
    job = Job("j", "n", "a", {}, created_at=datetime.now(UTC), ring=EventRing(), every_seconds=1.0)
    assert {name for name in dir(job) if not name.startswith("_")} == attributes | asked


@pytest.mark.asyncio
async def test_a_job_runs_and_tells_of_it(tmp_path: Path) -> None:
    async with _service(tmp_path) as service, service.life() as jobs:
        assert list(jobs.functions) == ["scan", "wrong"]
        job = await jobs.start("scan", "ann", {"limit": 20})
        with pytest.raises(JobNotEnded):
            _ = job.result
        events = await _all(job)
        status = await job.wait()
        assert (status.state, status.attempt, status.account) == ("complete", 1, "ann")
        assert status.progress is not None
        assert (status.progress.done, status.progress.final, status.progress.mailbox) == (20, True, "INBOX")
        assert job.result is not None
        assert (job.result["planned"], job.result["done"], job.result["complete"]) == (20, 20, True)
        kinds = [kind for kind, _ in events]
        assert [kind for kind in kinds if kind != "progress"] == ["state", "state", "end"]
        assert kinds[-2:] == ["progress", "end"]
        assert events[-1][1] == {"state": "complete", "error": None, "report": job.result}
        assert jobs.list() == jobs.list(state="complete", account="ann") == [job]
        assert jobs.list(account="bob") == []


@pytest.mark.asyncio
async def test_failures_are_told_and_the_job_is_partial(tmp_path: Path) -> None:
    async def handle(message: imapipe.Message) -> None:
        if message.uid in {5, 7}:
            raise OSError("no room")

    async with _service(tmp_path) as service, service.life(kept=False) as jobs:
        service.handle = handle
        job = await jobs.start("scan", "ann")
        events = await _all(job)
        told = [data for kind, data in events if kind == "failures"]
        assert told == [
            {
                "count": 2,
                "failures": [
                    {"mailbox": "INBOX", "uid": uid, "reason": "OSError", "detail": "no room"} for uid in (5, 7)
                ],
            }
        ]
        assert job.state == "partial"
        assert job.result is not None
        assert job.result["failed_uids"] == "5,7"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("sacn", {}, "there is no job 'sacn'; there are: scan, wrong"),
        ("scan", {"mailbux": "INBOX"}, "no parameter 'mailbux'; there are: mailbox, limit"),
        ("scan", {"limit": "many"}, "'limit' of the job 'scan' takes a whole number or null, not 'many'"),
        ("scan", {"limit": True}, "takes a whole number or null"),
        ("wrong", {}, "the job 'wrong' needs the parameter 'text'"),
        ("scan", {"limit": -5}, "the job 'scan' cannot be made of these parameters: .*-5"),
        ("scan", {"mailbox": ""}, "cannot be made of these parameters: '' cannot be the name of a mailbox"),
    ],
)
async def test_what_a_job_does_not_take_is_said_at_once(
    tmp_path: Path, name: str, parameters: dict[str, JSON], said: str
) -> None:
    async with _service(tmp_path) as service, service.life() as jobs:
        with pytest.raises(WrongParameters, match=said):
            await jobs.start(name, "ann", parameters)
        assert jobs.list() == []


@pytest.mark.asyncio
async def test_a_job_is_made_once_before_it_is_taken_unless_that_may_ask_a_server(tmp_path: Path) -> None:
    made: list[str] = []
    async with _service(tmp_path) as service, service.life() as jobs:

        @jobs.job
        def broken(pool: imapipe.Pool) -> object:
            made.append("broken")
            raise OSError("no room now")

        @jobs.job
        def lazy(pool: imapipe.Pool) -> object:
            async def work() -> object:
                made.append("lazy")
                return Work(pool.mailbox("INBOX").search(q.ALL).fetch("flags"), lambda job: job.run(service.handle))

            return work()

        @jobs.job
        async def asking(pool: imapipe.Pool) -> object:
            made.append("asking")
            raise ValueError("the server knows better")

        # What may be gone when it has its turn is left to that; what is awaited is called once.
        said = [await (await jobs.start(name, "ann")).wait() for name in ("broken", "lazy", "asking")]
        assert [status.state for status in said] == ["failed", "complete", "failed"]
    assert made == ["broken", "broken", "lazy", "asking"]


@pytest.mark.asyncio
async def test_an_account_that_the_application_does_not_know_is_refused_before_a_server_is_asked(
    tmp_path: Path,
) -> None:
    async with _service(tmp_path) as service, service.life() as jobs:
        with pytest.raises(UnknownAccount, match="there is no account 'nobody'"):
            await jobs.start("scan", "nobody")
        assert (jobs.list(), service.server.counters.peak_connections) == ([], 0)
        assert list((tmp_path / "jobs").glob("*.json")) == []


@pytest.mark.asyncio
async def test_a_job_whose_pool_cannot_be_opened_now_is_kept_and_tries_it_when_it_has_its_turn(tmp_path: Path) -> None:
    async with _service(tmp_path) as service:
        asked: list[str] = []

        def open_pool(account: str) -> imapipe.Pool:
            asked.append(account)
            if len(asked) == 1:
                raise OSError("the vault is locked")
            return imapipe.create_pool(service.server.url, password=service.server.password)

        async with Pools(open_pool) as pools, JobManager(pools) as jobs:

            @jobs.job
            def scan(pool: imapipe.Pool) -> object:
                return Work(pool.mailbox("INBOX").search(q.ALL).fetch("flags"), lambda job: job.run(_nothing))

            status = await (await jobs.start("scan", "ann")).wait()
            assert (status.state, asked) == ("complete", ["ann", "ann"])


@pytest.mark.asyncio
async def test_a_restart_with_an_account_that_is_gone_fails_its_job_with_the_reason(tmp_path: Path) -> None:
    async with _service(tmp_path) as service:
        service.handle, reached = _until(3, [])
        async with service.life() as jobs:
            job = await jobs.start("scan", "ann")
            await reached.wait()
        service.known = set()
        async with service.life() as jobs:
            status = await jobs.get(job.id).wait()
            assert (status.state, status.error and status.error.type) == ("failed", "UnknownAccount")


@pytest.mark.asyncio
async def test_what_cannot_be_done_fails_with_the_reason(tmp_path: Path) -> None:
    async with _service(tmp_path) as service, service.life() as jobs:
        no_work = await (await jobs.start("wrong", "ann", {"text": "x"})).wait()
        no_mailbox = await (await jobs.start("scan", "ann", {"mailbox": "Nowhere"})).wait()
        assert [status.state for status in (no_work, no_mailbox)] == ["failed"] * 2
        assert [status.error.type for status in (no_work, no_mailbox) if status.error] == ["TypeError", "CommandNo"]
        assert service.opened == ["ann"]
        with pytest.raises(UnknownJob):
            jobs.get("nonsense")


def _until(count: int, seen: list[int]) -> tuple[Handle, asyncio.Event]:
    """A handler that stands still after so many messages."""
    reached = asyncio.Event()

    async def handle(message: imapipe.Message) -> None:
        if len(seen) >= count:
            reached.set()
            await asyncio.Event().wait()
        seen.append(message.uid)

    return handle, reached


@pytest.mark.asyncio
async def test_a_cancelled_job_saves_its_checkpoint_and_is_not_gone_on_with(tmp_path: Path) -> None:
    seen: list[int] = []
    async with _service(tmp_path) as service:
        service.handle, reached = _until(12, seen)
        async with service.life() as jobs:
            job = await jobs.start("scan", "ann")
            await reached.wait()
            assert await jobs.cancel(job.id) is job
            assert (await job.wait()).state == "cancelled"
            assert await jobs.cancel(job.id) is job
            assert (await _all(job))[-1] == ("end", {"state": "cancelled", "error": None, "report": None})
        service.handle = _nothing
        async with service.life() as jobs:
            assert [(each.id, each.state) for each in jobs.list()] == [(job.id, "cancelled")]
            again = await (await jobs.start("scan", "ann")).wait()
            assert again.progress is not None
            assert (again.progress.skipped, again.progress.done) == (12, 18)


@pytest.mark.asyncio
async def test_a_shutdown_interrupts_and_the_next_start_goes_on(tmp_path: Path) -> None:
    seen: list[int] = []
    async with _service(tmp_path) as service:
        service.handle, reached = _until(12, seen)
        async with service.life() as jobs:
            job = await jobs.start("scan", "ann")
            listening = asyncio.create_task(_all(job))
            await reached.wait()
        assert job.state == "interrupted"
        assert (await listening)[-1][1]["state"] == "interrupted"
        with pytest.raises(NotServing):
            await jobs.start("scan", "ann")

        async def handle(message: imapipe.Message) -> None:
            seen.append(message.uid)

        service.handle = handle
        async with service.life() as jobs:
            (again,) = jobs.list()
            assert again.id == job.id
            status = await again.wait()
            assert (status.state, status.attempt) == ("complete", 2)
            assert again.result is not None
            assert (again.result["skipped"], again.result["done"]) == (12, 18)
        assert sorted(seen) == list(range(1, 31))


@pytest.mark.asyncio
@pytest.mark.parametrize(("kept", "state"), [("running", "complete"), ("cancelling", "cancelled")])
async def test_what_a_killed_process_left_is_gone_on_with(tmp_path: Path, kept: str, state: str) -> None:
    async with _service(tmp_path) as service:
        service.handle, reached = _until(12, [])
        async with service.life() as jobs:
            job = await jobs.start("scan", "ann")
            await reached.wait()
            # As the disk is when the process is killed now.
            shutil.copytree(tmp_path, tmp_path / "copy", ignore=shutil.ignore_patterns("*.lock"))
        service.handle, service.folder = _nothing, tmp_path / "copy"
        (file,) = (tmp_path / "copy/jobs").iterdir()
        document = orjson.loads(file.read_bytes())
        assert document["state"] in {"waiting", "running"}
        file.write_bytes(orjson.dumps({**document, "state": kept}))
        async with service.life() as jobs:
            status = await jobs.get(job.id).wait()
            assert status.state == state
            if state == "complete":
                assert status.progress is not None
                assert status.progress.skipped + status.progress.done == 30


@pytest.mark.asyncio
async def test_without_resume_on_start_it_stays_interrupted_until_it_is_cancelled(tmp_path: Path) -> None:
    async with _service(tmp_path) as service:
        service.handle, reached = _until(0, [])
        async with service.life() as jobs:
            await jobs.start("scan", "ann")
            await reached.wait()
        async with service.life(resume_on_start=False) as jobs:
            (job,) = jobs.list()
            assert (await job.wait()).state == "interrupted"
            assert (await _all(job))[-1][0] == "end"
            await jobs.cancel(job.id)
        service.handle = _nothing
        async with service.life() as jobs:
            assert [each.state for each in jobs.list()] == ["cancelled"]


@pytest.mark.asyncio
async def test_a_job_that_is_ended_before_it_began_ends(tmp_path: Path) -> None:
    async with _service(tmp_path) as service:
        async with service.life() as jobs:
            first = await jobs.start("scan", "ann")
            await jobs.cancel(first.id)
            second = await jobs.start("scan", "ann")
        assert (first.state, second.state) == ("cancelled", "interrupted")


@pytest.mark.asyncio
async def test_jobs_wait_for_their_turn_and_too_many_are_refused(tmp_path: Path) -> None:
    async with _service(tmp_path) as service:
        service.handle, reached = _until(0, [])
        async with service.life(max_running=1, max_waiting=1) as jobs:
            await jobs.start("scan", "ann")
            await reached.wait()
            waiting = await jobs.start("scan", "ann")
            with pytest.raises(TooManyJobs, match="1 jobs wait already"):
                await jobs.start("scan", "ann")
            assert waiting.state == "waiting"


@pytest.mark.asyncio
async def test_of_those_that_ended_a_bounded_number_is_remembered(tmp_path: Path) -> None:
    async with _service(tmp_path) as service:
        async with service.life(keep_ended=2) as jobs:
            started = [await jobs.start("scan", "ann", {"limit": 1}) for _ in range(1)]
            for _ in range(3):
                await started[-1].wait()
                started.append(await jobs.start("scan", "ann"))
            await started[-1].wait()
        async with service.life(keep_ended=2) as jobs:
            assert [job.id for job in jobs.list()] == [job.id for job in (started[3], started[2])]
            assert jobs.list()[0].result is not None


@pytest.mark.asyncio
async def test_a_folder_is_one_process_s_and_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    async with _service(tmp_path) as service:
        async with service.life() as jobs:
            await (await jobs.start("scan", "ann")).wait()
            with pytest.raises(JobFolderError, match="another process has these jobs"):
                await JobManager(service.pools(), folder=tmp_path / "jobs").open()
        (file,) = (tmp_path / "jobs").glob("*.job.json")
        kept = orjson.loads(file.read_bytes())
        deep = b'{"version":1,"id":"%b","parameters":{"a":%b%b}}' % (kept["id"].encode(), b"[" * 300, b"]" * 300)
        for content, said in (
            (b'{"version": 1, "id":', "it is no JSON"),
            (b'{"version": 2}', "another version"),
            (b'{"version": 1}', "the file of another job"),
            (orjson.dumps({**kept, "id": "../../elsewhere"}), "the file of another job"),
            (orjson.dumps({**kept, "created_at": "yesterday"}), "it is not whole"),
            (orjson.dumps({**kept, "ended_at": "9" * 5000}), "it is not whole"),
            (deep, "it is not whole"),
        ):
            file.write_bytes(content)
            for _ in range(2):
                with pytest.raises(JobFolderError, match=said):
                    await JobManager(service.pools(), folder=tmp_path / "jobs").open()


@pytest.mark.asyncio
async def test_a_job_that_cannot_be_kept_is_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with _service(tmp_path) as service, service.life() as jobs:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr("imapipe.contrib.job_folder.save_file", full)
            with pytest.raises(JobFolderError, match="No space left on device"):
                await jobs.start("scan", "ann")
        assert jobs.list() == []


@pytest.mark.asyncio
async def test_a_job_whose_end_cannot_be_kept_has_ended_and_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with _service(tmp_path) as service:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        async with service.life() as jobs:
            job = await jobs.start("scan", "ann")
            with monkeypatch.context() as patched:
                patched.setattr("imapipe.contrib.job_folder.save_file", full)
                status = await job.wait()
                await asyncio.gather(*jobs._tasks.values())
            assert status.state == "complete"
            assert [job.state for job in jobs.list()] == ["complete"]
        assert f"the end of the job {job.id} could not be kept" in caplog.text
        # The next start does it again, which its checkpoint makes short.
        async with service.life() as jobs:
            again = await jobs.get(job.id).wait()
            assert again.progress is not None
            assert (again.state, again.progress.skipped, again.progress.done) == ("complete", 30, 0)


@pytest.mark.asyncio
async def test_a_manager_that_closes_while_a_job_is_being_kept_does_not_start_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _service(tmp_path) as service, service.life() as jobs:
        keep = jobs._keep
        kept, go_on = asyncio.Event(), asyncio.Event()

        async def slowly(job: ManagedJob) -> None:
            await keep(job)
            kept.set()
            await go_on.wait()

        monkeypatch.setattr(jobs, "_keep", slowly)
        starting = asyncio.create_task(jobs.start("scan", "ann"))
        await kept.wait()
        assert len(list((tmp_path / "jobs").glob("*.json"))) == 1
        await jobs.close()
        go_on.set()
        with pytest.raises(NotServing):
            await starting
        assert (jobs.list(), list((tmp_path / "jobs").glob("*.json"))) == ([], [])


@pytest.mark.asyncio
async def test_a_job_that_no_function_is_registered_for_any_more_fails_and_says_so(tmp_path: Path) -> None:
    async with _service(tmp_path) as service:
        service.handle, reached = _until(0, [])
        async with service.life() as jobs:
            job = await jobs.start("scan", "ann")
            await reached.wait()
        async with service.pools() as pools, JobManager(pools, folder=tmp_path / "jobs") as jobs:
            status = await jobs.get(job.id).wait()
        assert status.state == "failed"
        assert status.error is not None
        assert status.error.text == "there is no job 'scan' any more; register it, or cancel the job"


@pytest.mark.asyncio
async def test_the_progress_of_a_service_is_of_jobs_that_run_and_of_those_that_have_ended(tmp_path: Path) -> None:
    async with _service(tmp_path) as service, service.life(tell_every_seconds=0.01) as jobs:
        first = await jobs.start("scan", "ann", {"limit": 7})
        await first.wait()
        await asyncio.gather(*jobs._tasks.values())
        assert jobs.progress()["scan"].done == 7
        service.handle, reached = _until(5, [])
        second = await jobs.start("scan", "ann")
        await reached.wait()
        async for event in second.events():
            if event.kind == "progress":
                break
        both = jobs.progress()["scan"]
        assert (both.final, both.planned) == (False, 7 + 30)
        assert 7 <= both.done <= 7 + 5


@pytest.mark.asyncio
async def test_a_manager_is_opened_once_and_a_name_is_taken_once(tmp_path: Path) -> None:
    async with _service(tmp_path) as service, service.life() as jobs:
        with pytest.raises(RuntimeError, match="the jobs are open already"):
            await jobs.open()

        def scan(pool: imapipe.Pool) -> object:
            raise AssertionError("never called")

        with pytest.raises(ValueError, match="there is a job 'scan' already"):
            jobs.job(scan)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_running": 0}, "max_running must be 1 or more, not 0"),
        ({"max_waiting": -1}, "max_waiting must be 0 or more, not -1"),
        ({"keep_events": 0}, "keep_events must be 1 or more, not 0"),
        ({"tell_every_seconds": 0.0}, "tell_every_seconds must be above 0"),
    ],
)
def test_numbers_of_a_manager_that_make_no_sense_are_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        JobManager(Pools(lambda _: pytest.fail("nobody asked")), **wrong)  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_an_account_has_one_pool_however_many_ask(tmp_path: Path) -> None:
    async with _service(tmp_path) as service:
        pools = service.pools()
        async with pools:
            first, *others = await asyncio.gather(*(pools.get("ann") for _ in range(5)))
            assert {id(pool) for pool in others} == {id(first)}
            assert service.opened == ["ann"]
            assert list(pools.stats) == ["ann"]
            with pytest.raises(UnknownAccount):
                await pools.get("nobody")
            opening = asyncio.create_task(pools.get("bob"))
            await asyncio.sleep(0)
        with pytest.raises(NotServing):
            await opening
        with pytest.raises(NotServing):
            await pools.get("ann")


async def _until_closed(pools: Pools, *accounts: str) -> None:
    """Wait until only these have an open pool. At each turn of the loop: one may be open for hundredths of a second."""
    async with asyncio.timeout(100):
        while sorted(pools.stats) != sorted(accounts):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_a_pool_is_closed_when_nobody_has_used_it_for_long_and_opened_again(tmp_path: Path) -> None:
    async with _service(tmp_path) as service:
        async with Pools(service.open_pool, idle_seconds=0.01) as pools:
            async with pools.use("ann") as pool, pool.acquire("INBOX"):
                async with pools.use("ann") as same:
                    assert same is pool
                # Longer than it may be idle, by one who has ended: the other one goes on.
                await asyncio.sleep(0.05)
                assert list(pools.stats) == ["ann"]
            await _until_closed(pools)
            with pytest.raises(imapipe.PoolClosed):
                async with pool.acquire("INBOX"):
                    pass
            async with pools.use("ann") as another:
                assert another is not pool
                async with another.acquire("INBOX"):
                    pass
        assert service.opened == ["ann", "ann"]
        assert service.server.counters.open_connections == 0


@pytest.mark.asyncio
async def test_a_pool_that_was_given_for_good_or_is_never_idle_stays_open(tmp_path: Path) -> None:
    async with _service(tmp_path) as service, Pools(service.open_pool, idle_seconds=0.01) as pools:
        kept = await pools.get("ann")
        async with pools.use("bob"):
            pass
        await _until_closed(pools, "ann")
        assert await pools.get("ann") is kept
        # Of one whom nobody waits for any more the pool is opened, and closed again.
        waiting = asyncio.create_task(pools.get("bob"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await _until_closed(pools, "ann", "bob")
        await _until_closed(pools, "ann")
    async with Pools(service.open_pool, idle_seconds=None) as pools:
        async with pools.use("bob"):
            pass
        await asyncio.sleep(0.05)
        assert list(pools.stats) == ["bob"]


@pytest.mark.asyncio
async def test_jobs_and_messages_keep_their_pool_open_for_as_long_as_they_take(tmp_path: Path) -> None:
    async with _service(tmp_path) as service, Pools(service.open_pool, idle_seconds=0) as pools:
        gate = asyncio.Event()

        async def hold(message: imapipe.Message) -> None:
            await gate.wait()

        async with JobManager(pools) as jobs:

            @jobs.job
            def held(pool: imapipe.Pool) -> object:
                return Work(pool.mailbox("INBOX").search(q.ALL).fetch("flags"), lambda job: job.run(hold))

            job = await jobs.start("held", "ann")
            core = ServiceCore(jobs)
            lines = await core.messages("bob", "INBOX")
            await asyncio.sleep(0.05)
            assert sorted(pools.stats) == ["ann", "bob"]
            assert len([line async for line in lines]) > 0
            await core.close_messages(lines)
            gate.set()
            assert (await job.wait()).state == "complete"
            await _until_closed(pools)


@pytest.mark.parametrize("idle_seconds", [-1, True, "long"])
def test_how_long_a_pool_may_be_idle_is_a_number(idle_seconds: float) -> None:
    with pytest.raises((TypeError, ValueError), match="idle_seconds"):
        Pools(lambda account: imapipe.create_pool("imap://ann@127.0.0.1"), idle_seconds=idle_seconds)
