"""Layers around the fetching of a batch: the contract for one of your own, and what the layers of ours are.

A middleware is a value that a user makes; for each run its `start` gives a `Layer`. What those of imapipe are called
stands in `imapipe` itself; here are the contract and the classes in their signatures. The latter are imported when they
are first used, so that a job pays only for the layers it has.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from imapipe.middleware.base import (
    Accompany,
    Call,
    KeepsNotes,
    KeepsValues,
    Layer,
    Ledger,
    Limit,
    Middleware,
    Notes,
    Plan,
    Resources,
    Run,
    Settled,
)
from imapipe.models.identity import Identity, Renumbered
from imapipe.runtime.resources import ResourceUsage

if TYPE_CHECKING:
    from imapipe.middleware.account_notes import AccountNotes
    from imapipe.middleware.checkpoint_layer import CheckpointLayer
    from imapipe.middleware.metrics import MetricsLayer
    from imapipe.middleware.retry import RetryLayer

__all__ = [
    "Accompany",
    "AccountNotes",
    "Call",
    "CheckpointLayer",
    "Identity",
    "KeepsNotes",
    "KeepsValues",
    "Layer",
    "Ledger",
    "Limit",
    "MetricsLayer",
    "Middleware",
    "Notes",
    "Plan",
    "Renumbered",
    "ResourceUsage",
    "Resources",
    "RetryLayer",
    "Run",
    "Settled",
]

_HOMES = {
    "AccountNotes": "account_notes",
    "CheckpointLayer": "checkpoint_layer",
    "MetricsLayer": "metrics",
    "RetryLayer": "retry",
}

if not TYPE_CHECKING:

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
