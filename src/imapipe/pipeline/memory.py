"""What the pipeline may ask a layer that knows earlier runs (`middleware.checkpoint.Checkpoint`).

The pipeline imports no concrete middleware: a layer that has these two members is taken for such a memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from imapipe.middleware.base import Middleware
from imapipe.wire.uid_set import UidSet


class Remembered(Protocol):
    """What is known of earlier runs on a mailbox."""

    @property
    def uidvalidity(self) -> int:
        """The UIDVALIDITY under which the UIDs are to be read."""

    @property
    def failed_uids(self) -> UidSet:
        """Messages that failed and were not done since."""


@runtime_checkable
class Memory(Protocol):
    """A layer that knows earlier runs."""

    @property
    def done_all_runs(self) -> int | None:
        """Messages done over all runs, or None before the first."""

    def peek(self, account: str, mailbox: str) -> Remembered | None:
        """Read what is known, outside of a run; blocks for the time of reading."""


def memory_of(layers: Sequence[Middleware]) -> Memory | None:
    """The layer that knows earlier runs, if there is one."""
    return next((layer for layer in layers if isinstance(layer, Memory)), None)
