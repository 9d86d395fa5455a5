"""What is traced for coverage: the beginning of each property, and nothing of a simulation."""

from __future__ import annotations

import sys
from functools import partial
from itertools import count

import pytest
from coverage import Coverage
from tests.tracing import EXAMPLES, USUAL_SECONDS, Tracing, slowness


class Counted(Coverage):
    """A coverage that counts how often it is asked to look."""

    looks = stops = 0

    def start(self) -> None:
        self.looks += 1

    def stop(self) -> None:
        self.stops += 1


def test_the_first_examples_of_a_property_are_traced_and_all_are_run() -> None:
    coverage, run = Counted(data_file=None), list[int]()
    test = Tracing(coverage).traced_at_first(run.append)
    for example in range(2 * EXAMPLES):
        test(example)
    assert run == list(range(2 * EXAMPLES))
    assert coverage.looks == EXAMPLES


def test_what_takes_long_is_traced_at_first() -> None:
    coverage, run = Counted(data_file=None), list[int]()
    tracing = Tracing(coverage)
    test = tracing.traced_at_first(run.append)
    test(1)
    tracing.end(0, None)
    test(2)
    assert run == [1, 2]
    assert coverage.looks == 1


def test_the_time_of_the_processor_ends_it() -> None:
    coverage = Counted(data_file=None)
    with Tracing(coverage, seconds=0.01).beginning():
        # If nothing ended it, the test's timeout would.
        while not coverage.stops:
            pass
    assert (coverage.looks, coverage.stops) == (1, 2)


def test_a_slow_processor_is_given_more_time() -> None:
    for times in (1, 3):
        clock = count(step=times * USUAL_SECONDS)
        assert slowness(lambda: None, partial(next, clock)) == pytest.approx(times)
    assert slowness(lambda: None, lambda: 0.0) == 1


@pytest.mark.no_cover
def test_a_simulation_runs_at_its_own_speed() -> None:
    assert sys.gettrace() is None


@pytest.mark.parametrize("case", range(3))
def test_a_few_cases_are_traced(case: int, pytestconfig: pytest.Config) -> None:
    assert (sys.gettrace() is not None) == pytestconfig.getoption("trace_a_few")
