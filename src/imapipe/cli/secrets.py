"""Secrets from files and from other programs.

Invariant: a secret is in no text that is told.
"""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path

import imapipe
from imapipe.cli.errors import Mistake


def read_secret(path: Path, option: str) -> str:
    """The first line of a file.

    Raises:
        Mistake: It cannot be read, or there is nothing in it.
    """
    try:
        return imapipe.read_secret(path)
    except imapipe.AccountsError as error:
        raise Mistake(f"{option} {path}: {error.reason}") from error


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
        return imapipe.ask_program(words)
    except imapipe.AccountsError as error:
        raise Mistake(f"{option} {words[0]}: {error.reason}") from error


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
