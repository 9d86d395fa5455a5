"""`imapipe backup`: all mailboxes of several accounts, written to files; run again, only what is new.

Invariants:

- Whatever happens to one account, the others are done.
- Each account has a folder or a file of its own, and a checkpoint of its own in `.imapipe` beside them, for each kind
  of place. Where that is gone, or the folder of one of its mailboxes, so is what the checkpoint says of it: all that
  was there is fetched again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final, Protocol, Self, cast

import orjson
import typer

import imapipe
from imapipe import search as q
from imapipe.cli.errors import AsMistake, Mistake, Status, as_options, explain
from imapipe.cli.export import KINDS, make_sink, same_everywhere, shortfall_of, split_place
from imapipe.cli.mirrored import MirrorOptions, document_of, is_complete, refused, text_of
from imapipe.cli.options import LIMITS, LimitOptions, OutageSeconds
from imapipe.cli.output import write_json, write_note, write_result
from imapipe.cli.progress import choose_display
from imapipe.cli.together import Together

# One file for a whole account; the other kinds have folders.
_FILES: Final = {"jsonl": ".jsonl", "sqlite": ".sqlite"}
_WORST_LAST: Final = (Status.COMPLETE, Status.PARTIAL, Status.FAILED, Status.USAGE, Status.AUTHENTICATION)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupLimits(LimitOptions):
    """How fast, and how patient, with each account; what is given counts instead of what the file says."""

    connections: Annotated[
        int,
        typer.Option(
            min=0,
            max=100,
            show_default=False,
            help="Connections to each account at a time; what the file says, or what suits the provider, unless given.",
            rich_help_panel=LIMITS,
        ),
    ] = 0
    daily_bytes: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Of each account: wait when so many bytes came within 24 hours, such as 2G; what the file says, or "
            "four fifths of what the provider allows, unless given.",
            rich_help_panel=LIMITS,
        ),
    ] = None
    daily_bytes_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="Count these bytes in this file, for all that name it; in .imapipe beside the backup unless given.",
            rich_help_panel=LIMITS,
        ),
    ] = None
    outage: OutageSeconds = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupOptions:
    """What to back up, and where to; the options of the same names say more."""

    accounts: Path
    names: Sequence[str] = ()
    to: str
    search: str = "ALL"
    exclude: Sequence[str] = ()
    proxy: str | None = None
    at_once: int = 4
    durable: bool = True
    limits: BackupLimits
    mirrored: MirrorOptions

    def check(self, account: imapipe.AccountSettings) -> None:
        """Raises Mistake: what is wrong for this account, and so for every one."""
        self.limits.layers_within(self.limits.bytes_per_day, None)
        try:
            imapipe.create_pool(account.url, password="", proxy=self.proxy)
        except (ModuleNotFoundError, ValueError) as error:
            raise Mistake(str(error)) from error

    def settings_of(self, account: imapipe.AccountSettings) -> imapipe.AccountSettings:
        """What the file says of an account, and what was said at the prompt instead."""
        return replace(
            account,
            exclude=(*account.exclude, *self.exclude),
            connections=self.limits.connections or account.connections,
            daily_bytes=self.limits.bytes_per_day or account.daily_bytes,
            proxy=self.proxy or account.proxy,
        )


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of one account: a report, or the sentence that says why there is none."""

    status: Status
    report: imapipe.AccountReport | None = None
    mirrored: imapipe.AccountMirrorReport | None = None
    sentence: str = ""

    @classmethod
    def of(cls, report: imapipe.AccountReport, mirrored: imapipe.AccountMirrorReport | None) -> Self:
        """What two reports say."""
        is_whole = report.complete and is_complete(mirrored)
        return cls(Status.COMPLETE if is_whole else Status.PARTIAL, report, mirrored)

    @property
    def text(self) -> str:
        """For people."""
        if self.report is None:
            return self.sentence
        return as_options(self.report.table()) + ("" if self.mirrored is None else f"\n{text_of(self.mirrored)}")

    @property
    def shortfall(self) -> str:
        """One sentence on what it lacks, "" where it is complete."""
        if self.report is None:
            return self.sentence
        return refused(self.mirrored) if self.report.complete else shortfall_of(self.report)

    @property
    def document(self) -> object:
        """For machines."""
        if self.report is None:
            return {"complete": False, "error": self.sentence}
        return document_of(self.report, self.mirrored)


