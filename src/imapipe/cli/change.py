r"""`imapipe move`, `flag`, `delete` and `undo`: looked at first, asked about, then done.

Invariants:

- Nothing is changed before somebody has said yes: at the prompt, or with `--yes`.
- What can be refused without a server is refused before one is asked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

import imapipe
from imapipe import search as q
from imapipe.cli.errors import Mistake, Status
from imapipe.cli.options import JOB, AccountOptions, LimitOptions
from imapipe.cli.output import write_document, write_note, write_report, write_result
from imapipe.cli.progress import choose_display
from imapipe.cli.scan import shortfall
from imapipe.cli.terminal import printable

# So many commands are shown to people; `--json` shows all of them.
_COMMANDS_SHOWN: Final = 6

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
    try:
        criteria = q.parse(options.search)
        layers = limits.layers()
        pool = account.open_pool(limits.connections)
        job = make(pool.mailbox(mailbox).search(criteria))
    except ValueError as error:
        raise Mistake(str(error)) from error
    async with pool:
        if consent.dry_run or not consent.yes:
            plan = await job.plan()
            write_plan(plan, json=json and consent.dry_run, to_person=not consent.dry_run)
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
    consent.check()
    try:
        layers = limits.layers()
        pool = account.open_pool(limits.connections)
    except ValueError as error:
        raise Mistake(str(error)) from error
    async with pool:
        if consent.dry_run or not consent.yes:
            plans, lost = await imapipe.plan_undo(journal, pool)
            if json and consent.dry_run:
                write_document({"plans": [_document(plan) for plan in plans], "lost": lost})
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


def write_plan(plan: imapipe.ChangePlan, *, json: bool, to_person: bool) -> None:
    """Write what would be done: to standard error before a question, else as the result."""
    if json:
        write_document(_document(plan))
        return
    lines = [
        f"change    {plan.change}",
        f"mailbox   {plan.mailbox}",
        *([f"target    {plan.target}"] if plan.target else []),
        f"messages  {plan.messages:,} ({plan.total_bytes:,} bytes)",
        *(f"such as   {message.subject}" for message in plan.sample),
        *(f"command   {command}" for command in plan.commands[:_COMMANDS_SHOWN]),
    ]
    if len(plan.commands) > _COMMANDS_SHOWN:
        lines.append(f"and {len(plan.commands) - _COMMANDS_SHOWN:,} commands more")
    for line in lines:
        if to_person:
            write_note(line)
        else:
            write_result(printable(line))


def _document(plan: imapipe.ChangePlan) -> dict[str, object]:
    return {
        "account": plan.account,
        "mailbox": plan.mailbox,
        "uidvalidity": plan.uidvalidity,
        "change": plan.change,
        "target": plan.target,
        "messages": plan.messages,
        "total_bytes": plan.total_bytes,
        "uids": plan.uids.text(),
        "commands": list(plan.commands),
        "sample": [{"uid": message.uid, "subject": message.subject} for message in plan.sample],
    }


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
