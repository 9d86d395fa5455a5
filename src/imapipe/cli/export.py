"""`imapipe export`: the mail of an account, or of some mailboxes, written to files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

import imapipe
from imapipe import search as q
from imapipe import sinks, store
from imapipe.cli.account import AccountOptions
from imapipe.cli.errors import AsMistake, Mistake, Status, as_options
from imapipe.cli.mirrored import MirrorOptions, document_of, is_complete, refused, text_of
from imapipe.cli.options import CheckpointOptions, LimitOptions, split_names
from imapipe.cli.output import write_json, write_note, write_report, write_result
from imapipe.cli.progress import choose_display
from imapipe.cli.scan import serves_again, shortfall
from imapipe.cli.together import Together

_PATTERN_CHARACTERS: Final = frozenset("*%\\")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What to export, and where to; the options of the same names say more."""

    mailboxes: Sequence[str] = ()
    to: Sequence[str]
    attachments: Path | None = None
    exclude: Sequence[str] = ()
    subscribed: bool = False
    search: str = "ALL"
    fetch: str = "full"
    durable: bool = True
    mirrored: MirrorOptions = field(default_factory=MirrorOptions)

    @property
    def one_mailbox(self) -> str | None:
        """The mailbox, where one is named and it is no pattern: its mail goes straight to the place that is named."""
        if len(self.mailboxes) == 1 and not _PATTERN_CHARACTERS & set(self.mailboxes[0]):
            return self.mailboxes[0]
        return None

    def check(self) -> None:
        """Raises Mistake: what has nothing to choose from; places that cannot mirror."""
        if self.one_mailbox is not None and (self.exclude or self.subscribed):
            option = "--exclude" if self.exclude else "--subscribed"
            raise Mistake(f"{option} chooses among mailboxes, and {self.one_mailbox!r} is one: leave {option} out")
        named: dict[str, object] = {kind: KINDS[kind] for kind, _ in map(split_place, self.to)}
        if self.attachments is not None:
            named["--attachments"] = sinks.Attachments
        self.mirrored.check(named, KINDS)

    def missing(self) -> list[str]:
        """The places that nothing was written to yet."""
        places = [path for _, path in map(split_place, self.to)]
        if self.attachments is not None:
            places.append(Path(self.attachments))
        return [str(path) for path in places if not path.exists()]

    def sink(self) -> imapipe.Sink:
        """Where all goes.

        Raises:
            Mistake: A place that is none.
        """
        made = [make_sink(*split_place(each), durable=self.durable) for each in self.to]
        if self.attachments is not None:
            made.append(sinks.Attachments(self.attachments, durable=self.durable))
        return made[0] if len(made) == 1 else sinks.Tee(*made)


def split_place(place: str) -> tuple[str, Path]:
    """The kind and the path of `KIND:PATH`. Raises Mistake."""
    kind, _, path = place.partition(":")
    if kind not in KINDS or not path:
        raise Mistake(f"--to {place}: use one of {', '.join(f'{kind}:PATH' for kind in KINDS)}")
    if path == "-":
        raise Mistake(
            f"--to {place}: it is written to files only; `imapipe follow --json` writes lines of JSON for a pipe"
        )
    return kind, Path(path)


def make_sink(kind: str, path: Path, *, durable: bool) -> imapipe.Sink:
    """A sink of a kind. Raises Mistake where it needs what is not installed."""
    try:
        return KINDS[kind](path, durable=durable)
    except ModuleNotFoundError as error:
        raise Mistake(str(error)) from error


KINDS: Final[Mapping[str, Callable[..., imapipe.Sink]]] = {
    "maildir": sinks.Maildir,
    "mbox": sinks.Mbox,
    "eml": sinks.EmlFolder,
    "jsonl": sinks.JsonLines,
    "parquet": sinks.Parquet,
    "sqlite": sinks.Sqlite,
}


