"""What the proxy really does: its round trip and its throughput, measured with an echo and a source of bytes."""

from __future__ import annotations

import contextlib
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from benchmarks.row import Link

_PINGS: Final = 21
_ECHO: Final = b"e"
_FLOW: Final = b"f"


@dataclass(frozen=True, slots=True)
class Calibration:
    """What one link was measured to do.

    Attributes:
        link: Its label.
        round_trip_ms: The median of 21 round trips of one byte, in milliseconds.
        worst_round_trip_ms: The slowest of them.
        megabytes_per_second: Of one long answer.
    """

    link: str
    round_trip_ms: float
    worst_round_trip_ms: float
    megabytes_per_second: float


@contextlib.contextmanager
def proxy(port: int, link: Link) -> Iterator[int]:
    """Run a proxy in front of a port, in a process of its own; gives the port to connect to."""
    command = [sys.executable, "-m", "benchmarks.proxy", str(port), "--delay-ms", str(link.round_trip_ms / 2)]
    command += ["--bytes-per-second", str(link.bytes_per_second)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait()


def calibrate(link: Link) -> Calibration:
    """Measure what a link does to a connection."""
    size = int(link.bytes_per_second * 1.5) or 200_000_000
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_answer, args=(listener, size), daemon=True).start()
        with (
            proxy(listener.getsockname()[1], link) as port,
            socket.create_connection(("127.0.0.1", port)) as connection,
        ):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pings = [_ping(connection) for _ in range(_PINGS)]
            started = time.perf_counter()
            connection.sendall(_FLOW)
            buffer = bytearray(1 << 18)
            left = size
            while left:
                left -= connection.recv_into(buffer)
            seconds = time.perf_counter() - started - statistics.median(pings)
    return Calibration(link.label, statistics.median(pings) * 1e3, max(pings) * 1e3, size / seconds / 1e6)


def _ping(connection: socket.socket) -> float:
    started = time.perf_counter()
    connection.sendall(_ECHO)
    connection.recv(1)
    return time.perf_counter() - started


def _answer(listener: socket.socket, size: int) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while request := connection.recv(1):
            connection.sendall(request if request == _ECHO else bytes(size))
