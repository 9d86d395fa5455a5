"""What people get wrong at the prompt, what they are told, and the exit status: tested, and a table of the docs.

`python -m tests.cli.mistakes` writes the table as it stands in docs/errors.md.
"""

from __future__ import annotations

import shlex
import sys
from typing import Final, NamedTuple

from imapipe.cli.errors import Status


class Mistake(NamedTuple):
    """A wrong command line.

    Attributes:
        words: The command; URL stands for an account, PORT for the port of its server, UNUSED for one where none is.
        told: The sentence.
        status: The exit status.
        password: What the environment says.
    """

    words: str
    told: str
    status: Status = Status.USAGE
    password: str | None = "secret"


_KINDS: Final = "maildir:PATH, mbox:PATH, eml:PATH, jsonl:PATH, parquet:PATH, sqlite:PATH"
_FOLDERS: Final = "`imapipe folders` lists those there are"
_SIZE: Final = "use a number of bytes such as 500k or 5M"

MISTAKES: Final = (
    Mistake("scan", "Missing argument 'URL'. (see `imapipe scan --help`)"),
    Mistake("scan URL", "Missing argument 'MAILBOX'. (see `imapipe scan --help`)"),
    Mistake("skan URL INBOX", "No such command 'skan'. Did you mean 'scan'? (see `imapipe --help`)"),
    Mistake(
        "scan URL INBOX --serch ALL",
        "No such option: --serch (Possible options: --fetch, --search) (see `imapipe scan --help`)",
    ),
    Mistake(
        "scan imap.example.org INBOX",
        "the URL must begin with imaps:// or imap://, as in imaps://ann@imap.example.org",
    ),
    Mistake(
        "scan imaps://ann:guess@imap.example.org INBOX",
        "the URL holds a password (or a ':' in the user name, which is written %3A): give it apart",
    ),
    Mistake("scan imaps://imap.example.org INBOX", "name the user: in the URL (imaps://ann@imap.example.org)"),
    Mistake(
        "scan imaps://ann@nowhere.invalid INBOX",
        "no connection to nowhere.invalid:993: the host name is not known; check its spelling",
        Status.FAILED,
    ),
    Mistake(
        "scan imap://ann@127.0.0.1:UNUSED INBOX",
        "no connection to 127.0.0.1:UNUSED: the port refused it; check the port, and that the server runs",
        Status.FAILED,
    ),
    Mistake(
        "scan imaps://ann@127.0.0.1:PORT INBOX",
        "no connection to 127.0.0.1:PORT: TLS failed (WRONG_VERSION_NUMBER); maybe imap:// is what this port wants",
        Status.FAILED,
    ),
    Mistake(
        "scan URL INBOX",
        "no password: set IMAPIPE_PASSWORD, or name a file with --password-file or --token-file",
        password=None,
    ),
    Mistake(
        "scan URL INBOX",
        "the server refused the login: Authentication failed.; check the user name and the password, or log in anew "
        "with `imapipe login` for another token; some providers want an app password, or a token",
        Status.AUTHENTICATION,
        password="guess",
    ),
    Mistake(
        "scan URL INBOX --password-file missing", "--password-file missing: No such file or directory", password=None
    ),
    Mistake(
        "scan URL INBOX --password-command false",
        "--password-command false: it ended with status 1 and no secret",
        password=None,
    ),
    Mistake("scan URL INBOX --token-file missing", "--token-file missing: No such file or directory", password=None),
    Mistake("scan URL INBOX --ca-file missing", "--ca-file missing: No such file or directory"),
    Mistake(
        "scan URL INBOX --proxy ftp://127.0.0.1",
        "--proxy takes the URL of a proxy: use socks5://[user:password@]host:port, socks4://host:port or "
        "http://[user:password@]host:port",
    ),
    Mistake(
        "scan URL Nowhere",
        f"the mailbox 'Nowhere' cannot be opened: Mailbox doesn't exist: Nowhere; {_FOLDERS}",
        Status.FAILED,
    ),
    Mistake(
        "scan URL INBOX --search 'SINCE yesterday'",
        "SINCE needs a date such as 1-Jan-2024, 2024-01-31, or 30d for 30 days ago, not 'yesterday'",
    ),
    Mistake("scan URL INBOX --bytes-rate fast", f"--bytes-rate fast: {_SIZE}"),
    Mistake("scan URL INBOX --daily-bytes much", f"--daily-bytes much: {_SIZE}"),
    Mistake(
        "scan URL INBOX --checkpoint no/such/state.json",
        "checkpoint no/such/state.json: its folder does not exist; name a file that can be read and written",
        Status.FAILED,
    ),
    Mistake(
        "scan URL INBOX --checkpoint broken",
        "checkpoint broken: it is no whole JSON document (unexpected end of data: line 1 column 2 (char 1)); "
        "put a copy back, or move it away to begin anew",
        Status.FAILED,
    ),
    Mistake("export URL", "Missing option '--to'. (see `imapipe export --help`)"),
    Mistake("export URL --to tar:mail", f"--to tar:mail: use one of {_KINDS}"),
    Mistake(
        "export URL --to jsonl:-",
        "--to jsonl:-: it is written to files only; `imapipe follow --json` writes lines of JSON for a pipe",
    ),
    Mistake(
        "export URL --to maildir:mail --fetch envelope",
        'Maildir writes whole messages: put .fetch("full") into the job',
    ),
    Mistake(
        "export URL --to jsonl:mail.jsonl --mirror",
        "--mirror does not go with jsonl: use one of maildir, parquet, sqlite",
    ),
    Mistake("backup --accounts missing --to maildir:mail", "missing: No such file or directory"),
    Mistake(
        "backup --accounts broken --to maildir:mail",
        "broken: it is no TOML: Invalid statement (at line 1, column 1)",
    ),
    Mistake("plan URL Nowhere", "Nowhere: LIST: NO [NONEXISTENT] the account has no mailbox 'Nowhere'", Status.PARTIAL),
    Mistake(
        "follow URL Nowhere",
        f"Mailbox doesn't exist: Nowhere; make it first, or name another: {_FOLDERS}",
        Status.FAILED,
    ),
    Mistake("follow URL INBOX --to jsonl:.", ".: Is a directory; name a file: this is a folder", Status.FAILED),
    Mistake("index URL INBOX --to broken", "index broken: it is no database; name another file", Status.FAILED),
    Mistake(
        "index URL INBOX --to missing/index",
        "index missing/index: No such file or directory; check the path: its folder has to be there",
        Status.FAILED,
    ),
    Mistake("index URL INBOX --to .", "index .: Is a directory; name a file: this is a folder", Status.FAILED),
    Mistake("export URL INBOX --to jsonl:/", "/: Is a directory; name a file: this is a folder", Status.FAILED),
    Mistake("export URL INBOX --to mbox:.", ".: Is a directory; name a file: this is a folder", Status.FAILED),
    Mistake(
        "export URL INBOX --to maildir:broken/mail",
        "broken: it is no folder; a folder is wanted where a file is: name another place",
        Status.FAILED,
    ),
    Mistake("find .", "index .: it is a folder; name a file", Status.FAILED),
    Mistake("find missing", "index missing: there is no such file; make one with `imapipe index`", Status.FAILED),
    Mistake(
        "move URL INBOX Nowhere --yes",
        f"Mailbox doesn't exist: Nowhere; make it first, or name another: {_FOLDERS}",
        Status.FAILED,
    ),
    Mistake("move URL INBOX INBOX --yes", "the messages are in 'INBOX' already: name another", Status.FAILED),
    Mistake("move URL INBOX Archive", "nobody can be asked here: look first with --dry-run, then say --yes"),
    Mistake(
        "move URL INBOX Archive --yes --max-messages 2",
        "the search finds 5 messages and --max-messages 2 allows fewer: narrow the search, or raise it",
    ),
    Mistake(
        "flag URL INBOX Seen --yes",
        "Invalid value: Seen: put + or - before each flag, or = for these and no others, as in '+\\Seen -$Junk' "
        "(see `imapipe flag --help`)",
    ),
    Mistake(
        "flag URL INBOX -Junk --yes",
        "No such option: -J; flags that begin with - stand behind --, as in `imapipe flag URL INBOX -- -$Junk` "
        "(see `imapipe flag --help`)",
    ),
    Mistake(
        "delete URL INBOX --yes",
        "the account has no mailbox with the use \\Trash: name one with `imapipe move`, or say "
        "`imapipe delete --permanently`",
        Status.FAILED,
    ),
    Mistake(
        "undo URL missing",
        "journal missing: No such file or directory; name the --journal of the change",
        Status.FAILED,
    ),
    Mistake(
        "copy URL URL",
        "no password: set IMAPIPE_TARGET_PASSWORD, or name a file with --target-password-file or --target-token-file",
    ),
    Mistake("worker", "Missing option '--jobs'. (see `imapipe worker --help`)"),
    Mistake("worker --jobs nowhere", "--jobs nowhere: there is no module nowhere here"),
    Mistake("worker --jobs json", "--jobs json: the module json has no Cluster of the name cluster"),
    Mistake("jobs list", "no database: name it with --database, or set IMAPIPE_DATABASE"),
    Mistake("jobs list --database mail.sqlite", "--database: a cluster needs PostgreSQL: postgresql://user@host/name"),
    Mistake(
        "jobs list --database postgresql://ann:guess@127.0.0.1/mail",
        "--database shows its password to all users of the machine: set IMAPIPE_DATABASE instead",
    ),
    Mistake(
        "jobs list --database postgresql://ann@127.0.0.1:UNUSED/mail",
        'database postgresql://ann@127.0.0.1:UNUSED/mail: connection failed: connection to server at "127.0.0.1", '
        "port UNUSED failed: Connection refused; see that it runs and lets you in",
        Status.FAILED,
    ),
    Mistake(
        "jobs list --database postgresql://ann@127.0.0.1:UNUSED/mail --state odd",
        "--state odd: use one of waiting, running, cancelling, complete, partial, failed, cancelled",
    ),
    Mistake("login URL", "say with --token-file FILE where the token is to be kept"),
    Mistake(
        "login URL --token-file token",
        "an OAuth server gives tokens to programs that it knows: register a program with the provider, and give its "
        "--client-id",
    ),
)


def words_of(mistake: Mistake, **places: str) -> list[str]:
    """The arguments, with an account and ports in place of their names."""
    words = mistake.words
    for name, place in places.items():
        words = words.replace(name, place)
    return shlex.split(words)


def table() -> str:
    """The rows of the table in docs/errors.md."""
    where = {"PORT": "143", "UNUSED": "1143"}
    environment = {None: "without a password: ", "guess": "with a wrong password: "}
    rows = []
    for mistake in MISTAKES:
        words, told = mistake.words, mistake.told
        for name, port in where.items():
            words, told = words.replace(name, port), told.replace(name, port)
        before = environment.get(mistake.password, "") if "missing" not in words and "false" not in words else ""
        # A backquote in a sentence would end the code that it is shown as.
        rows.append(f"| {before}`imapipe {words}` | {told.replace('`', chr(39))} | {int(mistake.status)} |")
    return "\n".join(["| Command | imapipe: | Status |", "|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
