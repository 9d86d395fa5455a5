"""The options of `imapipe follow`; `cli.follow` does it."""

from __future__ import annotations

from typing import Annotated

import typer

from imapipe.cli.account import AccountOptions
from imapipe.cli.execute import execute
from imapipe.cli.export import ExportOptions
from imapipe.cli.follow import FollowOptions, Way, follow
from imapipe.cli.options import (
    JOB,
    LIMITS,
    AttachmentsFolder,
    CheckpointOptions,
    Exclude,
    LimitOptions,
    MailboxWords,
    OutputOptions,
    Quiet,
    Search,
    Subscribed,
)


def follow_command(
    account: AccountOptions,
    kept: CheckpointOptions,
    limits: LimitOptions,
    output: OutputOptions,
    mailboxes: MailboxWords = None,
    to: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND:PATH",
            help="Where messages go, as in `imapipe export`; unless given, a line for each is written.",
            rich_help_panel=JOB,
        ),
    ] = None,
    attachments: AttachmentsFolder = None,
    exclude: Exclude = None,
    subscribed: Subscribed = False,
    search: Search = "ALL",
    fetch: Annotated[
        str,
        typer.Option(metavar="WHAT", help="With --to, as in `imapipe export`.", rich_help_panel=JOB),
    ] = "full",
    poll: Annotated[
        float,
        typer.Option(
            min=0.1,
            metavar="SECONDS",
            help="How often to ask for counts where the server does not tell by itself.",
            rich_help_panel=LIMITS,
        ),
    ] = 60.0,
    idle: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            metavar="SECONDS",
            help="When IDLE is ended and begun anew, and a dead connection noticed; by the provider unless given.",
            rich_help_panel=LIMITS,
        ),
    ] = None,
    way: Annotated[Way, typer.Option(help="The best way to use for news.", rich_help_panel=LIMITS)] = Way.notify,
    quiet: Quiet = False,
) -> int:
    """Bring what is there, and then what arrives, until Ctrl-C or SIGTERM; with --json in JSON Lines."""
    what = ExportOptions(
        mailboxes=mailboxes or (),
        to=to or (),
        attachments=attachments,
        exclude=exclude or (),
        subscribed=subscribed,
        search=search,
        fetch=fetch,
    )
    options = FollowOptions(what=what, poll_seconds=poll, idle_seconds=idle, way=way)
    work = follow(account, options, kept, limits, quiet=quiet, json=output.json)
    return execute(work, debug=output.debug, mailbox=what.one_mailbox or "", interrupted=kept.interrupted)
