"""What the tests of connections share: certificates, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import ssl
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from dovecot_server.certificate import write_certificate


@pytest.fixture(scope="session")
def make_contexts(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[ssl.SSLContext, ssl.SSLContext]]:
    """Contexts for a server with a certificate of its own, and for a client that trusts it."""

    def make(*hosts: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        folder: Path = tmp_path_factory.mktemp("certificate")
        certificate, key = folder / "certificate.pem", folder / "key.pem"
        write_certificate(certificate, key, hosts or ("localhost", "127.0.0.1"))
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(certificate, key)
        return server, ssl.create_default_context(cafile=str(certificate))

    return make


@pytest.fixture(scope="session")
def contexts(
    make_contexts: Callable[..., tuple[ssl.SSLContext, ssl.SSLContext]],
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server and a client for 127.0.0.1."""
    return make_contexts()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Sockets and tasks that nobody closed say so when they are collected: within the test that made them."""
    yield
    gc.collect()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Leave what a test did not take with it out of all further collections, which would cost more than the tests."""
    try:
        return (yield)
    finally:
        # What the test was given has gone only now.
        gc.collect()
        gc.freeze()


@pytest.fixture
def other_tasks() -> Callable[[], set[str]]:
    """The tasks that run beside the test, by name or by what they do."""

    def names() -> set[str]:
        return {repr(task.get_coro()) for task in asyncio.all_tasks() if task is not asyncio.current_task()}

    return names
