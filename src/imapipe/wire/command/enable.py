"""ENABLE (RFC 5161): switch extensions on. Answered by `Enabled`."""

from __future__ import annotations

from collections.abc import Iterable

from imapipe.wire.command.encoder import Request, atoms


def enable(capabilities: Iterable[str]) -> Request:
    """ENABLE.

    Raises:
        ValueError: None is named, or one is no atom.
    """
    return Request("ENABLE", *atoms(capabilities, "a capability"))
