r"""`imapipe move`, `flag`, `delete` and `undo`: looked at first, asked about, then done.

Invariants:

- Nothing is changed before somebody has said yes: at the prompt, or with `--yes`.
- What can be refused without a server is refused before one is asked.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

import imapipe
from imapipe import search as q
from imapipe.cli.account import AccountOptions
from imapipe.cli.errors import AsMistake, Mistake, Status
from imapipe.cli.options import JOB, LimitOptions
from imapipe.cli.output import write_document, write_lines, write_note, write_report, write_result
from imapipe.cli.progress import choose_display
from imapipe.cli.scan import shortfall
from imapipe.cli.terminal import printable

# So many commands are shown to people; `--json` shows all of them.
_COMMANDS_SHOWN: Final = 6
# And so many characters of each.
_COMMAND_WIDTH: Final = 100

Change = Callable[[imapipe.Pipeline], imapipe.ChangePipeline]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentOptions:
    """Whether it is done."""

    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only show what would be done, with the very commands.", rich_help_panel=JOB),
    ] = False
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.", rich_help_panel=JOB)] = False

    def check(self) -> None:
        """Refuse to wait for an answer that nobody can give. Raises Mistake."""
        if not (self.dry_run or self.yes or is_asked()):
            raise Mistake("nobody can be asked here: look first with --dry-run, then say --yes")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeOptions:
    """Which messages, and how it is made safe."""

    search: Annotated[
        str, typer.Option(metavar="KEYS", help="Which messages, such as 'BEFORE 90d SEEN'.", rich_help_panel=JOB)
    ] = "ALL"
    journal: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write down each command before it is sent: to go on after a crash, and for `imapipe undo`.",
            rich_help_panel=JOB,
        ),
    ] = None
    max_messages: Annotated[
        int | None, typer.Option(min=0, help="Refuse where there are more.", rich_help_panel=JOB)
    ] = None


async def change(
    account: AccountOptions,
    mailbox: str,
    make: Change,
    options: ChangeOptions,
    consent: ConsentOptions,
    limits: LimitOptions,
    *,
    quiet: bool,
    json: bool,
) -> Status:
    """Make a change of the messages that a search finds, and write its report.

    Raises:
        Mistake, InvalidURL, InvalidSearch: Before anything is sent.
        ImapipeError: It could not be done.
    """
    consent.check()
    with AsMistake():
        criteria = q.parse(options.search)
        layers = limits.layers()
        pool = account.open_pool(limits.connections)
        job = make(pool.mailbox(mailbox).search(criteria))
    async with pool:
        if consent.dry_run or not consent.yes:
            plan = await job.plan()
            way_back = _way_back(plan, options.journal)
            write_plan(plan, json=json and consent.dry_run, to_person=not consent.dry_run, way_back=way_back)
            if consent.dry_run:
                return Status.COMPLETE
            if not ask(f"{plan.change}: {plan.messages:,} messages of {mailbox}?"):
                write_note("nothing was changed")
                return Status.FAILED
        display = choose_display(mailbox, quiet=quiet)
        with display:
            report = await job.use(imapipe.Progress(display.show), *layers).run(
                journal=options.journal, max_messages=options.max_messages
            )
    status = write_report(report, json=json)
    if not report.complete:
        write_note(shortfall(report, resumable=options.journal is not None))
    return status


async def take_back(
    account: AccountOptions,
    journal: Path,
    consent: ConsentOptions,
    limits: LimitOptions,
    *,
    max_messages: int | None,
    quiet: bool,
    json: bool,
) -> Status:
    """Undo a change by its journal, and write what could be undone.

    Raises:
        Mistake, InvalidURL: Before anything is sent.
        ImapipeError: It could not be done.
    """
    if not await asyncio.to_thread(journal.exists):
        raise imapipe.JournalError("No such file or directory; name the --journal of the change", path=str(journal))
    consent.check()
    with AsMistake():
        layers = limits.layers()
        pool = account.open_pool(limits.connections)
    async with pool:
        if consent.dry_run or not consent.yes:
            plans, lost = await imapipe.plan_undo(journal, pool)
            if json and consent.dry_run:
                write_document({"plans": [plan.to_dict() for plan in plans], "lost": lost})
            else:
                for plan in plans:
                    write_plan(plan, json=False, to_person=not consent.dry_run)
            for reason, count in lost.items():
                write_note(f"{count:,} messages cannot be brought back: {reason}")
            if consent.dry_run:
                return Status.COMPLETE
            if not ask(f"undo {journal}?"):
                write_note("nothing was changed")
                return Status.FAILED
        display = choose_display(str(journal), quiet=quiet)
        with display:
            report = await imapipe.undo(
                journal, pool, use=(imapipe.Progress(display.show), *layers), max_messages=max_messages
            )
        return write_report(report, json=json)


def write_plan(plan: imapipe.ChangePlan, *, json: bool, to_person: bool, way_back: str = "") -> None:
    """Write what would be done: to standard error before a question, else as the result."""
    if json:
        write_document(plan.to_dict())
        return
    rows = [
        ("change", plan.change),
        ("mailbox", plan.mailbox),
        *([("target", plan.target)] if plan.target else []),
        ("messages", f"{plan.messages:,} ({plan.total_bytes:,} bytes)"),
        *(("such as", message.subject or "") for message in plan.sample),
        *(("command", _shortened(command)) for command in plan.commands[:_COMMANDS_SHOWN]),
    ]
    if len(plan.commands) > _COMMANDS_SHOWN:
        rows.append(("", f"and {len(plan.commands) - _COMMANDS_SHOWN:,} commands more"))
    if way_back:
        rows.append(("way back", way_back))
    text = "\n".join(f"{label:<10}{printable(value)}" for label, value in rows)
    if to_person:
        write_lines(text)
    else:
        write_result(text)


def _way_back(plan: imapipe.ChangePlan, journal: Path | None) -> str:
    if any(command.startswith("UID EXPUNGE") for command in plan.commands) and not plan.target:
        return "none: what is removed for good is gone"
    return "none: name a --journal for one" if journal is None else f"`imapipe undo` with {journal}"


def _shortened(command: str) -> str:
    """A command without the middle of its many UIDs."""
    half = _COMMAND_WIDTH // 2
    return command if len(command) <= _COMMAND_WIDTH else f"{command[:half]} … {command[-half:]}"


def read_flags(text: str) -> Change:
    r"""Read what is to be done with flags, such as `+\Seen -$Junk`, or `=\Seen` for these and no others.

    Raises:
        Mistake: It is nothing of the kind.
    """
    words = text.split()
    for word in words:
        if word[0] not in "+-=" or len(word) == 1:
            raise Mistake(rf"{word}: put + or - before each flag, or = for these and no others, as in '+\Seen -$Junk'")
    exact = [word[1:] for word in words if word[0] == "="]
    if not words or (exact and len(exact) < len(words)):
        raise Mistake(r"say what is to be done with which flags: '+\Seen -$Junk', or '=\Seen' for these and no others")
    if exact:
        return lambda found: found.set_flags(*exact)
    return lambda found: found.change_flags(*words)


def is_asked() -> bool:
    """Whether a person can be asked."""
    return sys.stdin is not None and sys.stdin.isatty()


def ask(question: str) -> bool:
    """Ask at the prompt; only a clear yes is one."""
    sys.stderr.write(f"{printable(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
