"""A database that does not work: since when, and how long to wait before it is asked again. For one thread."""

from __future__ import annotations

import logging
import time
from typing import Final

from imapipe.errors import DatabaseError
from imapipe.runtime.backoff import Backoff

_log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 1.0


class Outage:
    """What is known of it; the log has one line for each.

    Args:
        waiting: What waits for the database, for the log: "batches".
        wait_seconds: How long it is waited for.
    """

    def __init__(self, waiting: str, wait_seconds: float) -> None:
        self._waiting = waiting
        self._wait_seconds = wait_seconds
        self._backoff = Backoff(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        self._since: float | None = None
        self._tries = 0

    @property
    def is_on(self) -> bool:
        """Whether the database did not work the last time."""
        return self._since is not None

    @property
    def lasted_seconds(self) -> float:
        """For how long it has not worked."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def failed(self, error: DatabaseError) -> bool:
        """It failed, perhaps once more; whether it is to be waited for still."""
        self._tries += 1
        if self._since is None:
            self._since = time.monotonic()
            _log.warning("%s wait for %s", self._waiting, error)
        return error.is_transient and self.lasted_seconds < self._wait_seconds

    def pause_seconds(self, error: DatabaseError) -> float:
        """How long to wait before it is asked again."""
        return self._backoff.seconds(self._tries, error)

    def ended(self) -> None:
        """It works."""
        self._since, self._tries = None, 0
