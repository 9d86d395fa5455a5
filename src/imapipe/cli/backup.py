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
from typing import Final

import orjson

import imapipe
from imapipe import search as q
from imapipe.cli.errors import Mistake, Status, explain
from imapipe.cli.export import make_sink, shortfall_of, split_place
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


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of one account: a report, or the sentence that says why there is none."""

    status: Status
    report: imapipe.AccountReport | None = None
    sentence: str = ""


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
    outcomes: dict[str, _Outcome] = {}
    turns = asyncio.Semaphore(options.at_once)
    display = choose_display(str(options.accounts), quiet=quiet)
    together = Together(display.show)

    async def back_up(settings: imapipe.AccountSettings) -> None:
        async with turns:
            try:
                sink = make_sink(kind, folder / f"{settings.name}{_FILES.get(kind, '')}", durable=options.durable)
                state = folder / ".imapipe" / f"{settings.name}.json"
                await asyncio.to_thread(state.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
                layers: list[imapipe.Middleware] = [
                    imapipe.Progress(together.show),
                    imapipe.Checkpoint(state, on_uidvalidity="restart"),
                    imapipe.Retry(outage_seconds=options.outage_seconds),
                ]
                if settings.bytes_per_day is not None:
                    # Another backup to this place may be of the same account.
                    shared = folder / ".imapipe" / "daily-bytes.json"
                    layers.append(imapipe.ByteBudget(settings.bytes_per_day, shared=shared))
                async with settings.open_pool() as pool:
                    group = pool.each(*settings.mailboxes, exclude=settings.exclude)
                    report = await group.search(criteria).fetch("full").use(*layers).run(sink)
            except Exception as error:  # noqa: BLE001 - whatever it is, the other accounts go on
                sentence, status = explain(error)
                outcomes[settings.name] = _Outcome(status, sentence=sentence)
            else:
                outcomes[settings.name] = _Outcome(Status.COMPLETE if report.complete else Status.PARTIAL, report)

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
            write_result(f"{name}\n{outcome.report.table() if outcome.report else outcome.sentence}\n")
    for name, outcome in ordered.items():
        if outcome.report is None:
            write_note(f"{name}: {outcome.sentence}")
        elif not outcome.report.complete:
            write_note(f"{name}: {shortfall_of(outcome.report)}")
    return max((outcome.status for outcome in ordered.values()), key=_WORST_LAST.index)


def _document(outcomes: dict[str, _Outcome]) -> str:
    accounts = {
        name: orjson.Fragment(outcome.report.to_json())
        if outcome.report
        else {"complete": False, "error": outcome.sentence}
        for name, outcome in outcomes.items()
    }
    complete = all(outcome.status is Status.COMPLETE for outcome in outcomes.values())
    return orjson.dumps({"complete": complete, "accounts": accounts}, option=orjson.OPT_INDENT_2).decode()
