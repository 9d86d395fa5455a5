"""The command line, called in this process or as one of its own, and servers for it in a thread."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import pytest
from anyio.from_thread import start_blocking_portal

from dovecot_server.certificate import write_certificate
from imapipe.cli import main
from imapipe.testing import Server
from imapipe.testing.server import Messages


@dataclass
class Outcome:
    """What a call of the command line came to."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Standard output, which must be one JSON document."""
        document = json.loads(self.out)
        assert isinstance(document, dict)
        return document

    @property
    def sentence(self) -> str:
        """Standard error, which must be one sentence and nothing else."""
        assert self.err.startswith("imapipe: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        return self.err.removeprefix("imapipe: ").rstrip("\n")


class Call(Protocol):
    def __call__(self, *arguments: object, password: str | None = "secret") -> Outcome: ...


class Start(Protocol):
    def __call__(
        self,
        *arguments: object,
        stdin: int = ...,
        stdout: int | IO[str] = ...,
        stderr: int = ...,
        env: Mapping[str, str] | None = ...,
        start_new_session: bool = ...,
    ) -> subprocess.Popen[str]: ...


class Serve(Protocol):
    def __call__(self, messages: Messages = 0, **options: object) -> Server: ...


@dataclass
class Certificate:
    """A self-signed certificate: its file, and what a server needs to use it."""

    file: Path
    context: ssl.SSLContext


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers, each in a thread of its own; they stop with the test."""
    with ExitStack() as stack:

        def start(messages: Messages = 0, **options: object) -> Server:
            portal = stack.enter_context(start_blocking_portal())
            return stack.enter_context(portal.wrap_async_context_manager(Server(messages, **options)))  # type: ignore[arg-type]

        yield start


@pytest.fixture
def certificate(tmp_path: Path) -> Callable[..., Certificate]:
    """Make certificates for names."""

    def make(*hosts: str) -> Certificate:
        file, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
        write_certificate(file, key, hosts)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file, key)
        return Certificate(file, context)

    return make


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Call the command line in this process: what the script `imapipe` does, without the time to start it."""

    def run(*arguments: object, password: str | None = "secret") -> Outcome:
        if password is None:
            monkeypatch.delenv("IMAPIPE_PASSWORD", raising=False)
        else:
            monkeypatch.setenv("IMAPIPE_PASSWORD", password)
        monkeypatch.setattr("sys.stdin", None)
        # Lines of progress come by the clock, so on a busy machine any command may write one.
        monkeypatch.setattr("imapipe.cli.progress._LINE_EVERY_SECONDS", 3600.0)
        capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Outcome(status, out, err)

    return run


def _users_environment() -> dict[str, str]:
    """As people have it: where output is unbuffered, as developers like it, nothing fails that is written late."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


@pytest.fixture
def process() -> Iterator[Start]:
    """Start the command line as processes, which end with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(
        *arguments: object,
        stdin: int = subprocess.DEVNULL,
        stdout: int | IO[str] = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        env: Mapping[str, str] | None = None,
        start_new_session: bool = False,
    ) -> subprocess.Popen[str]:
        one = subprocess.Popen(
            [sys.executable, "-m", "imapipe", *map(str, arguments)],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
            env=env if env is not None else {**_users_environment(), "IMAPIPE_PASSWORD": "secret"},
            start_new_session=start_new_session,
        )
        started.append(one)
        return one

    yield start
    for one in started:
        one.kill()
        one.wait()
        for stream in (one.stdin, one.stdout, one.stderr):
            if stream is not None:
                stream.close()
