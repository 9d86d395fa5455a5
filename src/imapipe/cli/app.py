"""The commands and their options (typer)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

import imapipe
from imapipe.cli.demo import DemoOptions, demo
from imapipe.cli.errors import Status
from imapipe.cli.execute import execute, forget_stdout
from imapipe.cli.find import FindOptions, find
from imapipe.cli.folders import folders
from imapipe.cli.index import IndexOptions, index
from imapipe.cli.options import AccountOptions, Compress
from imapipe.cli.output import write_note, write_result
from imapipe.cli.scan import OnMismatch, OnUidvalidity, ScanOptions, scan

app = typer.Typer(
    name="imapipe",
    help="Bulk work on IMAP mailboxes: resumable, and light on memory.",
    epilog="Exit status: 0 complete, 3 partial, 4 login refused, 2 usage, 1 the rest.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_ACCOUNT = "Account and connection"
_JOB = "What to do"
_LIMITS = "Limits and failures"
_OUTPUT = "Output"

Url = Annotated[
    str, typer.Argument(metavar="URL", help="imaps://user@host[:993] for TLS, imap://user@host[:143] for STARTTLS.")
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        help="A file with the password in its first line; else IMAPIPE_PASSWORD, else a prompt.",
        rich_help_panel=_ACCOUNT,
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(help="A file with an OAuth 2 access token, read again at every connect.", rich_help_panel=_ACCOUNT),
]
Starttls = Annotated[
    bool | None,
    typer.Option(
        "--starttls/--no-starttls",
        help="Demand STARTTLS, or do without; used where it is offered unless said.",
        rich_help_panel=_ACCOUNT,
    ),
]
AllowPlaintext = Annotated[
    bool, typer.Option("--allow-plaintext", help="Send the password without encryption.", rich_help_panel=_ACCOUNT)
]
CaFile = Annotated[
    Path | None,
    typer.Option(help="Trust the certificates in this PEM file, and no others.", rich_help_panel=_ACCOUNT),
]
Compression = Annotated[
    Compress,
    typer.Option(
        "--compress", help="COMPRESS=DEFLATE; auto: only where it makes things faster.", rich_help_panel=_ACCOUNT
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        min=0.1, metavar="SECONDS", help="For connecting, and for a server that is silent.", rich_help_panel=_ACCOUNT
    ),
]
Outage = Annotated[
    float,
    typer.Option(
        min=0.0,
        metavar="SECONDS",
        help="How long to wait for a server that does not work, at the beginning and later on.",
        rich_help_panel=_LIMITS,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Write one JSON document to standard output.", rich_help_panel=_OUTPUT)
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.", rich_help_panel=_OUTPUT)]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error comes from.", rich_help_panel=_OUTPUT)]


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


@app.command("scan")
def _scan(
    url: Url,
    mailbox: Annotated[
        str, typer.Argument(metavar="MAILBOX", help="Its name, such as INBOX; `imapipe folders` lists them.")
    ],
    search: Annotated[
        str,
        typer.Option(
            metavar="KEYS",
            help="Which messages, such as 'SINCE 2024-01-01 UNSEEN' or 'FROM ann'.",
            rich_help_panel=_JOB,
        ),
    ] = "ALL",
    fetch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT",
            help="uid, flags, size, envelope, structure, headers, full …; may be given several times.",
            show_default="envelope",
            rich_help_panel=_JOB,
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Keep what is done in this file; the same command goes on there.", rich_help_panel=_JOB
        ),
    ] = None,
    name: Annotated[
        str,
        typer.Option(
            help="Name the job in its checkpoint: it is then the same whatever is searched.", rich_help_panel=_JOB
        ),
    ] = "",
    limit: Annotated[int | None, typer.Option(min=0, help="At most so many messages.", rich_help_panel=_JOB)] = None,
    newest_first: Annotated[
        bool, typer.Option("--newest-first", help="Highest UIDs first.", rich_help_panel=_JOB)
    ] = False,
    connections: Annotated[
        int,
        typer.Option(min=1, max=100, help="Connections at a time; providers allow 10 to 20.", rich_help_panel=_LIMITS),
    ] = 4,
    concurrency: Annotated[
        int, typer.Option(min=1, max=10_000, help="Messages in hand at a time.", rich_help_panel=_LIMITS)
    ] = 8,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="NUMBER", help="At most so many messages a second.", rich_help_panel=_LIMITS),
    ] = None,
    bytes_rate: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="At most so many bytes a second, such as 5M.", rich_help_panel=_LIMITS),
    ] = None,
    retries: Annotated[
        int,
        typer.Option(min=0, max=100, help="Tries after the first one that brought nothing.", rich_help_panel=_LIMITS),
    ] = 4,
    outage: Outage = 0.0,
    on_uidvalidity: Annotated[
        OnUidvalidity,
        typer.Option(help="Where the mailbox was renumbered: stop, or begin anew.", rich_help_panel=_LIMITS),
    ] = OnUidvalidity.stop,
    on_mismatch: Annotated[
        OnMismatch,
        typer.Option(
            help="With the checkpoint of another search: stop, or accept what is done.", rich_help_panel=_LIMITS
        ),
    ] = OnMismatch.stop,
    password_file: PasswordFile = None,
    token_file: TokenFile = None,
    starttls: Starttls = None,
    allow_plaintext: AllowPlaintext = False,
    ca_file: CaFile = None,
    compress: Compression = Compress.auto,
    timeout: Timeout = 30.0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Fetch what a search finds, and report. Messages are not marked as read."""
    account = AccountOptions(
        url=url,
        connections=connections,
        password_file=password_file,
        token_file=token_file,
        starttls=starttls,
        allow_plaintext=allow_plaintext,
        ca_file=ca_file,
        compress=compress,
        timeout_seconds=timeout,
    )
    options = ScanOptions(
        mailbox=mailbox,
        search=search,
        fetch=fetch or ("envelope",),
        concurrency=concurrency,
        limit=limit,
        newest_first=newest_first,
        checkpoint=checkpoint,
        name=name,
        on_uidvalidity=on_uidvalidity,
        on_mismatch=on_mismatch,
        retries=retries,
        outage_seconds=outage,
        rate=rate,
        bytes_rate=bytes_rate,
        quiet=quiet,
        json=json,
    )
    saved = f"; what is done is in {checkpoint}, and the same command goes on there" if checkpoint else ""
    return execute(scan(account, options), debug=debug, mailbox=mailbox, interrupted=f"interrupted{saved}")