async def backup(options: BackupOptions, *, quiet: bool, json: bool) -> Status:
    """Back up the accounts, several at a time, and report; the status is that of the worst.

    Raises:
        Mistake, InvalidSearch, AccountsError: Before anything is sent.
    """
    with AsMistake():
        criteria = q.parse(options.search)
    accounts = imapipe.load_accounts(options.accounts)
    for name in options.names:
        if name not in accounts:
            raise Mistake(f"{options.accounts} has no account {name}; it has {', '.join(accounts)}")
    kind, folder = split_place(options.to)
    options.mirrored.check({kind: KINDS[kind]}, KINDS)
    options.check(next(iter(accounts.values())))
    outcomes: dict[str, _Outcome] = {}
    turns = asyncio.Semaphore(options.at_once)
    display = choose_display(str(options.accounts), quiet=quiet)
    together = Together(display.show, display.show_part)

    async def back_up(settings: imapipe.AccountSettings) -> None:
        async with turns:
            try:
                place = folder / f"{settings.name}{_FILES.get(kind, '')}"
                sink = make_sink(kind, place, durable=options.durable)
                state = folder / ".imapipe" / f"{settings.name}.{kind}.json"
                await asyncio.to_thread(state.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
                # Another backup to this place may be of the same account.
                shared = options.limits.daily_bytes_file or folder / ".imapipe" / "daily-bytes.json"
                layers = (
                    imapipe.Progress(together.show),
                    imapipe.Checkpoint(state, on_uidvalidity="match"),
                    *options.limits.layers_within(settings.bytes_per_day, shared),
                )
                async with settings.open_pool() as pool:
                    await _forget_what_is_gone(state, cast("_Filed", sink), pool, outage_seconds=options.limits.outage)
                    group = pool.each(*settings.mailboxes, exclude=settings.exclude)
                    report = await group.search(criteria).fetch("full").use(*layers).run(sink)
                    if (error := same_everywhere(report)) is not None:
                        raise error
                    mirrored = None
                    if options.mirrored.mirror:
                        mirrored = await group.mirror(
                            sink,
                            state,
                            max_deletions=options.mirrored.max_deletions,
                            outage_seconds=options.limits.outage,
                        )
            except Exception as error:  # noqa: BLE001 - whatever it is, the other accounts go on
                sentence, status = explain(error)
                outcomes[settings.name] = _Outcome(status, sentence=sentence)
            else:
                outcomes[settings.name] = _Outcome.of(report, mirrored)

    with display:
        async with asyncio.TaskGroup() as group:
            for name, settings in accounts.items():
                if not options.names or name in options.names:
                    group.create_task(back_up(options.settings_of(settings)))
    ordered = {name: outcomes[name] for name in accounts if name in outcomes}
    if json:
        write_json(_document(ordered))
    else:
        for name, outcome in ordered.items():
            write_result(f"{name}\n{outcome.text}\n")
    for name, outcome in ordered.items():
        if outcome.shortfall:
            write_note(f"{name}: {outcome.shortfall}")
    return max((outcome.status for outcome in ordered.values()), key=_WORST_LAST.index)


class _Filed(Protocol):
    """A sink that writes each mailbox of an account to some place; all of `KINDS` do."""

    path: Path

    def for_mailbox(self, name: str, delimiter: str | None) -> _Filed: ...


async def _forget_what_is_gone(state: Path, sink: _Filed, pool: imapipe.Pool, *, outage_seconds: float) -> None:
    """Forget what a checkpoint says of mailboxes whose folder or file is gone."""
    store = imapipe.JsonCheckpointStore(state)
    kept = {key.mailbox: key for key in await asyncio.to_thread(store.keys, pool.account)}
    if not kept:
        return
    listed = await pool.mailboxes(outage_seconds=outage_seconds)
    places = {each.name: sink.for_mailbox(each.name, each.delimiter).path for each in listed if each.name in kept}

    def forget() -> None:
        for name, place in places.items():
            if not place.exists():
                holding = store.open(kept[name])
                try:
                    holding.delete()
                finally:
                    holding.release()

    await asyncio.to_thread(forget)


def _document(outcomes: dict[str, _Outcome]) -> str:
    accounts = {name: outcome.document for name, outcome in outcomes.items()}
    complete = all(outcome.status is Status.COMPLETE for outcome in outcomes.values())
    return orjson.dumps({"complete": complete, "accounts": accounts}, option=orjson.OPT_INDENT_2).decode()
