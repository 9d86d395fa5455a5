"""`JobManager`: jobs that outlive the request that started them, framework-free.

::

    pools = Pools(open_pool)
    jobs = JobManager(pools, folder="jobs")

    @jobs.job
    def export(pool, mailbox: str = "INBOX"):
        pipeline = pool.mailbox(mailbox).search(q.ALL).fetch("full").use(Checkpoint("export.json"), Retry())
        return Work(pipeline, lambda job: job.run(sinks.Maildir("mail/")))

    async with pools, jobs:
        job = await jobs.start("export", "ann")
        async for event in job.events():
            print(event.kind, event.data)

See `JobManager` for what is promised.
"""

from __future__ import annotations

from imapipe.contrib.errors import (
    JobFolderError,
    JobNotEnded,
    NotServing,
    ServiceError,
    TooManyJobs,
    UnknownAccount,
    UnknownJob,
    WrongParameters,
)
from imapipe.contrib.job import Job, JobError, JobState, JobStatus, Report, Usable, Work
from imapipe.contrib.job_events import JobEvent, Subscription
from imapipe.contrib.job_function import JobFunction
from imapipe.contrib.job_manager import JobManager
from imapipe.contrib.pools import OpenPool, Pools

__all__ = [
    "Job",
    "JobError",
    "JobEvent",
    "JobFolderError",
    "JobFunction",
    "JobManager",
    "JobNotEnded",
    "JobState",
    "JobStatus",
    "NotServing",
    "OpenPool",
    "Pools",
    "Report",
    "ServiceError",
    "Subscription",
    "TooManyJobs",
    "UnknownAccount",
    "UnknownJob",
    "Usable",
    "Work",
    "WrongParameters",
]