@app.command("index")
def _index(
    url: Url,
    mailbox: Annotated[str, typer.Argument(metavar="MAILBOX", help="Its name, such as INBOX.")],
    to: Annotated[
        Path, typer.Option(metavar="FILE", help="The index; made where there is none.", rich_help_panel=_JOB)
    ],
    search: Annotated[
        str, typer.Option(metavar="KEYS", help="Which messages, such as 'SINCE 30d'.", rich_help_panel=_JOB)
    ] = "ALL",
    connections: Annotated[
        int, typer.Option(min=1, max=100, help="Connections at a time.", rich_help_panel=_LIMITS)
    ] = 1,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="NUMBER", help="At most so many messages a second.", rich_help_panel=_LIMITS),
    ] = None,
    retries: Annotated[
        int,
        typer.Option(min=0, max=100, help="Tries after the first one that brought nothing.", rich_help_panel=_LIMITS),
    ] = 4,
    outage: Outage = 0.0,
    password_file: PasswordFile = None,
    token_file: TokenFile = None,
    starttls: Starttls = None,
    allow_plaintext: AllowPlaintext = False,
    ca_file: CaFile = None,
    compress: Compression = Compress.auto,
    timeout: Timeout = 30.0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Bring a local index up to date with a mailbox; only what is new is fetched."""
    account = AccountOptions(
        url=url,
        connections=connections,
        password_file=password_file,
        token_file=token_file,
        starttls=starttls,
        allow_plaintext=allow_plaintext,
        ca_file=ca_file,
        compress=compress,
        timeout_seconds=timeout,
    )
    options = IndexOptions(
        mailbox=mailbox, to=to, search=search, retries=retries, outage_seconds=outage, rate=rate, quiet=quiet, json=json
    )
    interrupted = f"interrupted; what was added is in {to}, and the same command goes on there"
    return execute(index(account, options), debug=debug, mailbox=mailbox, interrupted=interrupted)


@app.command("find")
def _find(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An index that `imapipe index` made.")],
    sender: Annotated[
        str | None,
        typer.Option(metavar="WHO", help="A whole address, or words of a name or address.", rich_help_panel=_JOB),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(metavar="WORDS", help="Words of the subject; inv* stands for its like.", rich_help_panel=_JOB),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="DATE", help="On that day or later: 2024-01-31, or 30d.", rich_help_panel=_JOB)
    ] = None,
    before: Annotated[
        str | None, typer.Option(metavar="DATE", help="Before that day: 2024-01-31, or 30d.", rich_help_panel=_JOB)
    ] = None,
    size_class: Annotated[
        imapipe.SizeClass | None,
        typer.Option(help="Below 1 KiB, 10 KiB, 100 KiB, 1 MiB, or above.", rich_help_panel=_JOB),
    ] = None,
    text: Annotated[
        str | None, typer.Option(metavar="WORDS", help="Words of sender or subject.", rich_help_panel=_JOB)
    ] = None,
    mailbox: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only in this mailbox.", rich_help_panel=_JOB)
    ] = None,
    account: Annotated[
        str | None, typer.Option(metavar="USER@HOST:PORT", help="Only of this account.", rich_help_panel=_JOB)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.", rich_help_panel=_JOB)] = 50,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Find messages in a local index, newest first. No server is needed."""
    options = FindOptions(
        file=file,
        sender=sender,
        subject=subject,
        text=text,
        since=since,
        before=before,
        size_class=size_class,
        mailbox=mailbox,
        account=account,
        limit=limit,
        json=json,
    )
    return execute(find(options), debug=debug)


