"""The ceiling: the same commands on a raw socket, their answers received and thrown away.

It logs in, examines, searches, and asks for all messages with one command; with the option `depth` it asks in
batches of `job.batch`, that many commands in flight. Nothing is parsed: a blocking `recv_into` fills one large buffer
again and again, and only the tagged reply is looked for, at the end of what has come (with `depth`, anywhere in it).
What a client of this server needs beyond this is the client's own doing.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections import deque
from typing import Final

from benchmarks.job import Job, batches
from benchmarks.meter import Meter
from benchmarks.tally import Tally

VERSION: Final = sys.version.split(maxsplit=1)[0]
_BUFFER: Final = 1 << 18
_TAIL: Final = 512  # longer than any tagged reply
_TAG: Final = b"q7Zk"  # in no mail: content cannot pass for a reply


class Drain:
    """One connection.

    Attributes:
        received: Bytes received so far.
        responses: FETCH responses counted, in a run that verifies.
    """

    def __init__(self, job: Job) -> None:
        self.received = 0
        self.responses = 0
        self._verify = job.verify
        self._tags = 0
        self._done: set[bytes] = set()
        self._buffer = bytearray(_TAIL + _BUFFER)
        self._view = memoryview(self._buffer)
        self._fill = _TAIL
        self._socket = socket.create_connection((job.host, job.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = job.ssl_context()
        if context is not None:
            self._socket = context.wrap_socket(self._socket, server_hostname=job.host)
        while not self._buffer.endswith(b"\r\n", 0, self._fill):
            self._receive(anywhere=False)
        self.do(f"LOGIN {job.user} {job.password}")
        self.do("EXAMINE INBOX")

    def do(self, command: str) -> None:
        self._wait(self._send(command), anywhere=False)

    def fetch(self, sets: list[str], items: str, depth: int) -> None:
        """Ask for the messages of each set, `depth` commands in flight."""
        flying: deque[bytes] = deque()
        for uids in sets:
            flying.append(self._send(f"UID FETCH {uids} {items}"))
            if len(flying) == depth:
                self._wait(flying.popleft(), anywhere=depth > 1)
        while flying:
            self._wait(flying.popleft(), anywhere=depth > 1)

    def close(self) -> None:
        self.do("LOGOUT")
        self._socket.close()

    def _send(self, command: str) -> bytes:
        self._tags += 1
        tag = b"%s%d" % (_TAG, self._tags)
        self._socket.sendall(b"%s %s\r\n" % (tag, command.encode()))
        return tag

    def _wait(self, tag: bytes, *, anywhere: bool) -> None:
        while tag not in self._done:
            self._receive(anywhere=anywhere)
        self._done.discard(tag)

    def _receive(self, *, anywhere: bool) -> None:
        # The end of what came before stays in front, for a reply may be cut anywhere.
        self._buffer[:_TAIL] = self._buffer[self._fill - _TAIL : self._fill]
        size = self._socket.recv_into(self._view[_TAIL:])
        if size == 0:
            raise RuntimeError("the server closed the connection")
        self._fill = _TAIL + size
        self.received += size
        if self._verify:
            self.responses += self._buffer.count(b" FETCH (", _TAIL - 7, self._fill)
        at = 0 if anywhere else self._fill - _TAIL
        while (at := self._buffer.find(b"\n" + _TAG, at, self._fill)) >= 0:
            at += 1
            end = self._buffer.find(b"\r\n", at, self._fill)
            # A reply that began in the last `_TAIL` bytes but one is found again: it was noted, or is not whole yet.
            if end >= _TAIL:
                self._note(bytes(self._buffer[at:end]))

    def _note(self, reply: bytes) -> None:
        tag, status, _ = reply.split(b" ", 2)
        if status != b"OK":
            raise RuntimeError(reply.decode("ascii", "replace"))
        self._done.add(tag)


def run(job: Job, tally: Tally, meter: Meter) -> dict[str, float]:
    depth = int(job.options.get("depth", "1"))
    # Without a batch, as many commands as there are connections ask for all.
    sets = batches(job)
    drains = [Drain(job)]
    if job.work == "search":
        for _ in range(int(job.options["searches"])):
            drains[0].do(f"UID SEARCH RETURN (ALL) {job.options['search']}")
    else:
        drains[0].do("UID SEARCH RETURN (ALL) ALL")
        drains += [Drain(job) for _ in range(1, job.connections)]
        threads = [
            threading.Thread(target=drain.fetch, args=(sets[i :: len(drains)], job.items, depth))
            for i, drain in enumerate(drains[1:], 1)
        ]
        for thread in threads:
            thread.start()
        drains[0].fetch(sets[:: len(drains)], job.items, depth)
        for thread in threads:
            thread.join()
    meter.stop()
    for drain in drains:
        drain.close()
    tally.count = sum(drain.responses for drain in drains)
    return {"received": float(sum(drain.received for drain in drains))}
