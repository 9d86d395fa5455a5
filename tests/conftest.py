"""What all tests share: the settings of hypothesis, and a real Dovecot."""

from __future__ import annotations

import asyncio
import gc
import os
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from coverage import Coverage
from hypothesis import settings
from tests.cases import A_FEW, few_cases
from tests.middleware.fakes import jump_instead_of_waiting
from tests.tracing import Tracing

from dovecot_server import DovecotServer, find_dovecot

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

NO_DOVECOT = "Dovecot is not installed (apt install dovecot-imapd): its tests do not run"
IN_CI = os.environ.get("CI", "").lower() == "true"

# No deadline: tests assert no wall time. In CI the same examples each time, so that a failure is not luck.
settings.register_profile("imapipe", deadline=None, derandomize=IN_CI, print_blob=True)
settings.register_profile("few", settings.get_profile("imapipe"), max_examples=10)
settings.load_profile("imapipe")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--few-cases", action="store_true", help=f"of a test with many cases, {A_FEW} that lie apart")
    parser.addoption("--trace-a-few", action="store_true", help="measure the coverage of a few cases of each test")


def pytest_configure(config: pytest.Config) -> None:
    """Trace what is to be traced, in each process that runs tests."""
    if config.getoption("trace_a_few") and (config.getoption("numprocesses") is None or hasattr(config, "workerinput")):
        config.pluginmanager.register(Tracing(Coverage(data_suffix=True)))


# Before pytest's own, which leaves out by markers.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs Dovecot, and with --few-cases leave out the rest of the cases."""
    for item in items:
        if isinstance(item, pytest.Function) and "dovecot" in item.fixturenames:
            item.add_marker(pytest.mark.dovecot)
    if config.getoption("few_cases"):
        chosen = few_cases([item.nodeid for item in items])
        config.hook.pytest_deselected(items=[item for at, item in enumerate(items) if at not in chosen])
        items[:] = [item for at, item in enumerate(items) if at in chosen]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Let the garbage collector not look through all modules and tests, again and again while they are made."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def little_to_collect() -> None:
    """Leave all that was there before out of each collection, which would take a good part of the time of the tests."""
    gc.collect()
    gc.freeze()


@pytest_asyncio.fixture
async def made_up_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the time of the test's loop jump to its next timer where nothing is left to do.

    For tests in which one timeout is to fire and no other one, however busy the machine is: real ones that are short
    enough for a test fire for what is only slow. Named by `usefixtures`, so that it comes before all other fixtures.
    """
    jump_instead_of_waiting(asyncio.get_running_loop(), monkeypatch)


@pytest.fixture(scope="session")
def dovecot() -> Iterator[DovecotServer]:
    """A Dovecot for the whole session; each test takes a user of its own with `dovecot.new_user()`."""
    if find_dovecot() is None:
        if IN_CI:
            pytest.fail(NO_DOVECOT, pytrace=False)
        pytest.skip(NO_DOVECOT)
    with DovecotServer() as server:
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give all tests that miss Dovecot the same place, so that the summary shows one line for them."""
    report = yield
    if isinstance(report.longrepr, tuple) and report.longrepr[2].endswith(NO_DOVECOT):
        report.longrepr = (__file__, 1, report.longrepr[2])
    return report
