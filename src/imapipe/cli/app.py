"""The commands and their options (typer)."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

import imapipe
from imapipe.cli.account import AccountOptions, Proxy
from imapipe.cli.backup import BackupLimits, BackupOptions, backup
from imapipe.cli.change_commands import add_change_commands
from imapipe.cli.copy_command import copy_command
from imapipe.cli.demo import DemoOptions, demo
from imapipe.cli.doctor import doctor_command
from imapipe.cli.errors import Status, explain
from imapipe.cli.execute import execute, forget_stdout
from imapipe.cli.export import ExportOptions, export
from imapipe.cli.find import FindOptions, find
from imapipe.cli.folders import folders
from imapipe.cli.follow_command import follow_command
from imapipe.cli.help import Commands
from imapipe.cli.index import IndexOptions, index
from imapipe.cli.jobs import jobs_app
from imapipe.cli.login import login_command
from imapipe.cli.mirrored import MirrorOptions
from imapipe.cli.options import (
    JOB,
    LIMITS,
    AttachmentsFolder,
    CheckpointOptions,
    Exclude,
    LimitOptions,
    MailboxWords,
    OutageSeconds,
    OutputOptions,
    Quiet,
    Search,
    Subscribed,
)
from imapipe.cli.output import write_note, write_result
from imapipe.cli.plan import PlanOptions, plan
from imapipe.cli.scan import ScanOptions, scan
from imapipe.cli.worker import worker_command

# One dash: what was meant is taking a flag away.
_LOOKS_LIKE_A_FLAG: Final = re.compile("No such option: -[^-]")

app = Commands(
    name="imapipe",
    help="Bulk work on IMAP mailboxes: resumable, and light on memory.",
    epilog="Exit status: 0 complete, 3 partial, 4 login refused, 2 usage, 1 the rest.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        write_result(f"imapipe {imapipe.__version__}")
        raise typer.Exit


@app.callback()
def _imapipe(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Bulk work on IMAP mailboxes: resumable, and light on memory."""


@app.named("scan")
def _scan(
    account: AccountOptions,
    kept: CheckpointOptions,
    limits: LimitOptions,
    output: OutputOptions,
    options: ScanOptions,
    quiet: Quiet = False,
) -> int:
    """Fetch what a search finds, and report. Messages are not marked as read."""
    work = scan(account, options, kept, limits, quiet=quiet, json=output.json)
    return execute(work, debug=output.debug, mailbox=options.mailbox, interrupted=kept.interrupted)


@app.named("export")
def _export(
    account: AccountOptions,
    to: Annotated[
        list[str],
        typer.Option(
            metavar="KIND:PATH",
            help="maildir:DIR, mbox:FILE, eml:DIR, jsonl:FILE, parquet:DIR, sqlite:FILE; may be given several times.",
            rich_help_panel=JOB,
        ),
    ],
    kept: CheckpointOptions,
    mirrored: MirrorOptions,
    limits: LimitOptions,
    output: OutputOptions,
    mailboxes: MailboxWords = None,
    attachments: AttachmentsFolder = None,
    exclude: Exclude = None,
    subscribed: Subscribed = False,
    search: Search = "ALL",
    fetch: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            help="For jsonl, parquet and sqlite alone also envelope, structure, text.",
            rich_help_panel=JOB,
        ),
    ] = "full",
    no_sync: Annotated[
        bool,
        typer.Option("--no-sync", help="Do not wait for the disk: not safe in a power cut.", rich_help_panel=JOB),
    ] = False,
    quiet: Quiet = False,
) -> int:
    """Write the mail of an account, or of some mailboxes, to files. With --checkpoint, only what is new."""
    options = ExportOptions(
        mailboxes=mailboxes or (),
        to=to,
        attachments=attachments,
        exclude=exclude or (),
        subscribed=subscribed,
        search=search,
        fetch=fetch,
        durable=not no_sync,
        mirrored=mirrored,
    )
    work = export(account, options, kept, limits, quiet=quiet, json=output.json)
    named = options.one_mailbox or ""
    return execute(work, debug=output.debug, mailbox=named, interrupted=kept.interrupted)


app.named("copy")(copy_command)
app.named("follow")(follow_command)


