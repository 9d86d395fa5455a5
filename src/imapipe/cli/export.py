"""`imapipe export`: the mail of an account, or of some mailboxes, written to files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import imapipe
from imapipe import search as q
from imapipe import sinks
from imapipe.cli.errors import Mistake, Status
from imapipe.cli.options import AccountOptions, CheckpointOptions, LimitOptions
from imapipe.cli.output import write_note, write_report
from imapipe.cli.progress import choose_display
from imapipe.cli.scan import shortfall
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

    @property
    def one_mailbox(self) -> str | None:
        """The mailbox, where one is named and it is no pattern: its mail goes straight to the place that is named."""
        if len(self.mailboxes) == 1 and not _PATTERN_CHARACTERS & set(self.mailboxes[0]):
            return self.mailboxes[0]
        return None

    def check(self) -> None:
        """Raises Mistake: what has nothing to choose from."""
        if self.one_mailbox is not None and (self.exclude or self.subscribed):
            option = "--exclude" if self.exclude else "--subscribed"
            raise Mistake(f"{option} chooses among mailboxes, and {self.one_mailbox!r} is one: leave {option} out")

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
    if kind not in _KINDS or not path:
        raise Mistake(f"--to {place}: use one of {', '.join(f'{kind}:PATH' for kind in _KINDS)}")
    return kind, Path(path)


def check_mirrored(kind: str, max_deletions: str | None) -> None:
    """Raises Mistake: a kind of place that cannot follow flags and deletions, or a bound that is none."""
    if not hasattr(_KINDS[kind], "open_mirror"):
        mirrors = ", ".join(kind for kind, sink in _KINDS.items() if hasattr(sink, "open_mirror"))
        raise Mistake(f"--mirror does not go with {kind}: use one of {mirrors}")
    try:
        imapipe.DeletionBound.parse(max_deletions)
    except ValueError as error:
        raise Mistake(str(error)) from error


def make_sink(kind: str, path: Path, *, durable: bool) -> imapipe.Sink:
    """A sink of a kind. Raises Mistake where it needs what is not installed."""
    try:
        return _KINDS[kind](path, durable=durable)
    except ModuleNotFoundError as error:
        raise Mistake(str(error)) from error


_KINDS: Final[Mapping[str, Callable[..., imapipe.Sink]]] = {
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
    try:
        options.check()
        criteria = q.parse(options.search)
        fetch = options.fetch.split(",")
        sink = options.sink()
        layers = [*kept.layers(), *limits.layers()]
        pool = account.open_pool(limits.connections)
        display = choose_display(options.one_mailbox or pool.account, quiet=quiet)
        show = display.show if options.one_mailbox is not None else Together(display.show).show
        use = (imapipe.Progress(show), *layers)
        # Its words are checked in any case.
        group = pool.each(*options.mailboxes, exclude=options.exclude, subscribed=options.subscribed)
        where = group if options.one_mailbox is None else pool.mailbox(options.one_mailbox)
        job = where.search(criteria).fetch(*fetch).use(*use)
    except ValueError as error:
        raise Mistake(str(error)) from error
    report: imapipe.RunReport | imapipe.AccountReport
    async with pool:
        with display:
            try:
                report = await job.run(sink)
            except ValueError as error:
                # What a sink needs and --fetch does not bring.
                raise Mistake(str(error)) from error
    status = write_report(report, json=json)
    if report.complete:
        return status
    resumable = kept.checkpoint is not None
    if isinstance(report, imapipe.RunReport):
        write_note(shortfall(report, resumable=resumable))
    else:
        write_note(shortfall_of(report))
    return status


def shortfall_of(report: imapipe.AccountReport) -> str:
    """One sentence on what a partial export lacks."""
    parts = []
    if report.failed:
        parts.append(f"{report.failed:,} of {report.planned:,} messages failed")
    if report.errors:
        count = len(report.errors)
        parts.append(f"{count:,} {'mailbox' if count == 1 else 'mailboxes'} could not be read")
    if report.unaccounted:
        parts.append(f"the server showed {report.unaccounted:,} messages fewer than it says the mailboxes hold")
    what = " and ".join(parts) or "an answer could not be read to its end, so messages may be missing"
    return f"{what}; the same command tries again"
