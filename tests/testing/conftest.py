"""A client for the testing server's own tests that shows every byte."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType

import pytest
import pytest_asyncio

_LITERAL = re.compile(rb"\{(\d+)\}\r\n$")


class RawClient:
    """Sends lines, reads responses whole (literals in place)."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.greeting = b""
        self._number = 0

    async def __aenter__(self) -> RawClient:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24)
        self.greeting = await self.reader.readline()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            return

    async def read(self) -> bytes:
        """One response with its literals."""
        response = b""
        while True:
            line = await asyncio.wait_for(self.reader.readline(), 60)
            response += line
            match = _LITERAL.search(line)
            if match is None:
                return response
            response += await asyncio.wait_for(self.reader.readexactly(int(match.group(1))), 60)

    def send(self, text: str | bytes) -> bytes:
        """Send a command without waiting and return its tag."""
        self._number += 1
        tag = b"t%d" % self._number
        self.writer.write(tag + b" " + (text.encode() if isinstance(text, str) else text) + b"\r\n")
        return tag

    async def finish(self, tag: bytes) -> list[bytes]:
        """All responses up to the tagged one, which is the last."""
        responses: list[bytes] = []
        while True:
            response = await self.read()
            if not response:
                raise EOFError(responses)
            responses.append(response)
            if response.startswith(tag + b" "):
                responses[-1] = response[len(tag) + 1 :].rstrip(b"\r\n")
                return responses

    async def run(self, text: str | bytes) -> list[bytes]:
        """Send a command and return its responses; the last is the tagged one without its tag."""
        return await self.finish(self.send(text))

    async def ok(self, text: str | bytes) -> list[bytes]:
        """The untagged responses of a command that must be OK, without ``* `` and line end."""
        responses = await self.run(text)
        assert responses[-1].startswith(b"OK"), responses
        return [response.removeprefix(b"* ").removesuffix(b"\r\n") for response in responses[:-1]]

    async def login(self, mailbox: str = "INBOX", command: str = "SELECT") -> None:
        """Log in and select."""
        await self.ok("LOGIN ann secret")
        await self.ok(f"{command} {mailbox}")

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        return await asyncio.wait_for(self.reader.read(), 60)


Connect = Callable[[int], Awaitable[RawClient]]


@pytest_asyncio.fixture
async def connect() -> AsyncIterator[Connect]:
    """Opens raw clients that are closed at the end of the test."""
    clients: list[RawClient] = []

    async def open_client(port: int) -> RawClient:
        client = await RawClient(port).__aenter__()
        clients.append(client)
        return client

    yield open_client
    for client in clients:
        await client.__aexit__(None, None, None)


@pytest.fixture
def simple_messages() -> list[bytes]:
    """Five small messages."""
    return [
        f"Subject: message {number}\r\nFrom: ann@example.org\r\n\r\nBody {number}\r\n".encode()
        for number in range(1, 6)
    ]
