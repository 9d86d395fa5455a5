"""Which run a call of a layer belongs to, where several runs share the layer."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Generic, TypeVar

from imapipe.middleware.base import Run

T = TypeVar("T")

# The task that drives a run starts its layers first and makes the tasks of its workers afterwards: these inherit it.
_run: ContextVar[Run | None] = ContextVar("imapipe_run", default=None)


class Served(Generic[T]):
    """What a layer keeps for each run that it serves now."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[Run, T] = {}

    def begin(self, run: Run, kept: T) -> None:
        """Serve a run, in `start`."""
        self._kept[run] = kept
        _run.set(run)

    def end(self) -> T | None:
        """Serve the run no more, in `stop`; gives what was kept for it."""
        run = _run.get()
        return self._kept.pop(run, None) if run is not None else None

    @property
    def run(self) -> Run | None:
        """The run of the call under way."""
        run = _run.get()
        return run if run in self._kept else None

    @property
    def kept(self) -> T | None:
        """What is kept for that run."""
        run = _run.get()
        return self._kept.get(run) if run is not None else None

    def __len__(self) -> int:
        return len(self._kept)
