"""Events: what happens outside the messages themselves, for whoever wants to react or to show it.

The pool emits what servers say of connections (`Throttle`, `Refusal`, `Reconnect`), the pipeline and the
middleware what they do (`BatchEnd`, `Attempt`, `Wait`). `runtime.event_bus` carries them.
"""

from __future__ import annotations

from dataclasses import dataclass

from imapipe.models.batch import BatchResult


@dataclass(frozen=True, slots=True)
class Throttle:
    """The server asked for less. `retry_after_seconds` is its own hint, or None; `source` is OK, NO, BAD or BYE."""

    source: str
    text: str
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A connection or a login was refused because there are too many; `limit` is what the pool uses now."""

    text: str
    limit: int


@dataclass(frozen=True, slots=True)
class Reconnect:
    """A lane replaced its connection; `reason` says why the last one ended."""

    lane: int
    reason: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """A batch is asked for again: `attempt` is the number of the try that follows, after `wait_seconds`."""

    batch: int
    attempt: int
    wait_seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """A layer waited before it let a batch go on: `layer` names it."""

    layer: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ServerAwaited:
    """The server, or the way to it, does not work.

    Attributes:
        reason: Why: a response code, or the name of an error.
        lasted_seconds: How long that has been so.
        wait_seconds: When it is tried again.
    """

    reason: str
    lasted_seconds: float
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class HandlersPaused:
    """Handling stands still: so many calls of the handler in a row failed, the last one for this reason."""

    failures: int
    reason: str


@dataclass(frozen=True, slots=True)
class HandlersResumed:
    """Handling goes on, after it stood still for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class BatchEnd:
    """A batch went through all layers."""

    result: BatchResult


Event = Throttle | Refusal | Reconnect | Attempt | Wait | ServerAwaited | HandlersPaused | HandlersResumed | BatchEnd
