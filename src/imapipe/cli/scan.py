"""`imapipe scan`: fetch what a search finds, count it, report."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

import typer

import imapipe
from imapipe import search as q
from imapipe.cli.account import AccountOptions
from imapipe.cli.errors import AsMistake, Status
from imapipe.cli.options import JOB, LIMITS, CheckpointOptions, LimitOptions, split_names
from imapipe.cli.output import write_note, write_report
from imapipe.cli.progress import choose_display

_TEXT: Final = "text"
# What is parsed on first access only is read, so that a scan finds what a server got wrong.
_PARSED: Final = ("envelope", "structure", _TEXT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOptions:
    """What to scan."""

    mailbox: Annotated[
        str, typer.Argument(metavar="MAILBOX", help="Its name, such as INBOX; `imapipe folders` lists them.")
    ]
    search: Annotated[
        str,
        typer.Option(
            metavar="KEYS", help="Which messages, such as 'SINCE 2024-01-01 UNSEEN' or 'FROM ann'.", rich_help_panel=JOB
        ),
    ] = "ALL"
    fetch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT",
            help="uid, flags, size, envelope (unless given), structure, headers, text, full …; several times, too.",
            rich_help_panel=JOB,
        ),
    ] = None
    limit: Annotated[int | None, typer.Option(min=0, help="At most so many messages.", rich_help_panel=JOB)] = None
    newest_first: Annotated[bool, typer.Option("--newest-first", help="Highest UIDs first.", rich_help_panel=JOB)] = (
        False
    )
    concurrency: Annotated[
        int, typer.Option(min=1, max=10_000, help="Messages in hand at a time.", rich_help_panel=LIMITS)
    ] = 8

    @property
    def presets(self) -> list[str]:
        """The names given with `--fetch`, also where several stand in one."""
        given = self.fetch or ("envelope",)
        return [name for names in given for name in split_names(names) if name]


async def scan(
    account: AccountOptions,
    options: ScanOptions,
    kept: CheckpointOptions,
    limits: LimitOptions,
    *,
    quiet: bool,
    json: bool,
) -> Status:
    """Run the scan and write its report.

    Raises:
        Mistake, InvalidURL, InvalidSearch: Before anything is sent.
        ImapipeError: The run as a whole could not be done.
    """
    with AsMistake():
        criteria = q.parse(options.search)
        # What is to be fetched is looked at before anybody is asked for a password.
        presets = [name for name in options.presets if name != _TEXT]
        fetch: list[str | imapipe.Fetch] = [imapipe.Fetch(*presets)]
        if _TEXT in options.presets:
            fetch.append(_TEXT)
        layers = [*kept.layers(), *limits.layers()]
        pool = account.open_pool(limits.connections)
        mailbox = pool.mailbox(options.mailbox)
    display = choose_display(options.mailbox, quiet=quiet)
    pipeline = mailbox.search(criteria).fetch(*fetch).use(imapipe.Progress(display.show), *layers)
    if options.limit is not None:
        pipeline = pipeline.limit(options.limit)
    if options.newest_first:
        pipeline = pipeline.newest_first()
    fields = [name for name in _PARSED if name in options.presets]

    async def read(message: imapipe.Message) -> None:
        for field in fields:
            getattr(message, field)

    async with pool:
        with display:
            report = await pipeline.run(read, concurrency=options.concurrency)
    status = write_report(report, json=json)
    if report.complete:
        return status
    write_note(shortfall(report, resumable=kept.checkpoint is not None))
    return status


def shortfall(report: imapipe.RunReport, *, resumable: bool) -> str:
    """One sentence on what a partial run lacks, and what to do."""
    if report.failed:
        again = "the same command tries them again" if resumable else "the report above says why"
        return f"{report.failed:,} of {report.planned:,} messages failed; {again}{serves_again(report.retry_at)}"
    if report.unaccounted:
        return (
            f"the server showed {report.unaccounted:,} messages fewer than it says the mailbox holds; "
            "search for parts of it, by date for instance"
        )
    if report.may_be_short:
        return "the answer to the search could not be read to its end, so messages may be missing; see the notes above"
    return f"{report.unsettled:,} of {report.planned:,} messages were not tried; run the same command again"


def serves_again(at: datetime | None) -> str:
    """When it is worth to come back, as the end of a sentence."""
    return "" if at is None else f", from {at.astimezone():%Y-%m-%d %H:%M} on: the server served no more"