@app.named("backup")
def _backup(
    accounts: Annotated[
        Path, typer.Option(metavar="FILE", help="The accounts, in TOML; see the documentation.", rich_help_panel=JOB)
    ],
    to: Annotated[
        str,
        typer.Option(
            metavar="KIND:PATH",
            help="maildir:DIR, mbox:DIR, eml:DIR, jsonl:DIR, parquet:DIR, sqlite:DIR; each account below it.",
            rich_help_panel=JOB,
        ),
    ],
    mirrored: MirrorOptions,
    limits: BackupLimits,
    output: OutputOptions,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="ACCOUNT", help="Only these accounts of the file.")
    ] = None,
    search: Search = "ALL",
    exclude: Exclude = None,
    proxy: Proxy = None,
    at_once: Annotated[int, typer.Option(min=1, max=100, help="Accounts at a time.", rich_help_panel=LIMITS)] = 4,
    no_sync: Annotated[
        bool,
        typer.Option("--no-sync", help="Do not wait for the disk: not safe in a power cut.", rich_help_panel=JOB),
    ] = False,
    quiet: Quiet = False,
) -> int:
    """Write all mailboxes of several accounts to files; run again, only what is new."""
    options = BackupOptions(
        accounts=accounts,
        names=names or (),
        to=to,
        search=search,
        exclude=exclude or (),
        proxy=proxy,
        at_once=at_once,
        durable=not no_sync,
        limits=limits,
        mirrored=mirrored,
    )
    interrupted = "interrupted; what is done is safe, and the same command goes on there"
    return execute(backup(options, quiet=quiet, json=output.json), debug=output.debug, interrupted=interrupted)


@app.named("plan")
def _plan(
    account: AccountOptions,
    kept: CheckpointOptions,
    limits: LimitOptions,
    output: OutputOptions,
    options: PlanOptions,
    quiet: Quiet = False,
) -> int:
    """Say what an export would bring: messages, bytes, hours, days. With --checkpoint, what is left."""
    return execute(plan(account, options, kept, limits, quiet=quiet, json=output.json), debug=output.debug)


@app.named("index")
def _index(
    account: AccountOptions,
    options: IndexOptions,
    limits: LimitOptions,
    output: OutputOptions,
    quiet: Quiet = False,
) -> int:
    """Bring a local index up to date with a mailbox; only what is new is fetched."""
    interrupted = f"interrupted; what was added is in {options.to}, and the same command goes on there"
    work = index(account, options, limits, quiet=quiet, json=output.json)
    return execute(work, debug=output.debug, mailbox=options.mailbox, interrupted=interrupted)


@app.named("find")
def _find(options: FindOptions, output: OutputOptions) -> int:
    """Find messages in a local index, newest first. No server is needed."""
    return execute(find(options, json=output.json), debug=output.debug)


@app.named("folders")
def _folders(
    account: AccountOptions,
    output: OutputOptions,
    pattern: Annotated[
        str, typer.Option(help="Which ones; * stands for anything, % for anything on one level.", rich_help_panel=JOB)
    ] = "*",
    outage: OutageSeconds = 0.0,
) -> int:
    """List the mailboxes of an account, with their counts."""
    work = folders(account, pattern, outage_seconds=outage, json=output.json)
    return execute(work, debug=output.debug)


app.named("login")(login_command)
app.named("doctor")(doctor_command)
app.named("worker")(worker_command)
app.add_typer(jobs_app)


@app.named("demo")
def _demo(
    output: OutputOptions,
    messages: Annotated[int, typer.Option(min=1000, max=100_000, help="How many messages the mailbox holds.")] = 5000,
    rate: Annotated[
        float, typer.Option(min=0, help="Messages a second, so that there is something to watch; 0: no limit.")
    ] = 1000.0,
) -> int:
    """Kill a job in the middle, resume it, and prove that nothing was lost. Needs no mail account."""
    return execute(demo(DemoOptions(messages=messages, rate=rate, json=output.json)), debug=output.debug)


add_change_commands(app)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; see `imapipe.cli.main`."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets its number instead of a UnicodeEncodeError.
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")
    command = typer.main.get_command(app)
    try:
        status = command.main(
            args=None if arguments is None else list(arguments), prog_name="imapipe", standalone_mode=False
        )
    except BrokenPipeError:
        forget_stdout()
        return Status.FAILED
    except OSError as error:
        # What --help and --version write is written before there is a command.
        forget_stdout()
        write_note(explain(error)[0])
        return Status.FAILED
    except typer.Abort:
        return Status.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - click's classes cannot be named; what is not of it is raised again.
        return _usage_error(error)
    return int(status or 0)


# What versions of typer say of a value, and how a person says it.
_OF_VALUES: Final = (
    ("Input should be a valid integer, unable to parse string as an integer", "use a whole number"),
    ("Input should be a valid number, unable to parse string as a number", "use a number"),
    ("Input should be greater than or equal to", "use a number from"),
    ("Input should be less than or equal to", "use a number up to"),
    ("Value error, ", ""),
)


def _usage_error(error: Exception) -> int:
    """Tell what is wrong with the arguments. Click's own classes are nowhere public: newer typers bring their own."""
    if type(error).__name__ == "NoArgsIsHelpError":
        show = getattr(error, "show", None)
        if show is not None:
            show()
        return Status.USAGE
    format_message = getattr(error, "format_message", None)
    if format_message is None:
        raise error
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "imapipe")
    message = format_message()
    for said, words in _OF_VALUES:
        message = message.replace(said, words)
    if path.endswith(" flag") and _LOOKS_LIKE_A_FLAG.match(message):
        message = f"{message}; flags that begin with - stand behind --, as in `imapipe flag URL INBOX -- -$Junk`"
    write_note(f"{message} (see `{path} --help`)")
    return Status.USAGE
