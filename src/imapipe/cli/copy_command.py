"""The options of `imapipe copy`; `cli.copying` does it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from imapipe.cli.account import AccountOptions
from imapipe.cli.copying import CopyOptions, copy
from imapipe.cli.execute import execute
from imapipe.cli.options import JOB, Exclude, LimitOptions, OutputOptions, Quiet, Subscribed


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions(AccountOptions):
    """How to reach the account that messages go to."""

    prefix: ClassVar[str] = "target"


class WhichLabels(StrEnum):
    """Where a message of Gmail's All Mail goes."""

    each = "each"
    first = "first"


def copy_command(
    source: AccountOptions,
    target: TargetOptions,
    limits: LimitOptions,
    output: OutputOptions,
    mailboxes: Annotated[
        list[str] | None,
        typer.Option(
            "--mailbox",
            metavar="NAME",
            help="A name, a pattern such as 'Lists/*', a special use such as '\\Sent'; several times, too; all unless "
            "given.",
            rich_help_panel=JOB,
        ),
    ] = None,
    exclude: Exclude = None,
    subscribed: Subscribed = False,
    folder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NAME",
            help="Where a mailbox goes, such as 'Sent Items=Sent'; may be given several times.",
            rich_help_panel=JOB,
        ),
    ] = None,
    labels: Annotated[
        WhichLabels,
        typer.Option(help="Of a message from Gmail: a copy for each label, or for the first.", rich_help_panel=JOB),
    ] = WhichLabels.each,
    state: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep in this file which message became which.", rich_help_panel=JOB),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be copied, and where to.", rich_help_panel=JOB)
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Read all of both sides afterwards, and say what differs.", rich_help_panel=JOB),
    ] = False,
    quiet: Quiet = False,
) -> int:
    """Copy the mail of an account into another one. Run again, it copies what is new, and nothing twice."""
    options = CopyOptions(
        mailboxes=mailboxes or (),
        exclude=exclude or (),
        subscribed=subscribed,
        folders=folder or (),
        labels="first" if labels is WhichLabels.first else "each",
        state=state,
        dry_run=dry_run,
        verify=verify,
    )
    work = copy(source, target, options, limits, quiet=quiet, json=output.json)
    interrupted = "interrupted; what is copied stays, and the same command goes on there"
    return execute(work, debug=output.debug, interrupted=interrupted)
