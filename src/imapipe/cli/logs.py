"""Logs of the library on standard error, for those who ask for them; else errors are told in one sentence.

Invariant: a record is one line of printable characters, so that no line of a server's looks like one of ours.
"""

from __future__ import annotations

import copy
import logging
from enum import StrEnum

from imapipe.cli.terminal import escape


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class _Formatter(logging.Formatter):
    """Writes records of which a terminal shows every character."""

    def format(self, record: logging.LogRecord) -> str:
        """The record, its message on one line."""
        shown = copy.copy(record)
        shown.msg, shown.args = escape(record.getMessage()), None
        return escape(super().format(shown), keep="\n")


def show_logs(level: LogLevel) -> None:
    """Write what the library logs from this level on; of other packages only warnings."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("imapipe").setLevel(level.value.upper())


def hide_logs() -> None:
    """Write none, unless they were asked for; Python would write warnings that nobody handles."""
    logging.getLogger().addHandler(logging.NullHandler())
