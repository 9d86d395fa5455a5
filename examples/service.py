"""What `fastapi_service.py` and `aiohttp_service.py` stand on: arguments, a mail server of their own, the jobs.

Nothing here is about a web framework; read one of those two first.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import imapipe
from imapipe import search as q
from imapipe import sinks
from imapipe.contrib.jobs import JobManager, Pools, Work
from imapipe.testing import Fault, PoisonUids, Server, SyntheticMailbox, Throttle

PAGE: Final = Path(__file__).with_name("service.html")
# Each has something to see: nothing wrong; messages that the server fails at; a server that asks for less.
_TROUBLE: Final[Mapping[str, tuple[Sequence[Fault], Throttle | None]]] = {
    "ann": ((), None),
    "bob": ((PoisonUids(range(401, 20_000, 977)),), None),
    "cleo": ((), Throttle(messages_per_second=600, style="exchange", backoff_milliseconds=1500)),
}


@dataclass(frozen=True)
class Settings:
    """How a service is to run.

    Attributes:
        port: The port on loopback; 0 is one that is free.
        folder: Where jobs, checkpoints and what they write are kept.
        open_pool: Makes the pool of an account.
    """

    port: int
    folder: Path
    open_pool: Callable[[str], imapipe.Pool]

    def listen(self) -> socket.socket:
        """The socket to serve on; says where it is."""
        try:
            listening = socket.create_server(("127.0.0.1", self.port))
        except OSError as error:
            sys.exit(f"port {self.port}: {os.strerror(error.errno or 0)}; name another with --port")
        print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
        return listening


def make_jobs(settings: Settings) -> JobManager:
    """The jobs of the service."""
    jobs = JobManager(Pools(settings.open_pool), folder=settings.folder / "jobs")

    def careful(job: imapipe.Pipeline, name: str, per_second: int) -> imapipe.Pipeline:
        """What every job should have: a checkpoint, tries, a limit."""
        checkpoint = imapipe.Checkpoint(settings.folder / "checkpoints.json", name=name)
        return job.use(checkpoint, imapipe.Retry(), imapipe.RateLimit(messages_per_second=per_second))

    @jobs.job
    def export(pool: imapipe.Pool, mailbox: str = "INBOX", per_second: int = 1000) -> object:
        """Every envelope into a file of JSON lines."""
        job = pool.mailbox(mailbox).search(q.ALL).fetch("envelope").batch(100)
        sink = sinks.JsonLines(settings.folder / f"{pool.account.replace(':', '-')}.jsonl")
        return Work(careful(job, "export", per_second), lambda job: job.run(sink))

    @jobs.job
    def classify(pool: imapipe.Pool, mailbox: str = "INBOX", per_second: int = 300) -> object:
        """Each message through a handler that some are too much for."""
        job = pool.mailbox(mailbox).search(q.ALL).fetch("envelope").batch(50)

        async def handle(message: imapipe.Message) -> None:
            await asyncio.sleep(0.01)
            if message.uid % 211 == 0:
                raise ValueError("no class fits")

        return Work(careful(job, "classify", per_second), lambda job: job.run(handle, concurrency=16))

    return jobs


@asynccontextmanager
async def settings_of(description: str) -> AsyncIterator[Settings]:
    """Read the arguments, and have a mail server of our own unless somebody else's is named."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000, help="where to serve, on loopback; 0 is any that is free")
    parser.add_argument("--folder", type=Path, help="where jobs are kept; without one they are forgotten")
    parser.add_argument("--messages", type=int, default=20_000, help="messages in each account of the mail server")
    parser.add_argument("--url", help="imap(s)://user@host of a real account; its password is IMAPIPE_PASSWORD")
    options = parser.parse_args()
    if options.url and "IMAPIPE_PASSWORD" not in os.environ:
        parser.error("set IMAPIPE_PASSWORD")
    async with AsyncExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(TemporaryDirectory(prefix="imapipe-")))
        if options.url:
            open_pool = _pools_of(options.url)
        else:
            open_pool = await stack.enter_async_context(_servers(options.messages))
        yield Settings(options.port, folder, open_pool)


def _pools_of(url: str) -> Callable[[str], imapipe.Pool]:
    def open_pool(account: str) -> imapipe.Pool:
        if account != "ann":
            raise LookupError(account)
        return imapipe.create_pool(url, password=os.environ["IMAPIPE_PASSWORD"])

    return open_pool


@asynccontextmanager
async def _servers(messages: int) -> AsyncIterator[Callable[[str], imapipe.Pool]]:
    """A mail server for each account."""
    async with AsyncExitStack() as stack:
        servers = {
            name: await stack.enter_async_context(
                Server(SyntheticMailbox(messages, size=2000), latency_seconds=0.005, faults=faults, throttle=throttle)
            )
            for name, (faults, throttle) in _TROUBLE.items()
        }

        def open_pool(account: str) -> imapipe.Pool:
            server = servers[account]

            async def dial(host: str, port: int) -> socket.socket:
                connected = socket.socket()
                connected.setblocking(False)
                await asyncio.get_running_loop().sock_connect(connected, (server.host, server.port))
                return connected

            # Its port is another one each time; under this name its checkpoints are found again after a restart.
            return imapipe.create_pool(
                f"imap://{server.user}@{account}.demo.invalid",
                password=server.password,
                allow_plaintext=True,
                open_socket=dial,
            )

        yield open_pool
