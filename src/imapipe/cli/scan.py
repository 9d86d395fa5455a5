"""`imapipe scan`: fetch what a search finds, count it, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import imapipe
from imapipe import search as q
from imapipe.cli.errors import Mistake, Status
from imapipe.cli.options import AccountOptions, CheckpointOptions, LimitOptions
from imapipe.cli.output import write_note, write_report
from imapipe.cli.progress import choose_display

# What is parsed on first access only is read, so that a scan finds what a server got wrong.
_PARSED: Final = ("envelope", "structure")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOptions:
    """What to scan; the options of the same names say more."""

    mailbox: str
    search: str = "ALL"
    fetch: Sequence[str] = ("envelope",)
    concurrency: int = 8
    limit: int | None = None
    newest_first: bool = False

    @property
    def presets(self) -> list[str]:
        """The names given with `--fetch`, also where several stand in one."""
        return [name.strip() for names in self.fetch for name in names.split(",") if name.strip()]


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
    try:
        criteria = q.parse(options.search)
        fetch = imapipe.Fetch(*options.presets)
        layers = [*kept.layers(), *limits.layers()]
        pool = account.open_pool(limits.connections)
        mailbox = pool.mailbox(options.mailbox)
    except ValueError as error:
        raise Mistake(str(error)) from error
    display = choose_display(options.mailbox, quiet=quiet)
    pipeline = mailbox.search(criteria).fetch(fetch).use(imapipe.Progress(display.show), *layers)
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
        return f"{report.failed:,} of {report.planned:,} messages failed; {again}"
    if report.unaccounted:
        return (
            f"the server showed {report.unaccounted:,} messages fewer than it says the mailbox holds; "
            "search for parts of it, by date for instance"
        )
    if report.may_be_short:
        return "the answer to the search could not be read to its end, so messages may be missing; see the notes above"
    return f"{report.unsettled:,} of {report.planned:,} messages were not tried; run the same command again"
