"""`imapipe scan`: fetch what a search finds, count it, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import imapipe
from imapipe import search as q
from imapipe.cli.errors import Mistake, Status
from imapipe.cli.options import AccountOptions, parse_size
from imapipe.cli.output import write_json, write_note, write_result
from imapipe.cli.progress import choose_display

# What is parsed on first access only is read, so that a scan finds what a server got wrong.
_PARSED: Final = ("envelope", "structure")


class OnUidvalidity(StrEnum):
    """What to do where UIDVALIDITY is not that of the checkpoint."""

    stop = "raise"
    restart = "restart"


class OnMismatch(StrEnum):
    """What to do with the checkpoint of another search or fetch."""

    stop = "raise"
    accept = "accept"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOptions:
    """What to scan; the options of the same names say more."""

    mailbox: str
    search: str = "ALL"
    fetch: Sequence[str] = ("envelope",)
    concurrency: int = 8
    limit: int | None = None
    newest_first: bool = False
    checkpoint: Path | None = None
    name: str = ""
    on_uidvalidity: OnUidvalidity = OnUidvalidity.stop
    on_mismatch: OnMismatch = OnMismatch.stop
    retries: int = 4
    outage_seconds: float = 0.0
    rate: float | None = None
    bytes_rate: str | None = None
    quiet: bool = False
    json: bool = False

    @property
    def presets(self) -> list[str]:
        """The names given with `--fetch`, also where several stand in one."""
        return [name.strip() for names in self.fetch for name in names.split(",") if name.strip()]

    def layers(self) -> list[imapipe.Middleware]:
        """The middleware that was asked for, outermost first."""
        layers: list[imapipe.Middleware] = []
        if self.checkpoint is not None:
            layers.append(
                imapipe.Checkpoint(
                    self.checkpoint,
                    name=self.name,
                    on_uidvalidity="restart" if self.on_uidvalidity is OnUidvalidity.restart else "raise",
                    on_mismatch="accept" if self.on_mismatch is OnMismatch.accept else "raise",
                )
            )
        if self.retries:
            layers.append(imapipe.Retry(attempts=self.retries + 1, outage_seconds=self.outage_seconds))
        bytes_rate = parse_size(self.bytes_rate, "--bytes-rate") if self.bytes_rate is not None else None
        if self.rate is not None or bytes_rate is not None:
            layers.append(imapipe.RateLimit(messages_per_second=self.rate, bytes_per_second=bytes_rate))
        return layers


async def scan(account: AccountOptions, options: ScanOptions) -> Status:
    """Run the scan and write its report.

    Raises:
        Mistake, InvalidURL, InvalidSearch: Before anything is sent.
        ImapipeError: The run as a whole could not be done.
    """
    try:
        criteria = q.parse(options.search)
        fetch = imapipe.Fetch(*options.presets)
        layers = options.layers()
        pool = account.open_pool()
        mailbox = pool.mailbox(options.mailbox)
    except ValueError as error:
        raise Mistake(str(error)) from error
    display = choose_display(options.mailbox, quiet=options.quiet)
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
    if options.json:
        write_json(report.to_json())
    else:
        write_result(report.table())
    if report.complete:
        return Status.COMPLETE
    write_note(shortfall(report, resumable=options.checkpoint is not None))
    return Status.PARTIAL


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
