"""A real server as our child on loopback: what the starters of Dovecot and PostgreSQL share.

Invariants: its main process is our child and gets a signal when we die, whatever the way; after `stop` neither it nor
a file is left.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self

HOST: Final = "127.0.0.1"
_START_TIMEOUT_SECONDS: Final = 60.0
_PORT_ATTEMPTS: Final = 5


class ChildServer(ABC):
    """A server that lives within a folder of its own.

    Attributes:
        directory: Everything it writes is below this folder.
    """

    NAME: ClassVar[str]
    LOGS: ClassVar[Sequence[str]] = ("output.log",)

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.directory = Path()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it serves.

        Call it from a thread that lives as long as the server should: the kernel ends it with that thread.

        Raises:
            RuntimeError: It did not come up; the text holds the end of its log.
        """
        # Not below pytest's own temporary folder: the path of a Unix socket has room for 107 bytes only.
        self.directory = Path(tempfile.mkdtemp(prefix=f"{self.NAME.lower()}-"))
        with ExitStack() as undo:
            undo.callback(self.stop)
            self._prepare()
            for attempt in range(1, _PORT_ATTEMPTS + 1):
                # Between choosing a port and its use by the server another program may take it.
                self._choose_ports()
                if self._launch(last=attempt == _PORT_ATTEMPTS):
                    break
            undo.pop_all()

    def stop(self) -> None:
        """End the server and all its processes, and remove its files; harmless when done already."""
        self._end()
        if self.directory != Path():
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory = Path()

    @property
    def pid(self) -> int:
        """The number of its main process; 0 when it was not started."""
        return self._process.pid if self._process is not None else 0

    @property
    def log_text(self) -> str:
        """What it has logged so far."""
        files = (self.directory / name for name in self.LOGS)
        return "".join(file.read_text(errors="replace") for file in files if file.exists())

    @abstractmethod
    def _prepare(self) -> None:
        """Make what it needs within its folder."""

    @abstractmethod
    def _choose_ports(self) -> None:
        """Choose where it listens."""

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """The program and its arguments; it is to stay in the foreground."""

    @abstractmethod
    def _serves(self, log: str) -> bool:
        """Whether it is ready.

        Args:
            log: What it has logged since it was launched.
        """

    @abstractmethod
    def _end_process(self, process: subprocess.Popen[bytes], how: signal.Signals | None) -> None:
        """End its processes and wait for that; the main one leads a process group in which nobody else is."""

    def _end(self, how: signal.Signals | None = None) -> None:
        """End its processes, if there are any."""
        process, self._process = self._process, None
        if process is not None:
            self._end_process(process, how)

    def _launch(self, *, last: bool) -> bool:
        """Start the process; False when a port was taken meanwhile."""
        began = len(self.log_text)
        with (self.directory / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
            )
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while not self._serves(log := self.log_text[began:]):
            if self._process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
                continue
            log = self.log_text[began:]
            self._end()
            if not last and "Address already in use" in log:
                return False
            msg = f"{self.NAME} did not start:\n{log[-4000:]}"
            raise RuntimeError(msg)
        return True


def dies_with_us(how: str, *options: str) -> list[str]:
    """What stands before a command, so that its process gets a signal when we are killed; nothing without setpriv."""
    setpriv = shutil.which("setpriv")
    return [setpriv, *options, "--pdeathsig", how] if setpriv is not None else []


def free_ports(count: int) -> list[int]:
    """Let the system choose ports; all are held until the last one is chosen, so that they differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]
