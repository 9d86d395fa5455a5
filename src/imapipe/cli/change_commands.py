"""The commands that change mail, and their options (typer)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import imapipe
from imapipe.cli.account import AccountOptions
from imapipe.cli.change import Change, ChangeOptions, ConsentOptions, change, read_flags, take_back
from imapipe.cli.errors import Mistake
from imapipe.cli.execute import execute
from imapipe.cli.help import Commands
from imapipe.cli.options import JOB, LimitOptions, OutputOptions, Quiet

_MAILBOX = typer.Argument(metavar="MAILBOX", help="Where the messages are, such as INBOX.")


def add_change_commands(app: Commands) -> None:
    """Give the command line `move`, `flag`, `delete` and `undo`."""
    for name, command in (("move", _move), ("flag", _flag), ("delete", _delete), ("undo", _undo)):
        app.named(name)(command)


def _move(
    account: AccountOptions,
    mailbox: Annotated[str, _MAILBOX],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Where they are to be.")],
    options: ChangeOptions,
    consent: ConsentOptions,
    limits: LimitOptions,
    output: OutputOptions,
    quiet: Quiet = False,
) -> int:
    """Move messages into another mailbox."""
    return _execute(account, mailbox, lambda found: found.move_to(target), options, consent, limits, output, quiet)


def _flag(
    account: AccountOptions,
    mailbox: Annotated[str, _MAILBOX],
    flags: Annotated[
        str, typer.Argument(metavar="FLAGS", help=r"Such as '+\Seen -$Junk', or '=\Seen' for these and no others.")
    ],
    options: ChangeOptions,
    consent: ConsentOptions,
    limits: LimitOptions,
    output: OutputOptions,
    quiet: Quiet = False,
) -> int:
    """Give messages flags, or take some away."""
    try:
        change_flags = read_flags(flags)
    except Mistake as mistake:
        raise typer.BadParameter(str(mistake)) from mistake
    return _execute(account, mailbox, change_flags, options, consent, limits, output, quiet)


def _delete(
    account: AccountOptions,
    mailbox: Annotated[str, _MAILBOX],
    options: ChangeOptions,
    consent: ConsentOptions,
    limits: LimitOptions,
    output: OutputOptions,
    permanently: Annotated[
        bool, typer.Option("--permanently", help="For good, instead of into the Trash.", rich_help_panel=JOB)
    ] = False,
    quiet: Quiet = False,
) -> int:
    """Move messages into the Trash, or remove them for good."""

    def remove(found: imapipe.Pipeline) -> imapipe.ChangePipeline:
        return found.delete(permanently=permanently)

    return _execute(account, mailbox, remove, options, consent, limits, output, quiet)


def _undo(
    account: AccountOptions,
    journal: Annotated[Path, typer.Argument(metavar="JOURNAL", help="The --journal of what is to be undone.")],
    consent: ConsentOptions,
    limits: LimitOptions,
    output: OutputOptions,
    max_messages: Annotated[
        int | None, typer.Option(min=0, help="Refuse where there are more.", rich_help_panel=JOB)
    ] = None,
    quiet: Quiet = False,
) -> int:
    """Take a change back by its journal; what cannot be brought back is told."""
    work = take_back(account, journal, consent, limits, max_messages=max_messages, quiet=quiet, json=output.json)
    return execute(work, debug=output.debug, interrupted="interrupted; the same command goes on there")


def _execute(
    account: AccountOptions,
    mailbox: str,
    make: Change,
    options: ChangeOptions,
    consent: ConsentOptions,
    limits: LimitOptions,
    output: OutputOptions,
    quiet: bool,
) -> int:
    kept = f"; the same command with --journal {options.journal} goes on there" if options.journal else ""
    work = change(account, mailbox, make, options, consent, limits, quiet=quiet, json=output.json)
    return execute(work, debug=output.debug, mailbox=mailbox, interrupted=f"interrupted{kept}")
