"""The manager of jobs: starts them, keeps them, tells of them, ends them, goes on with them.

Invariants:

- A job that `start` has returned is kept: it is there after a crash, and unless it has ended the next start of the
  service goes on with it (`resume_on_start`).
- `close` ends every job as a cancellation does, so that its checkpoint is saved; such a job is "interrupted", which is
  no end but until the next start.
- Whoever waits for a job, or listens to it, may go at any time; nothing of the job changes.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self, TypeVar

import orjson

from imapipe.contrib.errors import (
    JobFolderError,
    NotServing,
    TooManyJobs,
    UnknownJob,
    WrongParameters,
)
from imapipe.contrib.job import Job, JobState, Report, moment
from imapipe.contrib.job_events import CAPACITY, EventRing
from imapipe.contrib.job_folder import JobFolder
from imapipe.contrib.job_function import JobFunction
from imapipe.contrib.job_watch import total
from imapipe.contrib.managed_job import ManagedJob
from imapipe.contrib.pools import Pools
from imapipe.middleware.progress import ProgressSnapshot
from imapipe.models.argument import check_number, check_whole
from imapipe.models.json_value import JSON
from imapipe.runtime.completion import to_the_end
from imapipe.runtime.defect import tell_defect

DEFAULT_MAX_RUNNING: Final = 100
DEFAULT_MAX_WAITING: Final = 1000
DEFAULT_KEEP_ENDED: Final = 100
DEFAULT_TELL_SECONDS: Final = 0.5

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])


class JobManager:
    """Starts jobs, keeps them, tells of them, ends them; an async context manager.

    Args:
        pools: The pools of the accounts. They are used, not closed.
        folder: Where jobs are kept between two runs of the service, a small file for each; without one they end with
            the process.
        resume_on_start: Go on, at the start, with jobs that a shutdown or a crash ended.
        max_running: How many jobs run at a time; others wait for their turn.
        max_waiting: How many may wait.
        keep_ended: How many jobs that have ended are remembered, with their result.
        tell_every_seconds: How often the events of a job tell of what is new.
        keep_events: How many events of each job are kept, for whoever comes later or is slow.
    """

    def __init__(
        self,
        pools: Pools,
        *,
        folder: str | os.PathLike[str] | None = None,
        resume_on_start: bool = True,
        max_running: int = DEFAULT_MAX_RUNNING,
        max_waiting: int = DEFAULT_MAX_WAITING,
        keep_ended: int = DEFAULT_KEEP_ENDED,
        tell_every_seconds: float = DEFAULT_TELL_SECONDS,
        keep_events: int = CAPACITY,
    ) -> None:
        for argument, value, least in (
            ("max_running", max_running, 1),
            ("max_waiting", max_waiting, 0),
            ("keep_ended", keep_ended, 0),
            ("keep_events", keep_events, 1),
        ):
            check_whole(argument, value)
            if value < least:
                raise ValueError(f"{argument} must be {least} or more, not {value}")
        check_number("tell_every_seconds", tell_every_seconds)
        if tell_every_seconds <= 0:
            raise ValueError("tell_every_seconds must be above 0")
        self.pools = pools
        self._folder = None if folder is None else JobFolder(folder)
        self._resume_on_start = resume_on_start
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._keep_ended = keep_ended
        self._tell_every_seconds = tell_every_seconds
        self._keep_events = keep_events
        self._functions: dict[str, JobFunction] = {}
        self._jobs: dict[str, ManagedJob] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._saving: set[asyncio.Future[None]] = set()
        # What a task that is cancelled ends as.
        self._stopped: dict[str, JobState] = {}
        self._turns = asyncio.Semaphore(max_running)
        self._is_open = False
        self._closing: asyncio.Task[None] | None = None
        # By name, of the jobs that have ended in this process.
        self._over: dict[str, ProgressSnapshot] = {}

    def job(self, function: FunctionT) -> FunctionT:
        """Register a kind of job, by the name of a function, which is given back as it is.

        The function gets the pool of the account and, as keyword arguments, the parameters; it gives a `Work`, or is a
        coroutine function that does. It is called when the job has its turn, and again after each restart; one that is
        no coroutine function also when the job is asked for, so that a value that it refuses with a ValueError or a
        TypeError is a `WrongParameters` then. So it says what is to be done, and does nothing itself.

        Raises:
            ValueError: There is one of this name.
        """
        made = JobFunction(function)
        if made.name in self._functions:
            raise ValueError(f"there is a job {made.name!r} already")
        self._functions[made.name] = made
        return function

    @property
    def functions(self) -> Mapping[str, JobFunction]:
        """The kinds of jobs, by name."""
        return dict(self._functions)

    @property
    def is_open(self) -> bool:
        """Whether jobs are taken."""
        return self._is_open

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Begin: remember what is kept, and go on with it.

        Raises:
            JobFolderError: It is another process's, or cannot be read.
        """
        if self._is_open:
            raise RuntimeError("the jobs are open already")
        recalled = [] if self._folder is None else await self._recall(self._folder)
        self._jobs = {}
        self._stopped = {}
        self._turns = asyncio.Semaphore(self._max_running)
        self._is_open = True
        for job in recalled:
            self._jobs[job.id] = job
            if job.state == "interrupted" and self._resume_on_start:
                self._begin(job)
            elif job.state == "interrupted":
                await job.end("interrupted")

    async def close(self) -> None:
        """End: every job under way is interrupted, its checkpoint saved, and kept for the next start.

        A cancellation is raised when all have ended.
        """
        if self._is_open:
            self._is_open = False
            self._closing = asyncio.create_task(self._close(), name="imapipe jobs end")
        if self._closing is not None:
            await to_the_end(self._closing)

    async def start(self, name: str, account: str, parameters: Mapping[str, JSON] | None = None) -> Job:
        """Start a job; it runs, or waits for its turn, when this returns, and is kept.

        Args:
            name: The name that it is registered by.
            account: The account that it is for, as the pools know it.
            parameters: What its function is called with.

        Raises:
            WrongParameters: No job is registered by this name, or it does not take these parameters.
            UnknownAccount: The application does not know the account; no server is asked.
            TooManyJobs: Too many wait already.
            NotServing: The manager is not open.
            JobFolderError: It could not be kept; it is not started.

        Cancelled, it is not started.
        """
        if not self._is_open:
            raise NotServing
        function = self._functions.get(name)
        if function is None:
            known = ", ".join(sorted(self._functions)) or "none"
            raise WrongParameters(f"there is no job {name!r:.200}; there are: {known}")
        given = dict(parameters or {})
        function.check(given)
        await self.pools.check(account, lambda pool: function.refuse(pool, given))
        waiting = sum(job.state == "waiting" for job in self._jobs.values())
        if waiting >= self._max_waiting and self._turns.locked():
            raise TooManyJobs(waiting)
        now = datetime.now(UTC)
        job_id = f"{now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"
        job = self._jobs[job_id] = self._made(job_id, name, account, given, now)
        try:
            await self._keep(job)
            if not self._is_open:
                raise NotServing
        except BaseException:
            # Not started, and so not there; where it is kept already, it is not any more.
            self._jobs.pop(job_id, None)
            await self._keep(job)
            raise
        self._begin(job)
        return job

    def list(self, *, state: JobState | None = None, account: str | None = None) -> Sequence[Job]:
        """The jobs that are known, the newest first.

        Args:
            state: Only those in this state.
            account: Only those of this account.
        """
        return [
            job
            for job in reversed(self._jobs.values())
            if (state is None or job.state == state) and (account is None or job.account == account)
        ]

    def get(self, job_id: str) -> Job:
        """A job by its id. Raises UnknownJob."""
        return self._known(job_id)

    def progress(self) -> Mapping[str, ProgressSnapshot]:
        """What jobs of this process did, by the name of the job: those that have ended and those that run together."""
        of_name: dict[str, list[ProgressSnapshot]] = {name: [progress] for name, progress in self._over.items()}
        for job in self._jobs.values():
            if not job.is_ended and (progress := job.progress) is not None:
                of_name.setdefault(job.name, []).append(progress)
        return {name: total(each, "", 0.0, is_final=False) for name, each in of_name.items()}

    async def cancel(self, job_id: str) -> Job:
        """Have a job end; its checkpoint is saved, and no restart goes on with it. `Job.wait` waits for its end.

        One that has ended stays as it is; one that was interrupted is cancelled.

        Raises:
            UnknownJob: There is no such job.
            JobFolderError: That it is cancelled could not be kept: it ends, and a restart would go on with it.
        """
        job = self._known(job_id)
        if job.state == "interrupted":
            job.give_up()
        elif job.is_ended or job_id in self._stopped:
            return job
        else:
            job.change("cancelling")
            self._stop(job_id, "cancelled")
        await self._keep(job)
        return job

    def _known(self, job_id: str) -> ManagedJob:
        job = self._jobs.get(job_id)
        if job is None:
            raise UnknownJob(job_id)
        return job

    def _made(
        self, job_id: str, name: str, account: str, parameters: Mapping[str, JSON], created_at: datetime
    ) -> ManagedJob:
        return ManagedJob(
            job_id,
            name,
            account,
            parameters,
            created_at=created_at,
            ring=EventRing(self._keep_events),
            every_seconds=self._tell_every_seconds,
        )

    async def _recall(self, folder: JobFolder) -> Sequence[ManagedJob]:
        jobs: list[ManagedJob] = []
        for document in await to_the_end(asyncio.to_thread(folder.take)):
            try:
                jobs.append(self._recalled(document))
                # So that it can be kept again, and told.
                orjson.dumps(jobs[-1].kept())
            except (TypeError, ValueError) as error:
                folder.release()
                raise folder.unreadable(str(document["id"]), error) from error
        return jobs

    def _recalled(self, document: Mapping[str, JSON]) -> ManagedJob:
        parameters = document.get("parameters")
        job = self._made(
            str(document.get("id")),
            str(document.get("name")),
            str(document.get("account")),
            parameters if isinstance(parameters, dict) else {},
            moment(document.get("created_at")) or datetime.now(UTC),
        )
        job.recall(document)
        return job

    def _begin(self, job: ManagedJob) -> None:
        job.change("waiting")
        task = asyncio.create_task(self._run(job), name=f"imapipe job {job.id}")
        self._tasks[job.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(job.id, None))

    async def _run(self, job: ManagedJob) -> None:
        report: Report | None = None
        error: Exception | None = None
        state: JobState
        try:
            async with self._turns:
                job.begin()
                report = await self._do(job)
                state = "complete" if report.complete else "partial"
        except asyncio.CancelledError:
            task = asyncio.current_task()
            # Of `cancel` or `close`, or whoever owns the loop ends it; else a handler raised it.
            is_ours = task is not None and task.cancelling()
            state = self._stopped.get(job.id, "interrupted") if is_ours else "failed"
        except Exception as raised:  # noqa: BLE001 - whatever a job raises is its end, and is told as such.
            state, error = self._stopped.get(job.id, "failed"), raised
        await to_the_end(self._ended(job, state, error, report))

    async def _do(self, job: ManagedJob) -> Report:
        function = self._functions.get(job.name)
        if function is None:
            raise WrongParameters(f"there is no job {job.name!r} any more; register it, or cancel the job")
        async with self.pools.use(job.account) as pool:
            work = await function.work(pool, job.parameters)
            return await work.do(job.layers)

    async def _ended(self, job: ManagedJob, state: JobState, error: Exception | None, report: Report | None) -> None:
        await job.end(state, error=error, report=report)
        if (progress := job.progress) is not None:
            over = self._over.get(job.name)
            both = [progress] if over is None else [over, progress]
            self._over[job.name] = total(both, "", 0.0, is_final=True)
        try:
            await self._keep(job)
        except JobFolderError as defect:
            # Known to whoever asks as long as we live; a restart would do it again, which its checkpoint makes short.
            tell_defect(f"the end of the job {job.id} could not be kept", defect)
        ended = [each for each in self._jobs.values() if each.is_ended and each.state != "interrupted"]
        for old in ended[: max(0, len(ended) - self._keep_ended)]:
            del self._jobs[old.id]
            self._stopped.pop(old.id, None)
            await self._keep(old)

    async def _keep(self, job: ManagedJob) -> None:
        """Make the folder have what is known of a job now: how it stands, or nothing where it is forgotten."""
        if self._folder is None:
            return
        saving = asyncio.ensure_future(self._save(self._folder, job))
        self._saving.add(saving)
        saving.add_done_callback(self._saving.discard)
        await to_the_end(saving)

    async def _save(self, folder: JobFolder, job: ManagedJob) -> None:
        # One after the other, and each with what is known when it has its turn: the last one is the newest.
        async with job.saving:
            if job.id in self._jobs:
                await asyncio.to_thread(folder.save, job.id, job.kept())
            else:
                await asyncio.to_thread(folder.forget, job.id)

    def _stop(self, job_id: str, state: JobState) -> None:
        """Cancel the task of a job, once."""
        task = self._tasks.get(job_id)
        if task is not None and job_id not in self._stopped:
            self._stopped[job_id] = state
            # Not at once: a task that has not begun would never get to where it tells of its end.
            asyncio.get_running_loop().call_soon(task.cancel)

    async def _close(self) -> None:
        for job_id in tuple(self._tasks):
            self._stop(job_id, "interrupted")
        while under_way := {*self._tasks.values(), *self._saving}:
            await asyncio.wait(under_way)
        if self._folder is not None:
            await asyncio.to_thread(self._folder.release)
