"""The plugin gives servers to tests of any kind."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

SUITE = """
import imaplib
import pytest
import imapipe

async def subjects(server):
    async with imapipe.create_pool(server.url, password=server.password) as pool:
        return [m.subject async for m in pool.mailbox("INBOX").search(imapipe.search.ALL).fetch("envelope")]

def test_plain(imap_server):
    client = imaplib.IMAP4(imap_server.host, imap_server.port)
    client.login(imap_server.user, imap_server.password)
    assert client.select("INBOX")[1] == [b"0"]
    client.logout()

@pytest.mark.imap_server(messages=7, provider="gmail")
@pytest.mark.asyncio
async def test_of_asyncio(imap_server):
    assert len(await subjects(imap_server)) == 7
    assert "X-GM-EXT-1" in imap_server.extensions

@pytest.mark.imap_server(3)
@pytest.mark.anyio
async def test_of_anyio(imap_server, imap_servers):
    assert (len(await subjects(imap_server)), len(await subjects(imap_servers(messages=2)))) == (3, 2)

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


def test_the_fixtures_serve_tests_of_any_kind(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["imapipe.testing.plugin"]')
    pytester.makepyfile(SUITE)
    outcome = pytester.runpytest_subprocess("-q", "--strict-markers", "-p", "no:cacheprovider", "-p", "no:xdist")
    outcome.assert_outcomes(passed=3)
