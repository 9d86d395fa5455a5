"""What all tests share: the settings of hypothesis, a real Dovecot, a real PostgreSQL."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from coverage import Coverage
from hypothesis import HealthCheck, settings
from tests.cases import A_FEW, few_cases
from tests.middleware.fakes import jump_instead_of_waiting
from tests.tracing import Tracing

from dovecot_server import DovecotServer, find_dovecot
from postgres_server import PgBouncer, PostgresServer, find_postgres

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

NO_DOVECOT = "Dovecot is not installed (apt install dovecot-imapd): its tests do not run"
NO_POSTGRES = "PostgreSQL is not installed (apt install postgresql): its tests do not run"
IN_CI = os.environ.get("CI", "").lower() == "true"

# No deadline: tests assert no wall time, and how long examples take to be made is a matter of the machine. In CI the
# same examples each time, so that a failure is not luck.
settings.register_profile(
    "imapipe",
    deadline=None,
    derandomize=IN_CI,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("few", settings.get_profile("imapipe"), max_examples=10)
settings.load_profile("imapipe")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--few-cases", action="store_true", help=f"of a test with many cases, {A_FEW} that lie apart")
    parser.addoption("--trace-tests", action="store_true", help="measure the coverage of the tests")


def pytest_configure(config: pytest.Config) -> None:
    """Trace what is to be traced, in each process that runs tests."""
    if config.getoption("trace_tests") and (config.getoption("numprocesses") is None or hasattr(config, "workerinput")):
        config.pluginmanager.register(Tracing(Coverage(data_suffix=True)))


# Before pytest's own, which leaves out by markers.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs a server that is not ours, and with --few-cases leave out the rest of the cases."""
    for item in items:
        if isinstance(item, pytest.Function):
            for server in ("dovecot", "postgres"):
                if server in item.fixturenames:
                    item.add_marker(server)
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
def interrupts_are_heard() -> None:
    """A shell without job control has what it starts with `&` ignore SIGINT, and so all that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for the whole session; each test takes a database of its own with `postgres.new_database()`.

    Who ends it or slows it down starts one of its own.
    """
    if find_postgres() is None:
        if IN_CI:
            pytest.fail(NO_POSTGRES, pytrace=False)
        pytest.skip(NO_POSTGRES)
    # It would go through the databases of all tests that have run, again and again, for as long as the others take.
    with PostgresServer(settings="autovacuum = off\n") as server, ExitStack() as stack:
        # Once in a while: all that uses a database, through a pool of sessions that changes them behind its back.
        if "IMAPIPE_PGBOUNCER" in os.environ:
            server.entrance = stack.enter_context(PgBouncer(server)).port
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def dsn(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "some.db")
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give all tests that miss a server the same place, so that the summary shows one line for them."""
    report = yield
    if isinstance(report.longrepr, tuple) and report.longrepr[2].endswith((NO_DOVECOT, NO_POSTGRES)):
        report.longrepr = (__file__, 1, report.longrepr[2])
    return report
