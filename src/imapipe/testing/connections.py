"""The server's side of its port: accepts connections, runs a session on each, ends them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping

from .faults import CutConnection, RefuseConnection
from .host import Host
from .link import Link, OutputLimit
from .pace import Pacer
from .records import CommandRecord
from .session import Entry, Session

HOST = "127.0.0.1"


class Connections:
    """All connections of a server.

    Attributes:
        port: Where it listens, or listened last; 0 before.
    """

    def __init__(self, host: Host, commands: Mapping[str, Entry]) -> None:
        self.port = 0
        self._host = host
        self._commands = commands
        self._numbers = itertools.count(1)
        self._sessions: dict[asyncio.Task[None], Session] = {}
        self._links: set[Link] = set()
        self._listening: asyncio.Server | None = None
        line = host.line_bytes_per_second
        self._line = None if line is None else Pacer(line)

    @property
    def sessions(self) -> list[Session]:
        """Sessions that are open now, in order of their numbers."""
        return sorted(self._sessions.values(), key=lambda session: session.number)

    def release_stalls(self) -> None:
        """Let every stalled connection go on."""
        for link in self._links:
            link.release_stall()

    def disconnect_all(self, *, reset: bool) -> int:
        """End every connection at once; returns how many."""
        links = list(self._links)
        for link in links:
            link.cut = "reset" if reset else "close"
            link.close(reset=reset)
        return len(links)

    async def open_port(self) -> None:
        """Listen, on the same port as before if there was one."""
        if self._listening is not None:
            return
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(
            lambda: Link(self._host.counters, self._on_open, self._pacers(), self._host.tls is not None),
            HOST,
            self.port,
            ssl=self._host.tls,
            backlog=512,
        )
        self.port = self._listening.sockets[0].getsockname()[1]

    async def close_port(self) -> None:
        """Listen no more; the sessions go on."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
            # The socket is closed in the next turn of the loop.
            await asyncio.sleep(0)

    async def stop(self) -> None:
        """Stop listening and end every session; harmless when stopped."""
        await self.close_port()
        tasks = list(self._sessions)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        links = list(self._links)
        for link in links:
            link.abort()
        await asyncio.gather(*(link.closed for link in links))
        # Transports that were given up during a handshake close their sockets in the next turn of the loop.
        await asyncio.sleep(0)

    def _pacers(self) -> list[Pacer]:
        own = self._host.bandwidth_bytes_per_second
        pacers = [] if own is None else [Pacer(own)]
        return pacers if self._line is None else [*pacers, self._line]

    def _on_open(self, link: Link) -> None:
        host, counters = self._host, self._host.counters
        number = next(self._numbers)
        counters.connections += 1
        counters.open_connections += 1
        counters.peak_connections = max(counters.peak_connections, counters.open_connections)
        self._links.add(link)
        link.closed.add_done_callback(lambda _: self._on_closed(link))
        session = Session(host, link, number, self._commands)
        refusal: bytes | None = None
        for fault in host.faults.of_connection(CommandRecord(number, "", "", "", host.clock())):
            if isinstance(fault, RefuseConnection):
                counters.refused_connections += 1
                refusal = fault.greeting
                if not refusal:
                    link.close(reset=fault.kind == "reset")
                    return
            elif isinstance(fault, CutConnection):
                link.limits.append(OutputLimit(fault.choose_bytes(), fault.kind))
        task = asyncio.get_running_loop().create_task(session.run(refusal), name=f"imapipe.testing session {number}")
        self._sessions[task] = session
        task.add_done_callback(self._on_session_end)

    def _on_session_end(self, task: asyncio.Task[None]) -> None:
        del self._sessions[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a session of imapipe.testing failed", "exception": error, "task": task}
            )

    def _on_closed(self, link: Link) -> None:
        self._links.discard(link)
        self._host.counters.open_connections -= 1
