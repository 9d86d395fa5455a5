"""The news that a checkpoint is another's, on its way from the store's threads to the run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from imapipe.errors import CheckpointLost


class Loss:
    """Carries the news that a key was lost, from any thread, to the layer.

    Attributes:
        error: The news, or None.
        tell: What is called with it, in the loop in which this was made.
    """

    __slots__ = ("_loop", "error", "tell")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.error: CheckpointLost | None = None
        self.tell: Callable[[CheckpointLost], None] = _ignore

    def __call__(self, error: CheckpointLost) -> None:
        """The key was lost."""
        if self.error is None:
            self.error = error
            # A loop that is closed has nobody left to tell.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(lambda: self.tell(error))


def _ignore(_: CheckpointLost) -> None:
    return
