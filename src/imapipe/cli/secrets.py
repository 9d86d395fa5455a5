"""Secrets from files and from other programs.

Invariant: a secret is in no text that is told.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import imapipe
from imapipe.cli.errors import Mistake
from imapipe.durable_file import MOST_SECRET_BYTES, read_small
from imapipe.runtime.environment import environment_of_others

_COMMAND_SECONDS: Final = 60.0


def read_secret(path: Path, option: str) -> str:
    """The first line of a file.

    Raises:
        Mistake: It cannot be read, or there is nothing in it.
    """
    try:
        line = read_small(os.fspath(path), MOST_SECRET_BYTES).decode("utf-8").partition("\n")[0].rstrip("\r")
    except OSError as error:
        raise Mistake(f"{option} {path}: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise Mistake(f"{option} {path}: it is not text in UTF-8") from None
    if not line:
        raise Mistake(f"{option} {path}: its first line is empty")
    return line


def ask_command(command: str, option: str) -> str:
    """The first line that a program writes.

    Raises:
        Mistake: It cannot be run, fails, or writes nothing.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise Mistake(f"{option}: a quote in it is not closed") from error
    if not words:
        raise Mistake(f"{option}: name a program")
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_COMMAND_SECONDS,
            check=False,
            env=environment_of_others(),
        )
    except OSError as error:
        raise Mistake(f"{option} {words[0]}: {error.strerror or error}") from error
    except subprocess.TimeoutExpired:
        raise Mistake(f"{option} {words[0]}: it wrote nothing for {_COMMAND_SECONDS:g} seconds") from None
    secret = done.stdout.decode("utf-8", "replace").partition("\n")[0].rstrip("\r")
    # What it wrote to standard error may hold the secret.
    if done.returncode or not secret:
        raise Mistake(f"{option} {words[0]}: it ended with status {done.returncode} and no secret")
    return secret


def find_token(
    file: Path | None, command: str | None, proxy: str | None, option: Callable[[str], str]
) -> Callable[[], Awaitable[str]] | None:
    """Where access tokens come from, if they are what is used.

    Args:
        file: A file with tokens, or with one.
        command: A program that writes one.
        proxy: The way to whoever renews them.
        option: Gives the name of an option.

    Raises:
        Mistake: They cannot be had.
    """
    if command is not None:
        try:
            return imapipe.oauth.TokenCommand(shlex.split(command))
        except ValueError as error:
            raise Mistake(f"{option('token_command')} {command}: {error}") from error
    if file is None:
        return None
    try:
        token = imapipe.oauth.TokenFile(file, proxy=proxy)
        token.check()
    except imapipe.AccountsError as error:
        raise Mistake(f"{option('token_file')} {file}: {error.reason}") from error
    except (ModuleNotFoundError, ValueError) as error:
        raise Mistake(str(error)) from error
    return token
