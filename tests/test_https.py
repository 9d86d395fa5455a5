"""One request over HTTPS: bounded, encrypted, and one sentence for whatever goes wrong."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest
from tests.web_server import answering

import imapipe
from dovecot_server.certificate import write_certificate
from imapipe import https
from imapipe.https import request


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
    async with answering(lambda _: answer) as port:
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
    async with answering(lambda _: answer) as port:
        with pytest.raises(imapipe.ConnectionFailed, match=says):
            await request(f"http://127.0.0.1:{port}/", max_bytes=1000)


@pytest.mark.asyncio
async def test_a_body_in_many_chunks_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []
    read = https._read

    def noted(head: bytes, body: bytes) -> https.HttpAnswer:
        threads.append(threading.current_thread())
        return read(head, body)

    monkeypatch.setattr(https, "_read", noted)
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n"
    async with answering(lambda _: answer) as port:
        found = await request(f"http://127.0.0.1:{port}/")
    assert found.body == b"x" * 20_000
    assert threads != [threading.current_thread()]
    assert len(threads) == 1


@pytest.mark.asyncio
async def test_tls_with_a_certificate_that_is_trusted_and_one_that_is_not(tmp_path: Path) -> None:
    file, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    write_certificate(file, key, ["localhost"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    async with answering(lambda _: b"HTTP/1.1 302 x\r\nLocation: https://elsewhere/\r\n\r\n", context) as port:
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
