"""What goes to standard output and standard error, besides progress.

Invariants:

- Standard output holds the result and nothing else: one JSON document (of `follow` JSON Lines), or what people read.
- Whatever a server, a mail or a file says in it was made fit for a terminal here, and is no markup.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from imapipe.cli.errors import Status, as_options
from imapipe.cli.terminal import escape, escape_json, printable

STANDARD_OUTPUT: Final = "standard output"
"""What stands for a file's name in an error of writing there."""

# Where nobody looks, nothing is cut: a table in a file is as wide as it is.
_FILE_WIDTH: Final = 10_000
# A narrower terminal breaks the lines itself; a table made narrower loses whole columns, the names first.
_LEAST_WIDTH: Final = 72


class Report(Protocol):
    """What became of a job."""

    @property
    def complete(self) -> bool:
        """Whether nothing is left over."""

    def to_json(self) -> str:
        """For machines."""

    def table(self) -> str:
        """For people."""


def write_result(text: str) -> None:
    """Write the result, or a paragraph of it, to standard output.

    Raises:
        BrokenPipeError: Whoever reads has gone.
        OSError: It cannot be written, on a full disk for instance.
    """
    _write(escape(text, keep="\n"))


def write_table(table: Table, rows: Iterable[Sequence[str]]) -> None:
    """Write rows under the columns of a table to standard output; raises as `write_result` does."""
    for row in rows:
        table.add_row(*(Text(escape(cell)) for cell in row))
    console = Console(width=max(Console().width, _LEAST_WIDTH) if is_terminal() else _FILE_WIDTH)
    # What it captures it does not write; that it writes nothing is tried all the same.
    with _named(), console.capture() as captured:
        console.print(table)
    _write("\n".join(line.rstrip() for line in captured.get().splitlines()))


def write_document(document: Mapping[str, object] | Sequence[object]) -> None:
    """Write one JSON document to standard output; raises as `write_result` does."""
    write_json(orjson.dumps(_encodable(document), option=orjson.OPT_INDENT_2).decode())


def write_line(document: Mapping[str, object]) -> None:
    """Write one JSON document on one line to standard output; raises as `write_result` does."""
    write_json(orjson.dumps(_encodable(document)).decode())


def write_json(document: str) -> None:
    """Write a JSON document that is made already; raises as `write_result` does."""
    _write(escape_json(document))


def write_report(report: Report, *, json: bool) -> Status:
    """Write a report to standard output; gives the exit status that it stands for. Raises as `write_result` does."""
    if json:
        write_json(report.to_json())
    else:
        write_result(as_options(report.table()))
    return Status.COMPLETE if report.complete else Status.PARTIAL


def write_note(sentence: str) -> None:
    """Write a sentence to standard error; where that fails nobody is left to tell."""
    write_lines(f"imapipe: {printable(sentence)}")


def write_lines(text: str) -> None:
    """Write lines to standard error; where that fails nobody is left to tell."""
    if sys.stderr is None:
        return
    shown = escape(text, keep="\n")
    try:
        sys.stderr.write(f"{shown}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        return


def is_terminal() -> bool:
    """Whether a person reads standard output."""
    return sys.stdout is not None and sys.stdout.isatty()


def _write(text: str) -> None:
    if sys.stdout is None:
        return
    with _named():
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


@contextmanager
def _named() -> Iterator[None]:
    """Say of an error that it is about standard output."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, STANDARD_OUTPUT) from error


def _encodable(value: object) -> object:
    """A value whose texts UTF-8 can hold: a name that could not be decoded has surrogates in it."""
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode("utf-8")
        case Mapping():
            return {_encodable(key): _encodable(each) for key, each in value.items()}
        case list() | tuple():
            return [_encodable(each) for each in value]
        case _:
            return value
