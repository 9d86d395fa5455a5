"""`imapipe index`: bring a local index up to date with a mailbox."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

import imapipe
from imapipe import search as q
from imapipe.cli.account import AccountOptions
from imapipe.cli.errors import AsMistake, Status
from imapipe.cli.options import JOB, LimitOptions, Search
from imapipe.cli.output import write_note, write_report
from imapipe.cli.progress import choose_display


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexOptions:
    """What to index, and where."""

    mailbox: Annotated[str, typer.Argument(metavar="MAILBOX", help="Its name, such as INBOX.")]
    to: Annotated[Path, typer.Option(metavar="FILE", help="The index; made where there is none.", rich_help_panel=JOB)]
    search: Search = "ALL"


async def index(
    account: AccountOptions, options: IndexOptions, limits: LimitOptions, *, quiet: bool, json: bool
) -> Status:
    """Update the index and say what was done.

    Raises:
        Mistake, InvalidURL, InvalidSearch: Before anything is sent.
        MessageIndexError: The file cannot be used.
        ImapipeError: The run as a whole could not be done.
    """
    with AsMistake():
        criteria = q.parse(options.search)
        layers = limits.layers()
        pool = account.open_pool(limits.connections)
        mailbox = pool.mailbox(options.mailbox)
    display = choose_display(options.mailbox, quiet=quiet)
    async with imapipe.MessageIndex(options.to) as local, pool:
        with display:
            report = await local.update(
                mailbox,
                search=criteria,
                use=(imapipe.Progress(display.show), *layers),
                connections=limits.connections,
            )
    status = write_report(report, json=json)
    if report.complete:
        return status
    if report.failed:
        write_note(f"{report.failed:,} of {report.found:,} messages failed; the same command tries them again")
    elif report.unaccounted:
        write_note(
            f"the server showed {report.unaccounted:,} messages fewer than it says the mailbox holds; "
            "index parts of it, by date for instance"
        )
    else:
        write_note("the answer to the search could not be read to its end, so messages may be missing; index again")
    return status
