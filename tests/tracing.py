"""Which tests are traced for coverage: tracing all of them takes as long again as running them.

What is traced are a few cases of each test (`tests.cases`), with their fixtures, the first examples of each property,
and the beginning of a test that takes longer: what a test reaches at all, it reaches with these. How far a beginning
goes is a matter of work and not of time, so that a slow machine sees what a fast one sees. Not traced are the
collection, what makes the examples, and tests that are marked `no_cover`. So the figure is a lower bound: of what is
run less may be seen, never more.

The lines of modules themselves are seen where `tools/every_module.py` imports them, before any test (noxfile.py).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import wraps
from statistics import median
from types import FrameType
from typing import Final

import pytest
from coverage import Coverage
from tests.cases import few_cases

CASES: Final = 8
"""How many cases of a test are traced."""

EXAMPLES: Final = 40
"""How many examples of a property are traced."""

SECONDS: Final = 2.0
"""So many seconds of a usual processor are traced of a test: what goes on for longer does the same again."""

USUAL_SECONDS: Final = 0.0007
"""What `some_work` takes on a usual processor: where `SECONDS` was chosen."""


def some_work() -> int:
    """Compute for a moment, as long as the interpreter takes for it."""
    return sum(number * number % 7 for number in range(20_000))


def slowness(work: Callable[[], object] = some_work, clock: Callable[[], float] = time.process_time) -> float:
    """How many times as long as usual this processor takes for some work, and never less than 1."""
    took = []
    for _ in range(15):
        began = clock()
        work()
        took.append(clock() - began)
    return max(1.0, median(took) / USUAL_SECONDS)


class Tracing:
    """A plugin of pytest for a process that runs tests; leaves a data file for `coverage combine`."""

    def __init__(self, coverage: Coverage, seconds: float = SECONDS) -> None:
        self._coverage = coverage
        self._chosen: frozenset[str] = frozenset()
        self._is_over = False
        self._is_on = False
        self._seconds = seconds * slowness()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Choose the tests to trace."""
        items = session.items
        few = few_cases([item.nodeid for item in items], CASES)
        self._chosen = frozenset(items[at].nodeid for at in few if not items[at].get_closest_marker("no_cover"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Trace a test with its fixtures, or nothing of it."""
        if item.nodeid not in self._chosen:
            return (yield)
        with self.beginning():
            return (yield)

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """Trace a block until its time of the processor is used up."""
        self._is_over = False
        # The time of the processor: pytest-timeout has the other clock, and how busy the machine is says nothing.
        before = signal.signal(signal.SIGVTALRM, self.end)
        signal.setitimer(signal.ITIMER_VIRTUAL, self._seconds)
        self._start()
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            self._stop()
            signal.signal(signal.SIGVTALRM, before)

    def end(self, number: int, frame: FrameType | None) -> None:
        """Trace no more of this test (a handler of a signal)."""
        self._is_over = True
        # In the middle of starting or stopping, whoever does that comes to its end first, and looks.
        if self._is_on:
            self._stop()

    def _start(self) -> None:
        if not self._is_over:
            self._coverage.start()
            self._is_on = True

    def _stop(self) -> None:
        self._is_on = False
        self._coverage.stop()

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, object, object]:
        """Trace the first examples of a property, and nothing of what makes them."""
        handle = getattr(pyfuncitem.obj, "hypothesis", None)
        if handle is None or pyfuncitem.nodeid not in self._chosen:
            return (yield)
        whole = handle.inner_test
        handle.inner_test = self.traced_at_first(whole)
        self._stop()
        try:
            return (yield)
        finally:
            self._start()
            handle.inner_test = whole

    def traced_at_first(self, test: Callable[..., object]) -> Callable[..., object]:
        """A function of which the first calls are traced."""
        left = EXAMPLES

        @wraps(test)
        def traced(*arguments: object, **named: object) -> object:
            nonlocal left
            if not left or self._is_over:
                return test(*arguments, **named)
            left -= 1
            self._start()
            try:
                return test(*arguments, **named)
            finally:
                self._stop()

        return traced

    def pytest_sessionfinish(self) -> None:
        """Leave what was seen."""
        self._coverage.save()
