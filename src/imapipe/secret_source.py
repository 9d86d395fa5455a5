"""Where a password is: in a file, or with a program that writes it. Blocking.

Invariants:

- No secret is in an exception, nor what a program wrote to standard error.
- What is read is bounded, and a program gets no secret of this process (`runtime.environment`).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
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
    """The first line that a program writes; it is waited for up to 60 seconds.

    Args:
        command: The program and its arguments; no shell is asked.

    Raises:
        AccountsError: It cannot be run, fails, or writes nothing.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_COMMAND_SECONDS,
            check=False,
            env=environment_of_others(),
        )
    except (OSError, ValueError) as error:
        raise AccountsError(getattr(error, "strerror", "") or str(error)) from error
    except subprocess.TimeoutExpired:
        raise AccountsError(f"it wrote nothing for {_COMMAND_SECONDS:g} seconds") from None
    secret = done.stdout.decode("utf-8", "replace").partition("\n")[0].rstrip("\r")
    if done.returncode or not secret:
        raise AccountsError(f"it ended with status {done.returncode} and no secret")
    return secret