@app.command("folders")
def _folders(
    url: Url,
    pattern: Annotated[
        str, typer.Option(help="Which ones; * stands for anything, % for anything on one level.", rich_help_panel=_JOB)
    ] = "*",
    password_file: PasswordFile = None,
    token_file: TokenFile = None,
    starttls: Starttls = None,
    allow_plaintext: AllowPlaintext = False,
    ca_file: CaFile = None,
    timeout: Timeout = 30.0,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """List the mailboxes of an account, with their counts."""
    account = AccountOptions(
        url=url,
        password_file=password_file,
        token_file=token_file,
        starttls=starttls,
        allow_plaintext=allow_plaintext,
        ca_file=ca_file,
        timeout_seconds=timeout,
    )
    return execute(folders(account, pattern, json=json), debug=debug)


@app.command("demo")
def _demo(
    messages: Annotated[int, typer.Option(min=1000, max=100_000, help="How many messages the mailbox holds.")] = 5000,
    rate: Annotated[
        float, typer.Option(min=0, help="Messages a second, so that there is something to watch; 0: no limit.")
    ] = 1000.0,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Kill a job in the middle, resume it, and prove that nothing was lost. Needs no mail account."""
    return execute(demo(DemoOptions(messages=messages, rate=rate, json=json)), debug=debug)


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
    except typer.Abort:
        return Status.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - click's classes cannot be named; what is not of it is raised again.
        return _usage_error(error)
    return int(status or 0)


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
    write_note(f"{format_message()} (see `{path} --help`)")
    return Status.USAGE
