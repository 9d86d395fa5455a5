"""What the commands have in common, each option declared once: the account, its secret, limits, checkpoint, output.

A class of options is a parameter of a command; `cli.grouped` makes options of its fields.

Invariants:

- A secret comes from the environment, a file or a prompt, never from the arguments, which other users can see.
- Whatever else can be refused is refused before somebody is asked for a password.
"""

from __future__ import annotations

import getpass
import os
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

import typer

import imapipe
from imapipe.cli.errors import Mistake
from imapipe.cli.logs import LogLevel, show_logs
from imapipe.cli.secrets import ask_command, find_token, read_secret
from imapipe.cli.sizes import parse_size
from imapipe.cli.terminal import printable

ACCOUNT: Final = "Account and connection"
JOB: Final = "What to do"
LIMITS: Final = "Limits and failures"
OUTPUT: Final = "Output"

PASSWORD_VARIABLE: Final = "IMAPIPE_PASSWORD"


class Compress(StrEnum):
    """When to ask for COMPRESS=DEFLATE."""

    auto = "auto"
    on = "on"
    off = "off"


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
    proxy: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Go through a proxy: socks5://127.0.0.1:1080, http://user:password@host:3128.",
            rich_help_panel=ACCOUNT,
        ),
    ] = None
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


OutageSeconds = Annotated[
    float,
    typer.Option(
        "--outage",
        min=0.0,
        metavar="SECONDS",
        help="How long to wait for a server that does not work, at the beginning and later on.",
        rich_help_panel=LIMITS,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitOptions:
    """How fast, and how patient."""

    connections: Annotated[
        int,
        typer.Option(min=1, max=100, help="Connections at a time; providers allow 10 or more.", rich_help_panel=LIMITS),
    ] = 4
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="NUMBER", help="At most so many messages a second.", rich_help_panel=LIMITS),
    ] = None
    bytes_rate: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="At most so many bytes a second, such as 5M.", rich_help_panel=LIMITS),
    ] = None
    daily_bytes: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Wait when so many bytes came within 24 hours, such as 2G; known to later runs with --checkpoint.",
            rich_help_panel=LIMITS,
        ),
    ] = None
    daily_bytes_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Count the bytes of --daily-bytes in this file, for all runs that name it, at the same time too.",
            rich_help_panel=LIMITS,
        ),
    ] = None
    retries: Annotated[
        int,
        typer.Option(min=0, max=100, help="Tries after one that brought nothing.", rich_help_panel=LIMITS),
    ] = 4
    outage: OutageSeconds = 0.0

    @property
    def bytes_per_day(self) -> int | None:
        """The budget of a day. Raises Mistake: no number of bytes."""
        return None if self.daily_bytes is None else int(parse_size(self.daily_bytes, "--daily-bytes"))

    def layers(self) -> list[imapipe.Middleware]:
        """The middleware that was asked for, outermost first.

        Raises:
            Mistake: A number of bytes that is none, or a file to count them in and no number.
        """
        layers: list[imapipe.Middleware] = []
        if self.retries:
            layers.append(imapipe.Retry(attempts=self.retries + 1, outage_seconds=self.outage))
        bytes_rate = parse_size(self.bytes_rate, "--bytes-rate") if self.bytes_rate is not None else None
        if self.rate is not None or bytes_rate is not None:
            layers.append(imapipe.RateLimit(messages_per_second=self.rate, bytes_per_second=bytes_rate))
        if self.bytes_per_day is not None:
            layers.append(imapipe.ByteBudget(self.bytes_per_day, shared=self.daily_bytes_file))
        elif self.daily_bytes_file is not None:
            raise Mistake("--daily-bytes-file says where to count: say with --daily-bytes how many there may be")
        return layers


MailboxWords = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MAILBOX",
        help="Names, patterns such as 'Lists/*', special uses such as '\\Sent'; all of them unless given.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="NAME", help="Leave out; may be given several times.", rich_help_panel=JOB),
]
Subscribed = Annotated[
    bool, typer.Option("--subscribed", help="Only mailboxes that are subscribed.", rich_help_panel=JOB)
]
Search = Annotated[
    str,
    typer.Option("--search", metavar="KEYS", help="Which messages, such as 'SINCE 30d'.", rich_help_panel=JOB),
]


AttachmentsFolder = Annotated[
    Path | None,
    typer.Option(
        "--attachments", metavar="DIR", help="Write attachments there too, each content once.", rich_help_panel=JOB
    ),
]


class OnUidvalidity(StrEnum):
    """What to do where UIDVALIDITY is not that of the checkpoint."""

    stop = "raise"
    restart = "restart"
    match = "match"


_ON_UIDVALIDITY: Final[Mapping[OnUidvalidity, Literal["raise", "restart", "match"]]] = {
    OnUidvalidity.stop: "raise",
    OnUidvalidity.restart: "restart",
    OnUidvalidity.match: "match",
}


class OnMismatch(StrEnum):
    """What to do with the checkpoint of another search or fetch."""

    stop = "raise"
    accept = "accept"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointOptions:
    """Where it is kept what is done."""

    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Keep what is done in this file; the same command goes on there.", rich_help_panel=JOB
        ),
    ] = None
    name: Annotated[
        str,
        typer.Option(help="Name the job in its checkpoint: the same whatever is searched.", rich_help_panel=JOB),
    ] = ""
    on_uidvalidity: Annotated[
        OnUidvalidity,
        typer.Option(
            help="Where the mailbox was renumbered: stop, begin anew, or find messages again (match).",
            rich_help_panel=LIMITS,
        ),
    ] = OnUidvalidity.stop
    on_mismatch: Annotated[
        OnMismatch,
        typer.Option(help="With the checkpoint of another search: stop, or accept it.", rich_help_panel=LIMITS),
    ] = OnMismatch.stop

    def layers(self) -> list[imapipe.Middleware]:
        """The checkpoint that was asked for, if one was."""
        if self.checkpoint is None:
            return []
        return [
            imapipe.Checkpoint(
                self.checkpoint,
                name=self.name,
                on_uidvalidity=_ON_UIDVALIDITY[self.on_uidvalidity],
                on_mismatch="accept" if self.on_mismatch is OnMismatch.accept else "raise",
            )
        ]

    @property
    def interrupted(self) -> str:
        """What to say when the command is stopped."""
        kept = f"; what is done is in {self.checkpoint}, and the same command goes on there" if self.checkpoint else ""
        return f"interrupted{kept}"


def _show_logs(level: LogLevel | None) -> LogLevel | None:
    # As soon as it is read, so that nothing that is done before the command is left out.
    if level is not None:
        show_logs(level)
    return level


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """What is told, and how."""

    json: Annotated[
        bool, typer.Option("--json", help="Write one JSON document to standard output.", rich_help_panel=OUTPUT)
    ] = False
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show where an error comes from, and all that is logged.", rich_help_panel=OUTPUT),
    ] = False
    log_level: Annotated[
        LogLevel | None,
        typer.Option(callback=_show_logs, help="Show what the library logs on standard error.", rich_help_panel=OUTPUT),
    ] = None


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.", rich_help_panel=OUTPUT)]
