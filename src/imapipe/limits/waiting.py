"""Telling a run that one of its batches had to wait."""

from __future__ import annotations

from typing import Final

from imapipe.middleware.base import Run
from imapipe.models.event import Wait

# What is shorter is the scheduling of the event loop, not a limit.
_SHORTEST_SECONDS: Final = 0.001


def tell_wait(run: Run, limit: str, seconds: float) -> None:
    """Emit `Wait` for a batch that `limit` held back for so long, unless that is next to nothing."""
    if seconds >= _SHORTEST_SECONDS:
        run.events.emit(Wait(limit, seconds))
