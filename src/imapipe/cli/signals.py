"""What a command does when it is told to end, by Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

TO_END: Final = (signal.SIGINT, signal.SIGTERM)


def hear_signals(act: Callable[[], object], numbers: Iterable[signal.Signals]) -> list[signal.Signals]:
    """Do something in the running loop when one of these signals comes, instead of what is done otherwise.

    Returns:
        Those of them that are heard: where the loop has no signals (Windows), the process ends as it always did.
    """
    heard = []
    for number in numbers:
        with suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, act)
            heard.append(number)
    return heard


@contextmanager
def at_signals(act: Callable[[], object]) -> Iterator[None]:
    """Within a block, do something when Ctrl-C or SIGTERM comes."""
    heard = hear_signals(act, TO_END)
    try:
        yield
    finally:
        for number in heard:
            asyncio.get_running_loop().remove_signal_handler(number)
