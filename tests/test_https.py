"""One request over HTTPS: bounded, encrypted, and one sentence for whatever goes wrong."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import imapipe
from dovecot_server.certificate import write_certificate
from imapipe.https import request


@asynccontextmanager
async def _answering(answer: bytes, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A port that says the same to everybody."""

    tasks: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await asyncio.gather(*tasks)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    ],
)
async def test_each_way_of_saying_how_long_it_is(answer: bytes) -> None:
    async with _answering(answer) as port:
        found = await request(f"http://127.0.0.1:{port}/")
    assert (found.status, found.body) == (200, b"hello")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"* OK IMAP4rev1\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "or not to its end"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: nine\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000000000\r\n\r\n", "more than 1,000 bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5000, "more than 1,000 bytes"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000 + b"\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "does not speak HTTP"),
        (b"", "does not speak HTTP"),
    ],
)
async def test_an_answer_that_is_none(answer: bytes, says: str) -> None:
    async with _answering(answer) as port:
        with pytest.raises(imapipe.ConnectionFailed, match=says):
            await request(f"http://127.0.0.1:{port}/", max_bytes=1000)


@pytest.mark.asyncio
async def test_tls_with_a_certificate_that_is_trusted_and_one_that_is_not(tmp_path: Path) -> None:
    file, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    write_certificate(file, key, ["localhost"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    async with _answering(b"HTTP/1.1 302 x\r\nLocation: https://elsewhere/\r\n\r\n", context) as port:
        url = f"https://localhost:{port}/"
        answer = await request(url, ssl_context=ssl.create_default_context(cafile=str(file)))
        # Whether it is gone to is for the caller.
        assert (answer.status, answer.location) == (302, "https://elsewhere/")
        with pytest.raises(imapipe.ConnectionFailed, match="the TLS certificate was not accepted"):
            await request(url)
    with pytest.raises(imapipe.ConnectionFailed, match="the port refused it"):
        await request(url)


@pytest.mark.asyncio
async def test_plain_http_stays_on_this_machine() -> None:
    with pytest.raises(ValueError, match="must begin with https://"):
        await request("http://example.org/")


@pytest.mark.asyncio
async def test_a_silent_server_is_not_waited_for_for_ever() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        with pytest.raises(imapipe.ConnectionFailed, match="nothing usable in"):
            await request(f"http://127.0.0.1:{listening.getsockname()[1]}/", timeout_seconds=0.05)
