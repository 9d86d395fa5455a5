"""A process of its own that holds connections of an account, or works on it; told what to do by lines, and telling.

`python -m tests.cluster.slot_worker URL DSN MAXIMUM LEASE_SECONDS HOST`; the lines are:

    hold N      take so many connections, one after the other                -> held N
    noop        use each of them                                             -> ok | lost REASON
    release     give them back                                               -> released
    work        read the mailbox                                             -> done N
    work R      read it at so many messages a second, all processes together -> done N
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack

from imapipe import Pool, Retry, create_pool
from imapipe import search as q
from imapipe.cluster import Limits, process
from imapipe.connection import Connection
from imapipe.errors import ImapipeError
from imapipe.middleware import Middleware


async def serve(url: str, dsn: str, maximum: int, lease_seconds: float) -> None:
    loop = asyncio.get_running_loop()
    async with (
        Limits(dsn, lease_seconds=lease_seconds, poll_seconds=0.02) as limits,
        create_pool(url, password="secret", max_size=4, acquire_timeout_seconds=60.0) as pool,
        AsyncExitStack() as leases,
    ):
        limits.connections(pool, maximum)
        held: list[Connection] = []
        tell("ready")
        while line := (await loop.run_in_executor(None, sys.stdin.readline)).split():
            match line:
                case ["hold", count]:
                    held += [await leases.enter_async_context(pool.acquire()) for _ in range(int(count))]
                    tell("held", count)
                case ["noop"]:
                    tell(await use(held))
                case ["release"]:
                    held.clear()
                    await leases.aclose()
                    tell("released")
                case ["work"]:
                    tell("done", await work(pool))
                case ["work", rate]:
                    tell("done", await work(pool, limits.rate(messages_per_second=float(rate))))


def tell(*words: object) -> None:
    sys.stdout.write(f"{' '.join(map(str, words))}\n")
    sys.stdout.flush()


async def use(held: list[Connection]) -> str:
    try:
        for connection in held:
            await connection.noop()
    except ImapipeError as error:
        return f"lost {error}"
    return "ok"


async def work(pool: Pool, *middleware: Middleware) -> int:
    async def handle(_: object) -> None:
        await asyncio.sleep(0.001)

    report = await pool.mailbox("INBOX").search(q.ALL).batch(10).fetch("flags").use(Retry(), *middleware).run(handle)
    return report.done


if __name__ == "__main__":
    if sys.argv[5]:
        process._host = lambda: sys.argv[5]
    asyncio.run(serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
    # The thread that reads has nothing to end for.
    os._exit(0)
