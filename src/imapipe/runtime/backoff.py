"""Backoff: how long to wait before something is tried again.

Invariant: a wait is never below what the other side asked for. Many who are told the same time must not all come back
in the same moment, so every wait is jittered, unless a strategy of the user's own was given.

tenacity is imported when a `Backoff` is made, not with this module: `import imapipe` stays quick.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tenacity.wait import wait_base

_HINT_JITTER: Final = 0.1


class Backoff:
    """Exponential waits with jitter.

    Args:
        initial_seconds: The longest first wait; doubled for each one after that.
        max_seconds: The longest wait of our own.
        strategy: A wait strategy of tenacity, instead of the two times above.
        random: What gives numbers from 0 up to 1, for the jitter.
    """

    __slots__ = ("_jittered", "_random", "_strategy")

    def __init__(
        self,
        initial_seconds: float,
        max_seconds: float,
        *,
        strategy: wait_base | None = None,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        from tenacity import wait_exponential  # noqa: PLC0415 - see the module docstring

        self._strategy: wait_base = (
            strategy if strategy is not None else wait_exponential(multiplier=initial_seconds, max=max_seconds)
        )
        self._jittered = strategy is None
        self._random = random

    def seconds(self, tries: int, error: BaseException, *, at_least: float | None = None) -> float:
        """The wait after so many tries in vain, the last of which ended with `error`; no less than `at_least`."""
        from tenacity import AsyncRetrying, RetryCallState  # noqa: PLC0415 - see the module docstring

        state = RetryCallState(AsyncRetrying(), None, (), {})
        state.attempt_number = max(1, tries)
        state.set_exception((type(error), error, error.__traceback__))
        seconds = float(self._strategy(state))
        if self._jittered:
            seconds *= 0.5 + 0.5 * self._random()
        if at_least is not None:
            seconds = max(seconds, at_least * (1.0 + _HINT_JITTER * self._random()))
        return seconds
