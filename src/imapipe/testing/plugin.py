"""A plugin for pytest: the fixtures `imap_server` and `imap_servers`, and the marker that says what is in the server.

A test suite asks for it in its `conftest.py`::

    pytest_plugins = ["imapipe.testing.plugin"]

The server runs in a thread of its own, so that it serves tests of any kind: plain ones, of pytest-asyncio, of anyio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from anyio.from_thread import start_blocking_portal

from .providers import provider_server
from .server import Server

if TYPE_CHECKING:
    ServerStarter = Callable[..., Server]

_MARKER = (
    "imap_server(messages=0, *, provider=None, **options): what `imap_server` holds and how it behaves; the arguments "
    "are those of imapipe.testing.Server, or with provider= those of imapipe.testing.provider_server"
)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def imap_servers() -> Iterator[ServerStarter]:
    """A function that starts a server, with the arguments of the marker; each ends with the test.

    Example::

        def test_a_copy(imap_servers):
            source, target = imap_servers(messages=100), imap_servers()
    """
    with ExitStack() as stack:

        def start(messages: object = 0, *, provider: str | None = None, **options: object) -> Server:
            portal = stack.enter_context(start_blocking_portal())
            # Made where it runs: what is wrong in the arguments is told to the test all the same.
            server = portal.call(_make, messages, provider, options)
            return stack.enter_context(portal.wrap_async_context_manager(server))

        yield start


@pytest.fixture
def imap_server(request: pytest.FixtureRequest, imap_servers: ServerStarter) -> Server:
    """A server of the test's own: an empty INBOX, unless the marker `imap_server` says more.

    Example::

        @pytest.mark.imap_server(messages=1000, provider="gmail")
        async def test_my_handler(imap_server):
            async with imapipe.create_pool(imap_server.url, password=imap_server.password) as pool:
                ...
    """
    marker = request.node.get_closest_marker("imap_server")
    return imap_servers(*marker.args, **marker.kwargs) if marker else imap_servers()


def _make(messages: object, provider: str | None, options: dict[str, object]) -> Server:
    if provider is None:
        return Server(messages, **options)  # type: ignore[arg-type]
    return provider_server(provider, messages, **options)  # type: ignore[arg-type]
