"""What is traced for coverage: the beginning of each property, and nothing of a simulation."""

from __future__ import annotations

import sys

import pytest
from coverage import Coverage
from tests.tracing import EXAMPLES, Tracing


class Counted(Coverage):
    """A coverage that counts how often it is asked to look."""

    looks = 0

    def start(self) -> None:
        self.looks += 1

    def stop(self) -> None:
        pass


def test_the_first_examples_of_a_property_are_traced_and_all_are_run() -> None:
    coverage, run = Counted(data_file=None), list[int]()
    test = Tracing(coverage).traced_at_first(run.append)
    for example in range(2 * EXAMPLES):
        test(example)
    assert run == list(range(2 * EXAMPLES))
    assert coverage.looks == EXAMPLES


@pytest.mark.no_cover
def test_a_simulation_runs_at_its_own_speed() -> None:
    assert sys.gettrace() is None


def test_any_other_test_is_traced(pytestconfig: pytest.Config) -> None:
    assert (sys.gettrace() is not None) == pytestconfig.getoption("trace_tests")
