"""What goes to standard output and standard error, besides progress.

Invariant: standard output holds the result and nothing else: one JSON document, or what people read.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import orjson

from imapipe.cli.errors import printable


def write_result(text: str) -> None:
    """Write the result, or a paragraph of it, to standard output.

    Raises:
        BrokenPipeError: Whoever reads has gone.
        OSError: It cannot be written, on a full disk for instance.
    """
    if sys.stdout is None:
        return
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def write_document(document: Mapping[str, object] | Sequence[object]) -> None:
    """Write one JSON document to standard output; raises as `write_result` does."""
    write_result(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())


def write_note(sentence: str) -> None:
    """Write a sentence to standard error; where that fails nobody is left to tell."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(f"imapipe: {printable(sentence)}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        return
