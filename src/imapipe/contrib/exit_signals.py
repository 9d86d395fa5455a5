"""To be told of SIGINT and SIGTERM before whoever serves begins to shut down.

A server that is told to end waits for the answers under way first, and only then ends the application's lifespan. A
stream of events has no end until its job has one: so the jobs are to end at the signal, not behind that wait.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def told_of_exit(tell: Callable[[], object]) -> Iterator[None]:
    """Call `tell` in the running loop when a signal to end comes; then it goes its way as before.

    Only in the main thread, and only for signals that somebody handles: a process that dies of one tells nobody.
    """
    loop = asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours: dict[signal.Signals, tuple[object, Callable[[int, FrameType | None], object]]] = {}

    def listen(number: signal.Signals) -> None:
        before = signal.getsignal(number)
        if not callable(before):
            return

        def hear(signal_number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(tell)
            before(signal_number, frame)

        signal.signal(number, hear)
        ours[number] = (hear, before)

    for number in SIGNALS:
        listen(number)
    try:
        yield
    finally:
        for number, (hear, before) in ours.items():
            # Somebody else's by now is left to them.
            if signal.getsignal(number) is hear:
                signal.signal(number, before)
