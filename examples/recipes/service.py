"""A FastAPI service: start a job over HTTP, and watch its progress. Run it with `uvicorn service:app`."""

import os

from fastapi import FastAPI

import imapipe
from imapipe import search as q
from imapipe.contrib.fastapi import Service
from imapipe.contrib.jobs import JobManager, Pools, Work

URL, PASSWORD = os.environ["IMAPIPE_URL"], os.environ["IMAPIPE_PASSWORD"]


def open_pool(account: str) -> imapipe.Pool:
    """Where the account is; a real service looks into its database."""
    return imapipe.create_pool(URL, password=PASSWORD)


async def handle(message: imapipe.Message) -> None:
    """What the service is for."""


jobs = JobManager(Pools(open_pool), folder="jobs")


@jobs.job
def texts(pool: imapipe.Pool, mailbox: str = "INBOX") -> Work[imapipe.Pipeline]:
    """Put the text of every message into the search engine."""
    job = pool.mailbox(mailbox).search(q.ALL).fetch("text").use(imapipe.Checkpoint("service.json"), imapipe.Retry())
    return Work(job, lambda job: job.run(handle, concurrency=32))


service = Service(jobs)
app = FastAPI(lifespan=service.lifespan)
app.include_router(service.router(), prefix="/mail")
