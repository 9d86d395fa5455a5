"""What the commands have in common, each option declared once: limits, mailboxes, checkpoint, output.

A class of options is a parameter of a command; `cli.grouped` makes options of its fields. Those of an account are in
`cli.account`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

import imapipe
from imapipe.cli.errors import Mistake
from imapipe.cli.logs import LogLevel, show_logs
from imapipe.cli.sizes import parse_size

ACCOUNT: Final = "Account and connection"
JOB: Final = "What to do"
LIMITS: Final = "Limits and failures"
OUTPUT: Final = "Output"


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
        typer.Option(
            min=0.001,
            max=1_000_000,
            metavar="NUMBER",
            help="At most so many messages a second.",
            rich_help_panel=LIMITS,
        ),
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
        if self.daily_bytes is None and self.daily_bytes_file is not None:
            raise Mistake("--daily-bytes-file says where to count: say with --daily-bytes how many there may be")
        return self.layers_within(self.bytes_per_day, self.daily_bytes_file)

    def layers_within(self, bytes_per_day: int | None, shared: Path | None) -> list[imapipe.Middleware]:
        """The same for an account of that budget, counted in that file. Raises Mistake: no number of bytes."""
        layers: list[imapipe.Middleware] = []
        if self.retries:
            layers.append(imapipe.Retry(attempts=self.retries + 1, outage_seconds=self.outage))
        bytes_rate = parse_size(self.bytes_rate, "--bytes-rate") if self.bytes_rate is not None else None
        if self.rate is not None or bytes_rate is not None:
            layers.append(imapipe.RateLimit(messages_per_second=self.rate, bytes_per_second=bytes_rate))
        if bytes_per_day is not None:
            layers.append(imapipe.ByteBudget(bytes_per_day, shared=shared))
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
    typer.Option(
        "--exclude",
        metavar="NAME",
        help="Leave out: a name, a pattern, a special use; [*] and [%] mean these characters. Several times.",
        rich_help_panel=JOB,
    ),
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


def split_names(text: str) -> list[str]:
    """What `--fetch` names, with commas between."""
    return [name.strip() for name in text.split(",")]
