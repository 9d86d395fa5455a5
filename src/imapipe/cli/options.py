"""What the commands have in common: the account, its secret, and how to reach it.

Invariants:

- A secret comes from the environment, a file or a prompt, never from the arguments, which other users can see.
- Whatever else can be refused is refused before somebody is asked for a password.
"""

from __future__ import annotations

import getpass
import os
import re
import ssl
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import imapipe
from imapipe.cli.errors import Mistake
from imapipe.cli.terminal import printable

PASSWORD_VARIABLE: Final = "IMAPIPE_PASSWORD"
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kMG]?)B?", re.IGNORECASE)
_FACTORS: Final = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


class Compress(StrEnum):
    """When to ask for COMPRESS=DEFLATE."""

    auto = "auto"
    on = "on"
    off = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountOptions:
    """How to reach an account; the options of the same names say more."""

    url: str
    connections: int = 1
    password_file: Path | None = None
    token_file: Path | None = None
    starttls: bool | None = None
    allow_plaintext: bool = False
    ca_file: Path | None = None
    compress: Compress = Compress.auto
    timeout_seconds: float = 30.0

    def open_pool(self) -> imapipe.Pool:
        """Make the pool; asks for the password where a person can answer. Nothing is sent.

        Raises:
            Mistake: An option that cannot work.
            InvalidURL: A URL that cannot work.
        """
        context = self._ssl_context()
        if self.token_file is not None:
            if self.password_file is not None:
                raise Mistake("--token-file and --password-file exclude each other: name one of them")
            read_secret(self.token_file, "--token-file")
            return self._make(context, token=_token_reader(self.token_file))
        # Tried without the password first: nobody shall type one for a URL that cannot work.
        account = self._make(context, password="").account
        return self._make(context, password=self._password(account))

    def _make(
        self,
        context: ssl.SSLContext | None,
        *,
        password: str | None = None,
        token: Callable[[], Awaitable[str]] | None = None,
    ) -> imapipe.Pool:
        try:
            return imapipe.create_pool(
                self.url,
                password=password,
                token=token,
                max_size=self.connections,
                ssl_context=context,
                starttls=self.starttls,
                allow_plaintext=self.allow_plaintext,
                compress="auto" if self.compress is Compress.auto else self.compress is Compress.on,
                connect_timeout_seconds=self.timeout_seconds,
                command_timeout_seconds=self.timeout_seconds,
                stall_timeout_seconds=self.timeout_seconds,
            )
        except ValueError as error:
            raise Mistake(str(error)) from error

    def _password(self, account: str) -> str:
        if self.password_file is not None:
            return read_secret(self.password_file, "--password-file")
        password = os.environ.get(PASSWORD_VARIABLE, "")
        if password:
            return password
        if sys.stdin is None or not sys.stdin.isatty():
            raise Mistake(f"no password: set {PASSWORD_VARIABLE}, or name a file with --password-file or --token-file")
        try:
            password = getpass.getpass(f"Password of {printable(account)}: ")
        except EOFError:
            password = ""
        if not password:
            raise Mistake(f"no password was given; it can also come from {PASSWORD_VARIABLE} or --password-file")
        return password

    def _ssl_context(self) -> ssl.SSLContext | None:
        if self.ca_file is None:
            return None
        try:
            return ssl.create_default_context(cafile=str(self.ca_file))
        except ssl.SSLError as error:
            raise Mistake(f"--ca-file {self.ca_file}: it holds no certificate in PEM form") from error
        except OSError as error:
            raise Mistake(f"--ca-file {self.ca_file}: {error.strerror or error}") from error


def read_secret(path: Path, option: str) -> str:
    """The first line of a file.

    Raises:
        Mistake: It cannot be read, or there is nothing in it.
    """
    try:
        line = path.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except OSError as error:
        raise Mistake(f"{option} {path}: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise Mistake(f"{option} {path}: it is not text in UTF-8") from None
    if not line:
        raise Mistake(f"{option} {path}: its first line is empty")
    return line


def parse_size(text: str, option: str) -> float:
    """Read a number of bytes such as `500k`, `5M` or `1.5MB` (powers of 1000).

    Raises:
        Mistake: It is none, or 0.
    """
    match = _SIZE.fullmatch(text.strip())
    size = float(match[1]) * _FACTORS[match[2].lower()] if match else 0.0
    if size <= 0:
        raise Mistake(f"{option} {text}: use a number of bytes such as 500k or 5M")
    return size


def _token_reader(path: Path) -> Callable[[], Awaitable[str]]:
    """Read the file at every connect, so that another program can renew the token in it."""

    async def token() -> str:
        return read_secret(path, "--token-file")

    return token