async def export(
    account: AccountOptions,
    options: ExportOptions,
    kept: CheckpointOptions,
    limits: LimitOptions,
    *,
    quiet: bool,
    json: bool,
) -> Status:
    """Write the mail out, and report.

    Raises:
        Mistake, InvalidURL, InvalidSearch: Before anything is sent.
        SinkError: It cannot be written.
        ImapipeError: The job as a whole could not be done.
    """
    with AsMistake():
        options.check()
        criteria = q.parse(options.search)
        fetch = split_names(options.fetch)
        sink = options.sink()
        layers = [*kept.layers(), *limits.layers()]
        remembered = store.MemoryCheckpointStore() if kept.checkpoint is None else kept.checkpoint
        pool = account.open_pool(limits.connections)
        display = choose_display(options.one_mailbox or pool.account, quiet=quiet)
        show = display.show if options.one_mailbox is not None else Together(display.show, display.show_part).show
        use = (imapipe.Progress(show), *layers)
        # Its words are checked in any case.
        group = pool.each(*options.mailboxes, exclude=options.exclude, subscribed=options.subscribed)
        where = group if options.one_mailbox is None else pool.mailbox(options.one_mailbox)
        job = where.search(criteria).fetch(*fetch).use(*use)
    goes_on = kept.checkpoint is not None and kept.checkpoint.exists()
    fresh = options.missing() if goes_on else []
    report: imapipe.RunReport | imapipe.AccountReport
    mirrored: imapipe.MirrorReport | imapipe.AccountMirrorReport | None = None
    async with pool:
        with display:
            # What a sink needs and --fetch does not bring.
            with AsMistake():
                report = await job.run(sink)
            if isinstance(report, imapipe.AccountReport) and (error := same_everywhere(report)) is not None:
                raise error
            bound, outage = options.mirrored.max_deletions, limits.outage
            if options.mirrored.mirror and options.one_mailbox is None:
                mirrored = await group.mirror(sink, remembered, max_deletions=bound, outage_seconds=outage)
            elif options.mirrored.mirror:
                changes = pool.mailbox(options.one_mailbox or "").changes(
                    remembered, name="mirror", on_uidvalidity="restart", outage_seconds=outage
                )
                mirrored = await changes.mirror(sink, max_deletions=bound)
    status = _write(report, mirrored, json=json)
    if fresh:
        write_note(
            f"{' and '.join(fresh)} was not there, and has nothing of what {kept.checkpoint} says is done: "
            "for all of it use another --checkpoint, or none"
        )
    if isinstance(report, imapipe.AccountReport) and options.mailboxes:
        tell_if_nothing_fits(report, options.mailboxes)
    if report.complete:
        if sentence := refused(mirrored):
            write_note(sentence)
        return status
    resumable = kept.checkpoint is not None
    if isinstance(report, imapipe.RunReport):
        write_note(shortfall(report, resumable=resumable))
    else:
        write_note(shortfall_of(report))
    return status


def _write(
    report: imapipe.RunReport | imapipe.AccountReport,
    mirrored: imapipe.MirrorReport | imapipe.AccountMirrorReport | None,
    *,
    json: bool,
) -> Status:
    """Write both reports to standard output; gives the exit status that they stand for."""
    if mirrored is None:
        return write_report(report, json=json)
    if json:
        write_json(orjson.dumps(document_of(report, mirrored), option=orjson.OPT_INDENT_2).decode())
    else:
        write_result(f"{as_options(report.table())}\n{text_of(mirrored)}")
    return Status.COMPLETE if report.complete and is_complete(mirrored) else Status.PARTIAL


def same_everywhere(report: imapipe.AccountReport) -> Exception | None:
    """What the system said of one file or folder that kept every mailbox from being done; else None."""
    first = next(iter(report.errors.values()), None)
    if report.reports or report.unchanged or any(str(each) != str(first) for each in report.errors.values()):
        return None
    return first if first is not None and isinstance(first.__cause__, OSError) else None


def tell_if_nothing_fits(report: imapipe.AccountReport, words: Sequence[str]) -> None:
    """Say that patterns and special uses fit no mailbox, which is no error: one may be made later."""
    if not (report.reports or report.unchanged or report.errors):
        write_note(f"no mailbox fits {' or '.join(words)}: `imapipe folders` lists those there are")


def shortfall_of(report: imapipe.AccountReport) -> str:
    """One sentence on what a partial export lacks."""
    parts = []
    if report.failed:
        parts.append(f"{report.failed:,} of {report.planned:,} messages failed")
    if report.errors:
        count = len(report.errors)
        parts.append(f"{count:,} {'mailbox' if count == 1 else 'mailboxes'} could not be done")
    if report.unaccounted:
        parts.append(f"the server showed {report.unaccounted:,} messages fewer than it says the mailboxes hold")
    what = " and ".join(parts) or "an answer could not be read to its end, so messages may be missing"
    return f"{what}; the same command tries again{serves_again(report.retry_at)}"
