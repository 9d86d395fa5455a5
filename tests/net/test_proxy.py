"""The way through a proxy: SOCKS 5 and HTTP CONNECT."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

import imapipe
from imapipe import search as q
from imapipe.net.proxy import through_proxy
from imapipe.testing import Server

pytest.importorskip("python_socks")


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


class Proxy:
    """A proxy on loopback that speaks SOCKS 5 (with a password) or HTTP CONNECT.

    Attributes:
        asked: The names and ports that were asked for.
    """

    def __init__(self, target: int, *, refuse: bool = False) -> None:
        self._target = target
        self._refuse = refuse
        self.asked: list[tuple[str, int]] = []

    async def socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, count = await reader.readexactly(2)
        await reader.readexactly(count)
        writer.write(b"\x05\x02")
        _, length = await reader.readexactly(2)
        user = await reader.readexactly(length)
        password = await reader.readexactly((await reader.readexactly(1))[0])
        writer.write(b"\x01" + bytes([(user, password) != (b"ann", b"s3cret")]))
        if (user, password) != (b"ann", b"s3cret"):
            writer.close()
            return
        *_, kind, length = await reader.readexactly(5)
        assert kind == 3, "the name goes to the proxy as a name"
        host = (await reader.readexactly(length)).decode()
        (port,) = struct.unpack(">H", await reader.readexactly(2))
        self.asked.append((host, port))
        writer.write(b"\x05" + bytes([5 if self._refuse else 0]) + b"\x00\x01" + bytes(6))
        await self._go_on(reader, writer)

    async def http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        host, _, port = head.split()[1].rpartition(":")
        self.asked.append((host, int(port)))
        writer.write(
            b"HTTP/1.1 403 Forbidden\r\n\r\n" if self._refuse else b"HTTP/1.1 200 Connection established\r\n\r\n"
        )
        await self._go_on(reader, writer)

    async def _go_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuse:
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer), return_exceptions=True)


@asynccontextmanager
async def _listen(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.asyncio
@pytest.mark.parametrize("scheme", ["socks5", "http"])
async def test_a_job_through_a_proxy(scheme: str) -> None:
    async with Server(30) as server:
        proxy = Proxy(server.port)
        async with _listen(proxy.socks if scheme == "socks5" else proxy.http) as port:
            url = f"{scheme}://ann:s3cret@127.0.0.1:{port}"
            # A name that only the proxy can look up. What leads to another host takes no password in the clear.
            pool = imapipe.create_pool(
                f"imap://{server.user}@mail.inside:1143",
                password=server.password,
                proxy=url,
                allow_plaintext=True,
                max_size=2,
            )
            async with pool:
                assert len(await pool.mailbox("INBOX").search(q.ALL).uids()) == 30
    assert set(proxy.asked) == {("mail.inside", 1143)}


@pytest.mark.asyncio
@pytest.mark.parametrize("scheme", ["socks5", "http"])
async def test_a_proxy_that_refuses_is_named_without_its_password(scheme: str) -> None:
    proxy = Proxy(1, refuse=True)
    async with _listen(proxy.socks if scheme == "socks5" else proxy.http) as port:
        url = f"{scheme}://ann:s3cret@127.0.0.1:{port}"
        async with imapipe.create_pool("imaps://ann@mail.inside", password="x", proxy=url) as pool:
            with pytest.raises(
                imapipe.ConnectionFailed, match=f"the proxy {scheme}://127.0.0.1:{port} could"
            ) as caught:
                await pool.mailboxes()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "socks5://127.0.0.1",
        "ftp://127.0.0.1:21",
        "127.0.0.1:1080",
        "http://h:1/path",
        "http://h:99999",
        "http://[::1",
        "",
    ],
)
def test_what_is_no_proxy_is_refused_without_being_told(url: str) -> None:
    with pytest.raises(ValueError, match="takes the URL of a proxy: use socks5://") as caught:
        through_proxy(url)
    assert not url or url not in str(caught.value)


def test_a_proxy_and_a_socket_of_ones_own_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        imapipe.create_pool(
            "imaps://ann@h",
            password="x",
            proxy="socks5://h:1",
            open_socket=through_proxy("socks5://h:1"),
        )


@pytest.mark.asyncio
async def test_a_proxy_that_echoes_the_password_is_not_told_on() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        said = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"proxy-authorization"))
        writer.write(b"HTTP/1.1 407 s3cret! " + said + b"\r\n\r\n")
        await writer.drain()
        writer.close()

    async with _listen(echo) as port:
        with pytest.raises(ConnectionError, match="407") as caught:
            await through_proxy(f"http://ann:s3cret%21@127.0.0.1:{port}")("imap.example.org", 993)
    assert "s3cret" not in str(caught.value)
    assert base64.b64encode(b"ann:s3cret!").decode() not in str(caught.value)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 \x1b[2J\x9b\xe2\x80\xae" + b"x" * 60_000 + b"\r\n\r\n",
        b"HTTP/1.1 " + b"9" * 5000 + b" no\r\n\r\n",
        b"HTTP/1.1 \xff\xfe\x1b no\r\n\r\n",
        b"\x1b" * 60_000,
        b"\r\n\r\n",
        b"",
    ],
    ids=range(6),
)
async def test_what_a_proxy_says_is_short_and_does_not_act(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with (
        server,
        imapipe.create_pool("imaps://ann@imap.example.org", password="p4ss", proxy=f"http://127.0.0.1:{port}") as pool,
    ):
        with pytest.raises(
            imapipe.ConnectionFailed, match=r"the proxy http://127\.0\.0\.1:\d+ could not connect"
        ) as caught:
            await pool.mailboxes()
    error: BaseException | None = caught.value
    while error is not None:
        assert str(error).isprintable()
        assert len(str(error)) < 1200
        error = error.__cause__
    assert len(caught.value.reason) <= 1000


@pytest.mark.asyncio
async def test_the_answer_of_a_proxy_comes_in_pieces_and_the_greeting_with_the_last() -> None:
    """A server of IMAP speaks first, so its words may be in the same packet."""
    async with Server(3) as imap_server:

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", imap_server.port)
            greeting = await far_reader.readline()
            for piece in (b"HTTP/1.1 200", b" fine\r\nX: y\r", b"\nVia: z\r\n\r", b"\n" + greeting):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer), return_exceptions=True)

        async with (
            _listen(serve) as port,
            imapipe.create_pool(
                f"imap://{imap_server.user}@mail.inside:1143",
                password=imap_server.password,
                proxy=f"http://127.0.0.1:{port}",
                allow_plaintext=True,
            ) as pool,
        ):
            assert len(await pool.mailbox("INBOX").search(q.ALL).uids()) == 3


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000, "no end within 16,384 bytes"),
        (b"HTTP/1.1 200 OK\r\nX: y\r\n", "was cut off"),
        (b"SSH-2.0-x\r\n\r\n", "it answers 'SSH-2.0-x'"),
        (b"HTTP/1.1 407 Who are you?\r\n\r\n", "407 Who are you"),
    ],
    ids=["endless", "cut off", "something else", "refused"],
)
async def test_an_answer_that_is_none_is_told(answer: bytes, said: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        with suppress(ConnectionError):
            await writer.drain()
        writer.close()

    async with _listen(serve) as port:
        with pytest.raises(ConnectionError, match=said):
            await through_proxy(f"http://ann:p%C3%A4ss%E2%82%AC@127.0.0.1:{port}")("imap.example.org", 993)
