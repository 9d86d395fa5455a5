"""The account of a command: where it is, where its secret comes from, and how it is connected to.

Invariants:

- A secret comes from the environment, a file or a prompt, never from the arguments, which other users can see.
- Whatever else can be refused is refused before somebody is asked for a password.
"""

from __future__ import annotations

import getpass
import os
import ssl
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar, Final

import typer

import imapipe
from imapipe.cli.errors import Mistake
from imapipe.cli.options import ACCOUNT
from imapipe.cli.secrets import ask_command, find_token, read_secret
from imapipe.cli.terminal import printable

PASSWORD_VARIABLE: Final = "IMAPIPE_PASSWORD"


class Compress(StrEnum):
    """When to ask for COMPRESS=DEFLATE."""

    auto = "auto"
    on = "on"
    off = "off"


Proxy = Annotated[
    str | None,
    typer.Option(
        "--proxy",
        metavar="URL",
        help="Go through a proxy: socks5://127.0.0.1:1080, http://user:password@host:3128.",
        rich_help_panel=ACCOUNT,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountOptions:
    """How to reach an account; `prefix` stands before the names of the options."""

    prefix: ClassVar[str] = ""

    url: Annotated[
        str, typer.Argument(metavar="URL", help="imaps://user@host[:993] for TLS, imap://user@host[:143] for STARTTLS.")
    ]
    password_file: Annotated[
        Path | None,
        typer.Option(
            help="A file with the password in its first line; else IMAPIPE_PASSWORD, else a prompt.",
            rich_help_panel=ACCOUNT,
        ),
    ] = None
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="A file that `imapipe login` wrote, or one with an OAuth 2 access token in its first line.",
            rich_help_panel=ACCOUNT,
        ),
    ] = None
    token_command: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="A program and its arguments that writes an access token, run at every connect; no shell is asked.",
            rich_help_panel=ACCOUNT,
        ),
    ] = None
    password_command: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="A command whose first line is the password, such as 'pass show mail'; no shell is asked.",
            rich_help_panel=ACCOUNT,
        ),
    ] = None
    starttls: Annotated[
        bool | None,
        typer.Option(
            "--starttls/--no-starttls",
            help="Demand STARTTLS, or do without; used where it is offered unless said.",
            rich_help_panel=ACCOUNT,
        ),
    ] = None
    allow_plaintext: Annotated[
        bool, typer.Option("--allow-plaintext", help="Send the password without encryption.", rich_help_panel=ACCOUNT)
    ] = False
    ca_file: Annotated[
        Path | None,
        typer.Option(help="Trust the certificates in this PEM file, and no others.", rich_help_panel=ACCOUNT),
    ] = None
    proxy: Proxy = None
    compress: Annotated[
        Compress,
        typer.Option(help="COMPRESS=DEFLATE; auto: only where it makes things faster.", rich_help_panel=ACCOUNT),
    ] = Compress.auto
    timeout: Annotated[
        float,
        typer.Option(
            min=0.1, metavar="SECONDS", help="For connecting, and for a server that is silent.", rich_help_panel=ACCOUNT
        ),
    ] = 30.0

    def open_pool(self, connections: int = 1) -> imapipe.Pool:
        """Make the pool; asks for the password where a person can answer. Nothing is sent.

        Args:
            connections: How many it may have.

        Raises:
            Mistake: An option that cannot work.
            InvalidURL: A URL that cannot work.
        """
        context = self.ssl_context()
        token = self._token()
        if token is not None:
            return self.make_pool(context, connections, token=token)
        # Tried without the password first: nobody shall type one for a URL that cannot work.
        account = self.make_pool(context, connections, password="").account
        return self.make_pool(context, connections, password=self._password(account))

    def make_pool(
        self,
        context: ssl.SSLContext | None,
        connections: int = 1,
        *,
        password: str | None = None,
        token: Callable[[], Awaitable[str]] | None = None,
    ) -> imapipe.Pool:
        """Make the pool with one of the two. Raises as `open_pool` does."""
        try:
            return imapipe.create_pool(
                self.url,
                password=password,
                token=token,
                max_size=connections,
                ssl_context=context,
                starttls=self.starttls,
                allow_plaintext=self.allow_plaintext,
                proxy=self.proxy,
                compress="auto" if self.compress is Compress.auto else self.compress is Compress.on,
                connect_timeout_seconds=self.timeout,
                command_timeout_seconds=self.timeout,
                stall_timeout_seconds=self.timeout,
            )
        except (ModuleNotFoundError, ValueError) as error:
            raise Mistake(str(error)) from error

    def _password(self, account: str) -> str:
        if self.password_file is not None:
            return read_secret(self.password_file, self._option("password_file"))
        if self.password_command is not None:
            return ask_command(self.password_command, self._option("password_command"))
        variable = f"IMAPIPE_{self.prefix.upper()}_PASSWORD" if self.prefix else PASSWORD_VARIABLE
        password = os.environ.get(variable, "")
        if password:
            return password
        if sys.stdin is None or not sys.stdin.isatty():
            files = f"{self._option('password_file')} or {self._option('token_file')}"
            raise Mistake(f"no password: set {variable}, or name a file with {files}")
        try:
            password = getpass.getpass(f"Password of {printable(account)}: ")
        except EOFError:
            password = ""
        if not password:
            also = f"{variable} or {self._option('password_file')}"
            raise Mistake(f"no password was given; it can also come from {also}")
        return password

    def _option(self, name: str) -> str:
        """An option as people write it."""
        return "--" + "-".join(filter(None, (self.prefix, name.replace("_", "-"))))

    def _token(self) -> Callable[[], Awaitable[str]] | None:
        """Where access tokens come from, if they are what is used. Raises Mistake."""
        sources = ("token_file", "token_command", "password_file", "password_command")
        if len(given := [self._option(name) for name in sources if getattr(self, name) is not None]) > 1:
            raise Mistake(f"{' and '.join(given)} exclude each other: name one of them")
        return find_token(self.token_file, self.token_command, self.proxy, self._option)

    def ssl_context(self) -> ssl.SSLContext | None:
        """What was said about certificates. Raises Mistake: --ca-file holds none."""
        if self.ca_file is None:
            return None
        try:
            return ssl.create_default_context(cafile=str(self.ca_file))
        except ssl.SSLError as error:
            where = f"{self._option('ca_file')} {self.ca_file}"
            raise Mistake(f"{where}: it holds no certificate in PEM form") from error
        except OSError as error:
            raise Mistake(f"{self._option('ca_file')} {self.ca_file}: {error.strerror or error}") from error
