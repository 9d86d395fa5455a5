"""A network between client and server: delay both ways, and a limit on the bytes from the server.

`python -m benchmarks.proxy PORT --delay-ms 50 --bytes-per-second 2000000` listens on loopback, says on its first line
on which port, and ends when its standard input does.

Each direction of a connection has two threads: one receives and notes when, one sends what is old enough. With a limit
a byte is due when the line has had the time to carry it. What is on its way is bounded, so that a limited line slows
its sender down as a real one does; there is no loss, and no slow start other than the kernel's on loopback.
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
import time
from collections import deque
from typing import Final

_CHUNK: Final = 1 << 18
_WINDOW: Final = 32 << 20  # on its way at most, without a limit: no bound that would be felt
_QUEUE_SECONDS: Final = 0.1  # what a limited line holds back before its sender must wait
_SLICE_SECONDS: Final = 0.005  # a limited line hands over its bytes this often


class Direction:
    """Carries the bytes of one socket to another.

    Args:
        source: Where they come from.
        target: Where they go.
        delay: Seconds that each takes.
        rate: Bytes a second at most; 0 is no limit.
    """

    def __init__(self, source: socket.socket, target: socket.socket, delay: float, rate: int) -> None:
        self._source = source
        self._target = target
        self._delay = delay
        self._rate = rate
        self._window = int(rate * (delay + _QUEUE_SECONDS)) if rate else _WINDOW
        # Small against the window: what was received at once leaves the window at once.
        self._chunk = min(max(self._window // 16, 1), _CHUNK)
        self._moving: deque[tuple[float, bytes]] = deque()
        self._held = 0
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._receive, self._send)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def _receive(self) -> None:
        data = b"-"
        while data:
            try:
                data = self._source.recv(self._chunk)
            except OSError:
                data = b""
            with self._changed:
                self._moving.append((time.monotonic() + self._delay, data))
                self._held += len(data)
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._held < self._window)

    def _send(self) -> None:
        free = 0.0  # when the line has carried all that was sent
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._moving)
                due, data = self._moving.popleft()
            _sleep_until(due)
            try:
                if not data:
                    self._target.shutdown(socket.SHUT_WR)
                    return
                if self._rate:
                    free = self._send_slowly(data, max(free, due))
                else:
                    self._target.sendall(data)
            except OSError:
                # The far side has gone; so that this side's sender learns it, it gets no answer any more.
                self._source.close()
                return
            with self._changed:
                self._held -= len(data)
                self._changed.notify_all()

    def _send_slowly(self, data: bytes, free: float) -> float:
        step = max(int(self._rate * _SLICE_SECONDS), 1)
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            free += len(piece) / self._rate
            _sleep_until(free)
            self._target.sendall(piece)
        return free


def _sleep_until(when: float) -> None:
    while (wait := when - time.monotonic()) > 0:
        time.sleep(wait)


def serve(target_port: int, delay: float, rate: int) -> socket.socket:
    """Listen on a port of the system's choosing, and carry each connection to the target."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def accept() -> None:
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", target_port))
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Direction(client, server, delay, 0).start()
            Direction(server, client, delay, rate).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--delay-ms", type=float, default=0.0, help="one way")
    parser.add_argument("--bytes-per-second", type=int, default=0)
    arguments = parser.parse_args()
    # Threads take turns at handing over the interpreter; the usual 5 ms would be felt in the delay.
    sys.setswitchinterval(0.0002)
    listener = serve(arguments.port, arguments.delay_ms / 1000, arguments.bytes_per_second)
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
