"""Access tokens that a program writes, such as the tool of a provider."""

from __future__ import annotations

import os
from collections.abc import Sequence

from imapipe.errors import AccountsError
from imapipe.secret_source import secret_of_program


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
        try:
            return await secret_of_program(self._command, self._folder)
        except AccountsError as error:
            raise AccountsError(f"{self._command[0]}: {error.reason}") from error
