"""`imapipe plan`: what an export would bring, and how long that would take.

The speed is what `--speed` says, or what `--measure` finds by fetching messages for some seconds; the quota is that of
the provider, or what `--daily-bytes` says. What is not known is not guessed.

Invariant: without `--measure` nothing of a message is fetched but its size.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

import typer
from rich.table import Table

import imapipe
from imapipe import search as q
from imapipe.cli.account import AccountOptions
from imapipe.cli.errors import AsMistake, Mistake, Status
from imapipe.cli.options import (
    JOB,
    CheckpointOptions,
    Exclude,
    LimitOptions,
    MailboxWords,
    Search,
    Subscribed,
    split_names,
)
from imapipe.cli.output import write_document, write_note, write_result, write_table
from imapipe.cli.progress import choose_display, speed_text
from imapipe.cli.sizes import parse_size
from imapipe.cli.together import Together

MEASURE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """What to plan."""

    mailboxes: MailboxWords = None
    exclude: Exclude = None
    subscribed: Subscribed = False
    search: Search = "ALL"
    fetch: Annotated[
        str, typer.Option(metavar="WHAT", help="That of the job whose checkpoint is looked at.", rich_help_panel=JOB)
    ] = "full"
    speed: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Bytes a second, such as 5M, for the hours.", rich_help_panel=JOB)
    ] = None
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Fetch messages for 5 seconds to find out the speed.", rich_help_panel=JOB),
    ] = False

    @property
    def bytes_per_second(self) -> float | None:
        """The speed that was said. Raises Mistake."""
        return parse_size(self.speed, "--speed") if self.speed is not None else None


async def plan(
    account: AccountOptions,
    options: PlanOptions,
    kept: CheckpointOptions,
    limits: LimitOptions,
    *,
    quiet: bool,
    json: bool,
) -> Status:
    """Say what a run would bring; with a checkpoint, what is left.

    Raises:
        Mistake, InvalidURL, InvalidSearch: Before anything is sent.
        ImapipeError: The account as a whole could not be asked.
    """
    with AsMistake():
        speed = options.bytes_per_second
        if speed is not None and options.measure:
            raise Mistake("--speed and --measure exclude each other: say how fast it is, or have it measured")
        limited = limits.layers()
        criteria = q.parse(options.search)
        pool = account.open_pool(limits.connections)
        group = pool.each(*(options.mailboxes or ()), exclude=options.exclude or (), subscribed=options.subscribed)
        job = group.search(criteria).fetch(*split_names(options.fetch))
        patient = job.use(*kept.layers(), *limited)
    async with pool:
        found = await patient.plan()
        if options.measure and found.messages:
            with choose_display(f"measuring {pool.account}", quiet=quiet) as display:
                speed = await _measure(job.use(*limited), display.show)
    quota = limits.bytes_per_day or imapipe.provider_of_account(pool.account).bytes_per_day
    estimate = imapipe.Estimate(speed, quota)
    if json:
        write_document(_document(found, estimate))
    else:
        _write_for_people(found, estimate)
    for name, reason in found.errors.items():
        write_note(f"{name}: {reason}")
    return Status.PARTIAL if found.errors else Status.COMPLETE


async def _measure(job: imapipe.AccountPipeline, show: Callable[[imapipe.ProgressSnapshot], None]) -> float | None:
    """Bytes per second, of whole messages for some seconds; None where nothing came."""
    seen: list[imapipe.ProgressSnapshot] = []

    def look(snapshot: imapipe.ProgressSnapshot) -> None:
        seen[:] = [snapshot]
        show(snapshot)

    async def drop(_: imapipe.Message) -> None:
        return

    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(MEASURE_SECONDS):
            await job.use(imapipe.Progress(Together(look).show)).run(drop)
    except TimeoutError:
        pass
    elapsed = loop.time() - began
    return seen[0].bytes_received / elapsed if seen and seen[0].bytes_received else None


def _document(found: imapipe.AccountPlan, estimate: imapipe.Estimate) -> dict[str, object]:
    """The plan, and how long it takes: all of it, and each mailbox."""
    document: dict[str, object] = {
        **found.to_dict(),
        "bytes_per_second": estimate.bytes_per_second,
        "bytes_per_day": estimate.bytes_per_day,
        **_times(found.total_bytes, estimate),
    }
    document["mailboxes"] = {
        name: {**each.to_dict(), **_times(each.total_bytes, estimate)} for name, each in found.plans.items()
    }
    return document


def _times(count: int, estimate: imapipe.Estimate) -> dict[str, float | None]:
    return {"hours": estimate.hours(count), "days": estimate.days(count)}


def _write_for_people(found: imapipe.AccountPlan, estimate: imapipe.Estimate) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("mailbox", overflow="fold")
    for heading in ("messages", "done", "MB", "hours", "days"):
        table.add_column(heading, justify="right", no_wrap=True)

    def row(name: str, messages: int, count: int, skipped: int) -> tuple[str, ...]:
        hours, days = estimate.hours(count), estimate.days(count)
        megabytes = f"{count / 1e6:,.1f}"
        return name, f"{messages:,}", f"{skipped:,}", megabytes, _number(hours), _number(days)

    rows = [row(name, each.messages, each.total_bytes, each.skipped) for name, each in found.plans.items()]
    write_table(table, [*rows, row("sum", found.messages, found.total_bytes, found.skipped)])
    sentences = [f"{len(found.unchanged):,} mailboxes have not changed since they were done"] if found.unchanged else []
    if estimate.bytes_per_second is None:
        sentences.append("hours: say how fast it is with --speed, or have it measured with --measure")
    else:
        sentences.append(f"hours: at {speed_text(estimate.bytes_per_second)}")
    if estimate.bytes_per_day is None:
        sentences.append("days: no quota is known of this provider; say one with --daily-bytes")
    else:
        sentences.append(f"days: at {estimate.bytes_per_day / 1e6:,.0f} MB a day")
    write_result("\n".join(sentences))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"
