"""Where a password is: in a file, or with a program that writes it.

Invariants:

- No secret is in an exception, nor what a program wrote to standard error.
- What is read is bounded, and a program gets no secret of this process (`runtime.environment`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from imapipe.durable_file import MOST_SECRET_BYTES, read_small
from imapipe.errors import AccountsError
from imapipe.runtime.environment import environment_of_others

_COMMAND_SECONDS: Final = 60.0


def read_secret(path: str | os.PathLike[str]) -> str:
    """The first line of a file.

    Raises:
        AccountsError: It cannot be read, or there is nothing in it.
    """
    shown = os.fspath(path)
    try:
        line = read_small(shown, MOST_SECRET_BYTES).decode("utf-8").partition("\n")[0].rstrip("\r")
    except UnicodeDecodeError:
        raise AccountsError("it is not text in UTF-8", path=shown) from None
    except (OSError, ValueError) as error:
        # ValueError: there is a NUL in the name.
        raise AccountsError(getattr(error, "strerror", "") or str(error), path=shown) from None
    if not line:
        raise AccountsError("its first line is empty", path=shown)
    return line


def ask_program(command: Sequence[str]) -> str:
    """The first line that a program writes. Blocking: in a running event loop `oauth.TokenCommand` is better.

    Args:
        command: The program and its arguments; no shell is asked.

    Raises:
        AccountsError: It cannot be run, fails, writes nothing, or takes longer than 60 seconds.
    """
    # Of a thread of its own, for in this one a loop may run already.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, secret_of_program(command)).result()


async def secret_of_program(command: Sequence[str], folder: str | os.PathLike[str] | None = None) -> str:
    """The same without blocking, run in a folder. Cancelling it ends the program."""
    try:
        transport, answer = await asyncio.get_running_loop().subprocess_exec(
            _Answer,
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            # What it writes there may hold the secret.
            stderr=asyncio.subprocess.DEVNULL,
            cwd=folder,
            env=environment_of_others(),
        )
    except (OSError, ValueError) as error:
        # ValueError: there is a NUL in a word of it.
        raise AccountsError(getattr(error, "strerror", "") or str(error)) from error
    try:
        async with asyncio.timeout(_COMMAND_SECONDS):
            await answer.is_there.wait()
    except TimeoutError:
        raise AccountsError(f"it wrote nothing for {_COMMAND_SECONDS:g} seconds") from None
    finally:
        # It ends the program, and waits for none that this one began and that has its pipe still.
        transport.close()
        await answer.is_over.wait()
    if len(answer.out) > MOST_SECRET_BYTES:
        raise AccountsError(f"it wrote more than {MOST_SECRET_BYTES:,} bytes")
    secret = answer.out.decode("utf-8", "replace").partition("\n")[0].rstrip("\r")
    status = transport.get_returncode()
    if status or not secret:
        raise AccountsError(f"it ended with status {status} and no secret")
    return secret


class _Answer(asyncio.SubprocessProtocol):
    """What a program writes.

    Attributes:
        out: That.
        is_there: All of it has come and the program has ended, or it is too much.
        is_over: The program has ended, and the pipe is closed.
    """

    def __init__(self) -> None:
        self.out = bytearray()
        self.is_there = asyncio.Event()
        self.is_over = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """It wrote something."""
        if len(self.out) > MOST_SECRET_BYTES:
            return
        self.out += data
        if len(self.out) > MOST_SECRET_BYTES:
            self.is_there.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended, and so has what it wrote."""
        self.is_there.set()
        self.is_over.set()
