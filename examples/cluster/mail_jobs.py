"""The jobs of the example: what a user of a cluster writes. `imapipe worker --jobs mail_jobs` does them.

The job reads every message and writes a line for each into a file: account, mailbox, UID, a digest of its bytes. A
real one would put the message into a search engine.

The environment says where things are: `IMAPIPE_DATABASE`; `CLUSTER_ACCOUNTS`, a JSON file with the accounts;
`CLUSTER_FOLDER`, where the lines go; `CLUSTER_LEASE_SECONDS`.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Final, TypedDict

import imapipe
from imapipe import search as q
from imapipe.contrib.cluster import Cluster, Pace
from imapipe.contrib.jobs import Work
from population import PASSWORD, digest

CONCURRENCY: Final = 8
SAVE_EVERY_MESSAGES: Final = 500
BATCH: Final = 25
LEASE_SECONDS: Final = float(os.environ.get("CLUSTER_LEASE_SECONDS", "30"))


class Told(TypedDict):
    """What the file of accounts says of one."""

    url: str
    connections: int
    messages_per_second: float | None


@functools.cache
def accounts() -> dict[str, Told]:
    """The accounts, by name."""
    told: dict[str, Told] = json.loads(Path(os.environ["CLUSTER_ACCOUNTS"]).read_text(encoding="utf-8"))
    return told


def open_pool(account: str) -> imapipe.Pool:
    """The pool of an account, with what its server allows to all workers; a KeyError says that there is no such one."""
    told = accounts()[account]
    return imapipe.create_pool(told["url"], password=PASSWORD, max_size=told["connections"])


# So that whoever looks at the sessions of the database sees whose they are.
DATABASE: Final = f"{os.environ['IMAPIPE_DATABASE']}?application_name=mail-jobs-{os.getpid()}"

cluster = Cluster(
    DATABASE,
    open_pool,
    lease_seconds=LEASE_SECONDS,
    pace=Pace(heartbeat_seconds=LEASE_SECONDS / 3, stale_seconds=LEASE_SECONDS, sweep_seconds=LEASE_SECONDS / 3),
)


@functools.cache
def lines() -> int:
    """The file of this process, to which a line is appended at once."""
    path = Path(os.environ["CLUSTER_FOLDER"]) / f"handled-{os.getpid()}.lines"
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


@functools.cache
def rate_of(account: str) -> imapipe.RateLimit:
    """The rate of an account: one for all of its mailboxes here, and by the database for all workers."""
    return cluster.limits.rate(messages_per_second=accounts()[account]["messages_per_second"])


@cluster.job
def read(pool: imapipe.Pool, mailbox: str) -> object:
    """Every message, whole."""
    name = pool.account.partition("@")[0]

    async def handle(message: imapipe.Message) -> None:
        os.write(lines(), f"{name} {mailbox} {message.uid} {digest(message.body)}\n".encode())

    # Small batches, one on each connection at a time: these servers are slow, and rates are looked at closely.
    job = pool.mailbox(mailbox).search(q.ALL).fetch("full").batch(BATCH).depth(1).use(imapipe.Retry())
    if accounts()[name]["messages_per_second"] is not None:
        job = job.use(rate_of(name))
    return Work(job, lambda job: job.run(handle, concurrency=CONCURRENCY))


def _block(number: int, frame: FrameType | None) -> None:
    """Block the event loop, as a handler does that computes for too long."""
    time.sleep(float(os.environ["CLUSTER_BLOCK_SECONDS"]))


# For the troubles of `run.py`.
if "CLUSTER_BLOCK_SECONDS" in os.environ:
    signal.signal(signal.SIGUSR1, _block)
