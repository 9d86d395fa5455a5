"""How large the next batch is.

A policy is a value that a user writes down; `sizer()` makes the small piece of state that one lane follows.
Bounds hold always: a count, and the length of the command that carries the UIDs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from imapipe.models.argument import check_number, check_whole
from imapipe.models.batch import BatchResult
from imapipe.wire.search_key import SearchKey


class Sizer(Protocol):
    """The state of a policy on one lane."""

    @property
    def size(self) -> int:
        """How many messages the next batch holds."""

    @property
    def max_bytes(self) -> int | None:
        """The most bytes it may hold, or None."""

    def observe(self, result: BatchResult) -> None:
        """A batch came back."""

    def of_tier(self, tier: int) -> Sizer:
        """What decides for a tier of the plan."""


class MessageClass(Protocol):
    """Messages that are done before others (`pipeline.priority.PriorityClass`)."""

    @property
    def search(self) -> SearchKey:
        """Which messages."""

    @property
    def policy(self) -> BatchPolicy:
        """The sizes of their batches."""

    @property
    def newest_first(self) -> bool:
        """Their order."""


class BatchPolicy(Protocol):
    """What `Pipeline.batch` takes."""

    def sizer(self) -> Sizer:
        """A fresh state for one lane."""

    @property
    def needs_sizes(self) -> bool:
        """Whether batches are bounded in bytes, which needs a pass over RFC822.SIZE."""

    @property
    def classes(self) -> Sequence[MessageClass]:
        """What is to be done first, in order; empty where all messages are alike."""


@dataclass(frozen=True, slots=True)
class FixedBatch:
    """Always the same number of messages.

    Args:
        size: Messages in a batch, 1 or more.
        max_bytes: At most so many bytes (a message larger than that travels alone); costs a pass over the sizes.
    """

    size: int = 500
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        _check(self.size, self.max_bytes)

    def sizer(self) -> Sizer:
        """See `BatchPolicy`."""
        return _Fixed(self.size, self.max_bytes)

    @property
    def needs_sizes(self) -> bool:
        """See `BatchPolicy`."""
        return self.max_bytes is not None

    @property
    def classes(self) -> Sequence[MessageClass]:
        """See `BatchPolicy`."""
        return ()


@dataclass(slots=True)
class _Fixed:
    size: int
    max_bytes: int | None

    def observe(self, result: BatchResult) -> None:
        """A fixed size learns nothing."""

    def of_tier(self, tier: int) -> Sizer:
        return self


@dataclass(frozen=True, slots=True)
class AdaptiveBatch:
    """Grows while batches are quick, shrinks when they are slow.

    The time of a batch is measured from sending its command to its tagged reply, without the pauses we make
    ourselves. Below `target_seconds` the next batch of the lane is `grow` times larger, above `slow_seconds` it is
    `shrink` times smaller; between them it stays.

    Args:
        start: Messages in the first batch.
        minimum: Never fewer.
        maximum: Never more.
        target_seconds: Quicker batches make the next one larger.
        slow_seconds: Slower ones make it smaller; 2.5 times the target unless said.
        grow: Factor above 1.
        shrink: Factor between 0 and 1.
        max_bytes: At most so many bytes (a message larger than that travels alone); costs a pass over the sizes.
    """

    start: int = 100
    minimum: int = 50
    maximum: int = 2000
    target_seconds: float = 2.0
    slow_seconds: float | None = None
    grow: float = 1.2
    shrink: float = 0.8
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("start", "minimum", "maximum"):
            check_whole(name, getattr(self, name))
        if not 1 <= self.minimum <= self.start <= self.maximum:
            raise ValueError(
                f"use 1 <= minimum <= start <= maximum, not minimum={self.minimum}, start={self.start}, "
                f"maximum={self.maximum}"
            )
        check_number("target_seconds", self.target_seconds)
        if self.slow_seconds is not None:
            check_number("slow_seconds", self.slow_seconds)
        if self.target_seconds <= 0 or (self.slow_seconds is not None and self.slow_seconds < self.target_seconds):
            raise ValueError("target_seconds must be above 0, and slow_seconds not below it")
        if not (self.grow > 1 and 0 < self.shrink < 1):
            raise ValueError("grow must be above 1, and shrink between 0 and 1")
        _check(self.start, self.max_bytes)

    def sizer(self) -> Sizer:
        """See `BatchPolicy`."""
        return _Adaptive(self)

    @property
    def needs_sizes(self) -> bool:
        """See `BatchPolicy`."""
        return self.max_bytes is not None

    @property
    def classes(self) -> Sequence[MessageClass]:
        """See `BatchPolicy`."""
        return ()


class _Adaptive:
    __slots__ = ("_policy", "max_bytes", "size")

    def __init__(self, policy: AdaptiveBatch) -> None:
        self._policy = policy
        self.size = policy.start
        self.max_bytes = policy.max_bytes

    def of_tier(self, tier: int) -> Sizer:
        return self

    def observe(self, result: BatchResult) -> None:
        """Take the time of a batch; one that was cut short by the end of the plan says nothing about larger ones."""
        policy = self._policy
        slow = policy.slow_seconds if policy.slow_seconds is not None else 2.5 * policy.target_seconds
        if result.elapsed_seconds > slow:
            self.size = max(policy.minimum, int(self.size * policy.shrink))
        elif result.elapsed_seconds < policy.target_seconds and len(result.batch) >= self.size:
            self.size = min(policy.maximum, max(self.size + 1, int(self.size * policy.grow)))


def _check(size: int, max_bytes: int | None) -> None:
    check_whole("size", size)
    if max_bytes is not None:
        check_whole("max_bytes", max_bytes)
    if size < 1:
        raise ValueError(f"a batch holds at least 1 message, not {size}")
    if max_bytes is not None and max_bytes < 1:
        raise ValueError(f"max_bytes must be 1 or more, not {max_bytes}")
