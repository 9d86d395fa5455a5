"""Secrets that a program writes, such as a password manager, or the tool of a provider."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Final

from imapipe.errors import AccountsError
from imapipe.runtime.environment import environment_of_others

_SECONDS: Final = 60.0


class TokenCommand:
    """A program that writes an access token; as `token=` it is run at every connect.

    Args:
        command: The program and its arguments; no shell is asked.
        folder: Where it is run.
    """

    __slots__ = ("_command", "_folder")

    def __init__(self, command: Sequence[str], *, folder: str | os.PathLike[str] | None = None) -> None:
        if isinstance(command, str) or not command:
            raise ValueError('the command is a list of a program and its arguments, such as ["pass", "show", "mail"]')
        self._command = tuple(command)
        self._folder = folder

    def __repr__(self) -> str:
        return f"TokenCommand({self._command[0]!r}, …)"

    async def __call__(self) -> str:
        """The first line that the program writes.

        Raises:
            AccountsError: It cannot be run, fails, writes nothing, or takes longer than 60 seconds.

        Cancelling it ends the program.
        """
        return await ask_program(self._command, self._folder)


async def ask_program(command: Sequence[str], folder: str | os.PathLike[str] | None = None) -> str:
    """The first line that a program writes; raises as `TokenCommand` does."""
    pipe = asyncio.subprocess.PIPE
    try:
        program = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            cwd=folder,
            env=environment_of_others(),
        )
    except OSError as error:
        raise AccountsError(f"{command[0]}: {error.strerror or error}") from error
    except ValueError as error:
        # A NUL in a word of it.
        raise AccountsError(f"{command[0]!r}: {error}") from None
    try:
        async with asyncio.timeout(_SECONDS):
            out, _ = await program.communicate()
    except TimeoutError:
        raise AccountsError(f"{command[0]} wrote nothing for {_SECONDS:g} seconds") from None
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
    secret = out.decode("utf-8", "replace").partition("\n")[0].rstrip("\r")
    # What it wrote to standard error may hold the secret.
    if program.returncode or not secret:
        raise AccountsError(f"{command[0]} ended with status {program.returncode} and no secret")
    return secret
