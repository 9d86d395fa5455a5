"""`imapipe backup`: all mailboxes of several accounts, written to files; run again, only what is new.

Invariants:

- Whatever happens to one account, the others are done.
- Each account has a folder or a file of its own, and a checkpoint of its own in `.imapipe` beside them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import orjson

import imapipe
from imapipe import search as q
from imapipe.cli.errors import Mistake, Status, explain
from imapipe.cli.export import KINDS, make_sink, shortfall_of, split_place
from imapipe.cli.mirrored import MirrorOptions, document_of, is_complete, refused, text_of
from imapipe.cli.output import write_json, write_note, write_result
from imapipe.cli.progress import choose_display
from imapipe.cli.together import Together

# One file for a whole account; the other kinds have folders.
_FILES: Final = {"jsonl": ".jsonl", "sqlite": ".sqlite"}
_WORST_LAST: Final = (Status.COMPLETE, Status.PARTIAL, Status.FAILED, Status.USAGE, Status.AUTHENTICATION)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupOptions:
    """What to back up, and where to; the options of the same names say more."""

    accounts: Path
    names: Sequence[str] = ()
    to: str
    search: str = "ALL"
    at_once: int = 4
    outage_seconds: float = 300.0
    durable: bool = True
    mirrored: MirrorOptions


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
        return self.report.table() + ("" if self.mirrored is None else f"\n{text_of(self.mirrored)}")

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
    try:
        criteria = q.parse(options.search)
    except ValueError as error:
        raise Mistake(str(error)) from error
    accounts = imapipe.load_accounts(options.accounts)
    for name in options.names:
        if name not in accounts:
            raise Mistake(f"{options.accounts} has no account {name}; it has {', '.join(accounts)}")
    kind, folder = split_place(options.to)
    options.mirrored.check({kind: KINDS[kind]}, KINDS)
    outcomes: dict[str, _Outcome] = {}
    turns = asyncio.Semaphore(options.at_once)
    display = choose_display(str(options.accounts), quiet=quiet)
    together = Together(display.show, display.show_part)

    async def back_up(settings: imapipe.AccountSettings) -> None:
        async with turns:
            try:
                sink = make_sink(kind, folder / f"{settings.name}{_FILES.get(kind, '')}", durable=options.durable)
                state = folder / ".imapipe" / f"{settings.name}.json"
                await asyncio.to_thread(state.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
                layers: list[imapipe.Middleware] = [
                    imapipe.Progress(together.show),
                    imapipe.Checkpoint(state, on_uidvalidity="match"),
                    imapipe.Retry(outage_seconds=options.outage_seconds),
                ]
                if settings.bytes_per_day is not None:
                    # Another backup to this place may be of the same account.
                    shared = folder / ".imapipe" / "daily-bytes.json"
                    layers.append(imapipe.ByteBudget(settings.bytes_per_day, shared=shared))
                async with settings.open_pool() as pool:
                    group = pool.each(*settings.mailboxes, exclude=settings.exclude)
                    report = await group.search(criteria).fetch("full").use(*layers).run(sink)
                    mirrored = None
                    if options.mirrored.mirror:
                        mirrored = await group.mirror(
                            sink,
                            state,
                            max_deletions=options.mirrored.max_deletions,
                            outage_seconds=options.outage_seconds,
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
                    group.create_task(back_up(settings))
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


def _document(outcomes: dict[str, _Outcome]) -> str:
    accounts = {name: outcome.document for name, outcome in outcomes.items()}
    complete = all(outcome.status is Status.COMPLETE for outcome in outcomes.values())
    return orjson.dumps({"complete": complete, "accounts": accounts}, option=orjson.OPT_INDENT_2).decode()
