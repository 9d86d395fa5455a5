"""`imapipe copy`: the mailboxes of an account, copied into another one.

Invariant: with `--dry-run` nothing is made and nothing is sent to the other account but questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.table import Table

import imapipe
from imapipe import search as q
from imapipe import sinks
from imapipe.cli.account import AccountOptions
from imapipe.cli.errors import AsMistake, Mistake, Status, as_options, explain
from imapipe.cli.export import same_everywhere, shortfall_of, tell_if_nothing_fits
from imapipe.cli.options import LimitOptions
from imapipe.cli.output import write_document, write_note, write_result, write_table
from imapipe.cli.progress import choose_display
from imapipe.cli.terminal import printable
from imapipe.cli.together import Together

_TARGET_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOptions:
    """What to copy; the options of the same names say more."""

    mailboxes: Sequence[str] = ()
    exclude: Sequence[str] = ()
    subscribed: bool = False
    folders: Sequence[str] = ()
    labels: sinks.Labels = "each"
    state: Path | None = None
    dry_run: bool = False
    verify: bool = False

    def renamed(self) -> dict[str, str]:
        """The places that were said. Raises Mistake."""
        renamed: dict[str, str] = {}
        for text in self.folders:
            name, separator, place = text.partition("=")
            if not (name and separator and place):
                raise Mistake(f"--folder {text}: say which mailbox goes where, such as --folder 'Sent Items=Sent'")
            renamed[name] = place
        return renamed


@dataclass(frozen=True, slots=True)
class _Target:
    """What is known of the target before anything is copied.

    Attributes:
        folders: The places in it.
        bytes_left: How many bytes there is room for, or None where that is not known.
        max_message_bytes: The bytes of the largest message that it takes, or None where that is not known.
    """

    folders: sinks.FolderMap
    bytes_left: int | None
    max_message_bytes: int | None

    def room(self, count: int) -> str:
        """One sentence where so many bytes do not fit, else ""."""
        left = self.bytes_left
        if left is None or count <= left:
            return ""
        sizes = f"{left / 1e6:,.1f} MB, and there are {count / 1e6:,.1f} MB to copy"
        return f"the target has room for {sizes}: make room there"


async def copy(
    source: AccountOptions,
    target: AccountOptions,
    options: CopyOptions,
    limits: LimitOptions,
    *,
    quiet: bool,
    json: bool,
) -> Status:
    """Copy the mailboxes, and report; with `--verify` say what differs.

    Raises:
        Mistake, InvalidURL: Before anything is sent.
        SinkError: The state cannot be used.
        ImapipeError: One of the accounts as a whole could not be used.
    """
    with AsMistake():
        renamed = options.renamed()
        layers = limits.layers()
        old, new = source.open_pool(limits.connections), target.open_pool(limits.connections)
        if old.account == new.account and not renamed:
            raise Mistake(
                "source and target are the same account: name another one, or say with --folder what goes where"
            )
        # Its words are checked in any case.
        for name, place in renamed.items():
            old.mailbox(name)
            new.mailbox(place)
        old.each(*options.mailboxes, exclude=options.exclude, subscribed=options.subscribed)
    async with old, new:
        # A connection that is lost in the middle of a message is no reason to end.
        patience = limits.outage or _TARGET_SECONDS
        there = await _look(old, new, renamed, outage_seconds=limits.outage)
        left_out = [] if options.mailboxes else [name for name in there.folders.left_out if name not in options.exclude]
        group = old.each(*options.mailboxes, exclude=(*options.exclude, *left_out), subscribed=options.subscribed)
        job = group.search(q.ALL).fetch("full").use(*layers)
        sink = sinks.Account(new, there.folders, state=options.state, labels=options.labels, outage_seconds=patience)
        if options.dry_run:
            return await _plan(job, sink, there, left_out, json=json)
        display = choose_display(f"{old.account} to {new.account}", quiet=quiet)
        with display:
            report = await job.use(imapipe.Progress(Together(display.show, display.show_part).show)).run(sink)
        if (error := same_everywhere(report)) is not None:
            raise error
        differences = None
        if options.verify:
            copied = [*report.reports, *report.unchanged]
            differences = await sinks.verify_copy(
                old, new, there.folders, copied, labels=None if options.mailboxes else options.labels, use=layers
            )
    _write(report, differences, there.folders, left_out, json=json)
    for name in left_out:
        write_note(
            f"{name} was left out: it shows messages of other mailboxes, or is of somebody else; name it with --mailbox"
        )
    if options.mailboxes:
        tell_if_nothing_fits(report, options.mailboxes)
    if not report.complete:
        write_note(shortfall_of(report))
        for name, reason in report.errors.items():
            write_note(f"{printable(name)}: {explain(reason, mailbox=name)[0]}")
    if differences is not None and not differences.complete:
        write_note("the copies are not the same: the report says what differs; the same command copies what is missing")
    return Status.COMPLETE if report.complete and (differences is None or differences.complete) else Status.PARTIAL


async def _look(old: imapipe.Pool, new: imapipe.Pool, renamed: Mapping[str, str], *, outage_seconds: float) -> _Target:
    folders = await sinks.map_folders(old, new, renamed, outage_seconds=outage_seconds)
    async with new.acquire() as connection:
        room = [each.bytes_left for each in await connection.quota()]
        return _Target(folders, min((each for each in room if each is not None), default=None), connection.append_limit)


async def _plan(
    job: imapipe.AccountPipeline, sink: sinks.Account, there: _Target, left_out: Sequence[str], *, json: bool
) -> Status:
    """Say what would be copied, and where to; with a state, what was copied before."""
    found = await job.plan()
    copied = {name: len(await sink.copied(found.account, each)) for name, each in found.plans.items()}
    limit = there.max_message_bytes
    large: Mapping[str, int] = {}
    if limit is not None:
        larger = await job.search(q.larger(limit)).plan()
        large = {name: each.messages for name, each in larger.plans.items() if each.messages}
    places = {name: there.folders.place_of(name).name for name in found.plans}
    if json:
        mailboxes = {
            name: {
                "place": places[name],
                "messages": each.messages,
                "bytes": each.total_bytes,
                "copied": copied[name],
                "too_large": large.get(name, 0),
            }
            for name, each in found.plans.items()
        }
        write_document(
            {
                "messages": found.messages,
                "bytes": found.total_bytes,
                "copied": sum(copied.values()),
                "bytes_left": there.bytes_left,
                "max_message_bytes": limit,
                "left_out": list(left_out),
                "mailboxes": mailboxes,
                "errors": {name: str(error) for name, error in found.errors.items()},
            }
        )
    else:
        table = Table(box=None, pad_edge=False)
        for heading in ("mailbox", "place"):
            table.add_column(heading, overflow="fold")
        for heading in ("messages", "MB", "copied", "too large"):
            table.add_column(heading, justify="right", no_wrap=True)
        rows = [
            (name, places[name], *_numbers(each.messages, each.total_bytes, copied[name], large.get(name, 0)))
            for name, each in found.plans.items()
        ]
        total = _numbers(found.messages, found.total_bytes, sum(copied.values()), sum(large.values()))
        write_table(table, [*rows, ("sum", "", *total)])
        if limit is not None:
            write_result(f"the target takes no message above {limit:,} bytes")
    if room := there.room(found.total_bytes):
        write_note(room)
    for name, error in found.errors.items():
        write_note(f"{printable(name)}: {error}")
    return Status.PARTIAL if found.errors else Status.COMPLETE


def _numbers(messages: int, total_bytes: int, copied: int, large: int) -> tuple[str, ...]:
    return f"{messages:,}", f"{total_bytes / 1e6:,.1f}", f"{copied:,}", f"{large:,}"


def _write(
    report: imapipe.AccountReport,
    differences: sinks.CopyDifferences | None,
    folders: sinks.FolderMap,
    left_out: Sequence[str],
    *,
    json: bool,
) -> None:
    if not json:
        write_result("\n".join(as_options(each.table()) for each in (report, differences) if each is not None))
        return
    document: dict[str, object] = {
        **report.to_dict(),
        "places": {name: folders.place_of(name).name for name in report.reports},
        "left_out": list(left_out),
    }
    if differences is not None:
        document["verify"] = differences.to_dict()
    write_document(document)
