"""What is traced for coverage of tests: nothing that hangs on how fast the machine is.

Traced are the tests with their fixtures, and the first examples of each property: what it reaches at all, it reaches
with these. Not traced are the collection, what makes the examples, and tests that are marked `no_cover`. So the figure
is a lower bound: of what is run less may be seen, never more.

The lines of modules themselves are seen where `tools/every_module.py` imports them, before any test (noxfile.py).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import wraps
from typing import Final

import pytest
from coverage import Coverage

EXAMPLES: Final = 40
"""How many examples of a property are traced."""


class Tracing:
    """A plugin of pytest for a process that runs tests; leaves a data file for `coverage combine`."""

    def __init__(self, coverage: Coverage) -> None:
        self._coverage = coverage

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Trace a test with its fixtures, or nothing of it."""
        if not _is_traced(item):
            return (yield)
        self._coverage.start()
        try:
            return (yield)
        finally:
            self._coverage.stop()

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, object, object]:
        """Trace the first examples of a property, and nothing of what makes them."""
        handle = getattr(pyfuncitem.obj, "hypothesis", None)
        if handle is None or not _is_traced(pyfuncitem):
            return (yield)
        whole = handle.inner_test
        handle.inner_test = self.traced_at_first(whole)
        self._coverage.stop()
        try:
            return (yield)
        finally:
            self._coverage.start()
            handle.inner_test = whole

    def traced_at_first(self, test: Callable[..., object]) -> Callable[..., object]:
        """A function of which the first calls are traced."""
        left = EXAMPLES

        @wraps(test)
        def traced(*arguments: object, **named: object) -> object:
            nonlocal left
            if not left:
                return test(*arguments, **named)
            left -= 1
            self._coverage.start()
            try:
                return test(*arguments, **named)
            finally:
                self._coverage.stop()

        return traced

    def pytest_sessionfinish(self) -> None:
        """Leave what was seen."""
        self._coverage.save()


def _is_traced(item: pytest.Item) -> bool:
    return item.get_closest_marker("no_cover") is None
