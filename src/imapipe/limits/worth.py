"""What a message is worth in bytes, learned from what came: the one estimate of all limits.

A batch has to be paid for before it is sent, and often nobody knows how large its messages are. So a mean is kept in
which each new value weighs 30 %: it follows a mailbox whose messages grow within a few batches, and one odd batch does
not throw it off.
"""

from __future__ import annotations

from typing import Final

from imapipe.models.batch import Batch

_WEIGHT_OF_THE_NEWEST: Final = 0.3


def smoothed(mean: float | None, newest: float) -> float:
    """The mean with one value more; the first value is the mean."""
    return newest if mean is None else (1 - _WEIGHT_OF_THE_NEWEST) * mean + _WEIGHT_OF_THE_NEWEST * newest


class Worth:
    """How many bytes a message brings, as far as it was seen."""

    __slots__ = ("_bytes_per_message",)

    def __init__(self) -> None:
        self._bytes_per_message: float | None = None

    @property
    def is_known(self) -> bool:
        """Whether anything was seen yet."""
        return self._bytes_per_message is not None

    @property
    def bytes_per_message(self) -> float | None:
        """The mean, or None while nothing was seen."""
        return self._bytes_per_message

    def believe(self, bytes_per_message: float | None) -> None:
        """Begin with what somebody else has seen; what was seen here counts more."""
        if self._bytes_per_message is None:
            self._bytes_per_message = bytes_per_message

    def learn(self, received_bytes: int, messages: int) -> None:
        """So many messages brought so many bytes. Where either is 0 that tells nothing."""
        if received_bytes > 0 and messages > 0:
            self._bytes_per_message = smoothed(self._bytes_per_message, received_bytes / messages)

    def price(self, batch: Batch) -> float | None:
        """The bytes that a batch will bring: its known size, else an estimate, or None while nothing was seen."""
        if batch.size_bytes is not None:
            return float(batch.size_bytes)
        return None if self._bytes_per_message is None else self._bytes_per_message * len(batch)
