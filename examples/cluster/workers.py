"""The workers of the example, as processes: `imapipe worker --jobs mail_jobs`, and what can be done to one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psutil

_HERE: Final = Path(__file__).parent
_START_SECONDS: Final = 60.0
# What it says when it has begun to work, and from then on ends in good order.
_WORKS: Final = " works; "
# Longer than a worker needs to end the batches in hand and save.
_STOP_SECONDS: Final = 60.0


class Worker:
    """One worker, and those that come in its place.

    Args:
        number: Its number, from 1.
        environment: What it finds in its environment.
        log: The file that its output is appended to.
        concurrency: How many tasks it has in hand at once.

    Attributes:
        number: Its number.
        deaths: How often it was killed.
        cpu_seconds: Processor time of those of its processes that have ended, and of the one that runs as of `look`.
    """

    def __init__(self, number: int, environment: Mapping[str, str], log: Path, *, concurrency: int) -> None:
        self.number = number
        self.deaths = 0
        self._starts = self._unborn = 0
        self._environment = {**os.environ, **environment}
        self._log = log
        self._concurrency = concurrency
        self._process: subprocess.Popen[bytes] | None = None
        self._before_seconds = 0.0
        self._now_seconds = 0.0

    def start(self) -> None:
        """Start its process; it takes tasks when it is ready."""
        self._starts += 1
        command = [sys.executable, "-m", "imapipe", "worker", "--jobs", "mail_jobs"]
        command += ["--concurrency", str(self._concurrency)]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                command, cwd=_HERE, env=self._environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether its process is there, be it stopped."""
        return self._process is not None and self._process.poll() is None

    @property
    def cpu_seconds(self) -> float:
        """Processor time of its processes so far."""
        if self.is_running:
            times = psutil.Process(self.pid).cpu_times()
            self._now_seconds = times.user + times.system
        return self._before_seconds + self._now_seconds

    @property
    def _said(self) -> str:
        """What it and those before it have said."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """End it at once, and start another in its place."""
        self._signal(signal.SIGKILL)
        self._wait(_STOP_SECONDS)
        self.deaths += 1
        # Those that were killed before they worked have said nothing.
        self._unborn = self._starts - self._said.count(_WORKS)
        self.start()

    def freeze(self) -> None:
        """Let it do nothing at all, heartbeats and renewals included."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on as if nothing had been."""
        self._signal(signal.SIGCONT)

    def block(self) -> None:
        """Block its event loop for a while; its threads go on. `mail_jobs` knows this signal."""
        self._signal(signal.SIGUSR1)

    @property
    def works(self) -> bool:
        """Whether it has begun to work; before that no signal but SIGKILL is of use."""
        return self._said.count(_WORKS) >= self._starts - self._unborn

    def await_work(self) -> None:
        """Wait until it works. Raises TimeoutError, or RuntimeError where it has ended."""
        deadline = time.monotonic() + _START_SECONDS
        while not self.works:
            if not self.is_running:
                raise RuntimeError(f"worker {self.number} has ended by itself: {self._said[-2000:]}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"worker {self.number} does not work after {_START_SECONDS:g} s; see {self._log}")
            time.sleep(0.02)

    def stop(self) -> int:
        """End it as a service manager does; gives its exit status."""
        self._signal(signal.SIGCONT)
        self.await_work()
        self._signal(signal.SIGTERM)
        return self._wait(_STOP_SECONDS)

    def end(self) -> None:
        """End it, whatever it does; harmless when it has ended."""
        if self.is_running:
            self._signal(signal.SIGKILL)
            self._wait(_STOP_SECONDS)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            # When it has ended nobody knows any more what it needed.
            _ = self.cpu_seconds
            self._process.send_signal(number)

    def _wait(self, seconds: float) -> int:
        assert self._process is not None
        deadline = time.monotonic() + seconds
        while (status := self._process.poll()) is None:
            _ = self.cpu_seconds
            if time.monotonic() > deadline:
                raise TimeoutError(f"worker {self.number} did not end within {seconds:g} s; see {self._log}")
            time.sleep(0.01)
        self._before_seconds += self._now_seconds
        self._now_seconds = 0.0
        return status
