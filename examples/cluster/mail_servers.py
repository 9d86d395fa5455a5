"""The mail servers of the example: a process with a server for each account, which count what they see.

    python mail_servers.py ACCOUNTS MESSAGES [--connection-bytes-per-second N] [--latency-ms N]

The first line that it prints is a JSON object with the URL of each account. When its standard input ends, it prints a
second one, what was `Seen` of each account, and ends.

Nothing here refuses a connection or a message: what is too much is to be counted, not prevented.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from dataclasses import asdict, dataclass
from typing import Final

from imapipe.testing import Server
from population import PASSWORD, Account, population

_LOOK_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Seen:
    """What a server saw of its clients.

    Attributes:
        connections: How many connections there were.
        peak_connections: How many of them were open at once, at most.
        fetched: How many messages were sent, repeats included.
        seconds: From the first FETCH to the last.
        above_rate: Messages that came above the account's rate, at most: the level of a bucket which each message fills
            by one and which leaks at the rate.
        largest_batch: Messages of the largest FETCH.
        stall_seconds: How long the process of the servers stood still at most: so long what clients sent one after the
            other came at once.
    """

    connections: int
    peak_connections: int
    fetched: int
    seconds: float
    above_rate: float
    largest_batch: int
    stall_seconds: float = 0.0


def look(server: Server, account: Account, stall_seconds: float = 0.0) -> Seen:
    """What a server saw."""
    level = peak = 0.0
    largest = 0
    fetches = [record for record in server.commands.named("UID FETCH") if record.messages]
    before = fetches[0].received_at if fetches else 0.0
    last = before
    for record in fetches:
        if account.messages_per_second is not None:
            level = max(0.0, level - (record.received_at - last) * account.messages_per_second) + record.messages
        last = record.received_at
        peak = max(peak, level)
        largest = max(largest, record.messages)
    counters = server.counters
    return Seen(
        connections=counters.connections,
        peak_connections=counters.peak_connections,
        fetched=counters.messages_fetched,
        seconds=last - before,
        above_rate=round(peak, 1),
        largest_batch=largest,
        stall_seconds=round(stall_seconds, 3),
    )


class Stalls:
    """Looks how long the event loop stands still, as on a machine that has other things to do.

    Attributes:
        longest: The longest time so far.
    """

    def __init__(self) -> None:
        self.longest = 0.0

    async def look(self) -> None:
        """Look for ever."""
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            await asyncio.sleep(_LOOK_SECONDS)
            self.longest = max(self.longest, clock() - began - _LOOK_SECONDS)


async def serve(accounts: list[Account], connection_bytes_per_second: float | None, latency_seconds: float) -> None:
    """Serve all accounts until standard input ends."""
    async with contextlib.AsyncExitStack() as stack:
        servers = {
            account.name: await stack.enter_async_context(
                Server(
                    {name: account.mailbox(name) for name in account.mailboxes},
                    user=account.name,
                    password=PASSWORD,
                    bandwidth_bytes_per_second=connection_bytes_per_second,
                    latency_seconds=latency_seconds,
                )
            )
            for account in accounts
        }
        print(json.dumps({name: server.url for name, server in servers.items()}), flush=True)
        stalls = Stalls()
        looking = asyncio.create_task(stalls.look())
        await asyncio.to_thread(sys.stdin.read)
        looking.cancel()
        seen = {account.name: asdict(look(servers[account.name], account, stalls.longest)) for account in accounts}
        print(json.dumps(seen), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("accounts", type=int)
    parser.add_argument("messages", type=int, help="of each account, on average")
    parser.add_argument("--connection-bytes-per-second", type=float, help="no connection gets more than that")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    options = parser.parse_args()
    accounts = population(options.accounts, options.messages)
    asyncio.run(serve(accounts, options.connection_bytes_per_second, options.latency_ms / 1000))


if __name__ == "__main__":
    main()
