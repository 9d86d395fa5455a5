"""Clients that others wrote find a server they understand; lifecycle; TLS."""

from __future__ import annotations

import asyncio
import imaplib
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aioimaplib
import pytest
from imapclient import IMAPClient

from dovecot_server.certificate import write_certificate
from imapipe.testing import Inject, Server, SyntheticMailbox
from imapipe.testing.server import FetchOrder
from imapipe.testing.structure import StringStyle

Connect = Callable[[int], Awaitable[Any]]


@pytest.fixture
def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's TLS context that trust each other."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    write_certificate(certificate, key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=str(certificate))


@pytest.mark.asyncio
async def test_imaplib_writes() -> None:
    def use(port: int) -> list[object]:
        with imaplib.IMAP4("127.0.0.1", port) as client:
            client.login("ann", "secret")
            client.create("Work")
            client.append("Work", "(\\Seen)", imaplib.Time2Internaldate(0), b"Subject: a\r\n\r\nb\r\n")
            client.select("Work")
            flags = client.store("1", "+FLAGS", "\\Deleted")[1]
            gone = client.expunge()[1]
            return [client.list()[1], flags, gone, client.status("Work", "(MESSAGES UIDNEXT)")[1]]

    async with Server() as server:
        listed, flags, gone, status = await asyncio.to_thread(use, server.port)
    assert listed == [b'(\\HasNoChildren) "/" "INBOX"', b'(\\HasNoChildren) "/" "Work"']
    assert flags == [b"1 (FLAGS (\\Deleted \\Seen))"]
    assert gone == [b"1"]
    assert status == [b'"Work" (MESSAGES 0 UIDNEXT 2)']


@pytest.mark.asyncio
@pytest.mark.parametrize("strings", ["auto", "quoted", "literal"])
@pytest.mark.parametrize("order", ["asked", "uid_last", "shuffled"])
async def test_imapclient(strings: StringStyle, order: FetchOrder) -> None:
    def use(port: int) -> dict[str, Any]:
        with IMAPClient("127.0.0.1", port, ssl=False, use_uid=True) as client:
            client.login("ann", "secret")
            out: dict[str, Any] = {"folders": client.list_folders()}
            out["selected"] = client.select_folder("INBOX")
            out["found"] = client.search(["UNSEEN"])
            out["data"] = client.fetch(out["found"], ["ENVELOPE", "BODYSTRUCTURE", "FLAGS", "BODY.PEEK[]"])
            out["flags"] = client.add_flags([1], [b"\\Flagged"])
            client.create_folder("Été")
            client.copy([1, 2], "Été")
            client.delete_messages([3])
            client.expunge()
            client.idle()
            out["idle"] = client.idle_done()
            return out

    async with Server(messages=40, strings=strings, fetch_order=order, seed=5) as server:
        raw = {message.uid: message.content.raw for message in server.mailboxes["INBOX"]}
        out = await asyncio.to_thread(use, server.port)
        assert out["selected"][b"EXISTS"] == 40
        assert out["found"] == list(range(1, 41))
        assert {uid: item[b"BODY[]"] for uid, item in out["data"].items()} == raw
        assert all(item[b"ENVELOPE"].message_id for item in out["data"].values())
        assert all(item[b"BODYSTRUCTURE"] for item in out["data"].values())
        assert out["flags"] == {1: (b"\\Flagged",)}
        assert len(server.mailboxes["Été"]) == 2
        assert server.mailboxes["INBOX"].get(3) is None


@pytest.mark.asyncio
async def test_aioimaplib() -> None:
    async with Server(messages=3) as server:
        client = aioimaplib.IMAP4("127.0.0.1", server.port, timeout=5)
        await client.wait_hello_from_server()
        assert (await client.login("ann", "secret")).result == "OK"
        assert (await client.select("INBOX")).result == "OK"
        assert (await client.uid_search("ALL")).lines[0] == b"1 2 3"
        fetched = await client.uid("fetch", "2", "(UID RFC822.SIZE BODY.PEEK[HEADER])")
        assert fetched.result == "OK"
        idle = await client.idle_start(timeout=5)
        server.mailboxes["INBOX"].append(b"Subject: new\r\n\r\n")
        assert await client.wait_server_push() == [b"4 EXISTS"]
        client.idle_done()
        await idle
        assert (await client.append(b"Subject: more\r\n\r\n", "INBOX")).result == "OK"
        assert (await client.logout()).result == "OK"
        assert len(server.mailboxes["INBOX"]) == 5
        client.protocol.transport.close()


@pytest.mark.asyncio
async def test_tls_from_the_start(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    def use(port: int) -> tuple[object, ...]:
        with imaplib.IMAP4_SSL("127.0.0.1", port, ssl_context=contexts[1]) as client:
            client.login("ann", "secret")
            client.select()
            return tuple(client.fetch("1:2", "(UID)")[1])

    async with Server(messages=2, tls=contexts[0]) as server:
        assert server.url.startswith("imaps://ann@127.0.0.1:")
        assert await asyncio.to_thread(use, server.port) == (b"1 (UID 1)", b"2 (UID 2)")


@pytest.mark.asyncio
async def test_starttls(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    def use(port: int) -> list[Any]:
        refused = ""
        with imaplib.IMAP4("127.0.0.1", port) as client:
            try:
                client.login("ann", "secret")
            except imaplib.IMAP4.error as error:
                refused = str(error)
            client.starttls(contexts[1])
            client.login("ann", "secret")
            client.select()
            return [refused, client.fetch("1", "(BODY.PEEK[])")[1]]

    async with Server(
        messages=[b"Subject: x\r\n\r\n" + b"y" * 300_000], starttls=contexts[0], login_disabled=True
    ) as server:
        refused, data = await asyncio.to_thread(use, server.port)
        assert "PRIVACYREQUIRED" in refused
        assert len(data[0][1]) == 300_014


@pytest.mark.asyncio
async def test_bytes_between_starttls_and_handshake(
    connect: Connect, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    fault = Inject(b"* CAPABILITY IMAP4rev1 EVIL\r\n", where="after", command="STARTTLS")
    async with Server(starttls=contexts[0], faults=[fault]) as server:
        client = await connect(server.port)
        tag = client.send("STARTTLS")
        assert (await client.finish(tag))[-1].startswith(b"OK")
        assert await client.read() == b"* CAPABILITY IMAP4rev1 EVIL\r\n"


@pytest.mark.asyncio
async def test_failed_handshake_leaves_nothing(
    connect: Connect, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    async with Server(starttls=contexts[0]) as server:
        client = await connect(server.port)
        await client.ok("STARTTLS")
        client.writer.write(b"this is no handshake\r\n")
        await client.rest()
    assert server.counters.open_connections == 0


@pytest.mark.asyncio
async def test_slow_client_does_not_fill_memory(connect: Connect) -> None:
    async with Server(messages=SyntheticMailbox(10_000, size=50_000)) as server:
        client = await connect(server.port)
        await client.login()
        client.send("UID FETCH 1:* (BODY.PEEK[])")
        previous = -1
        while server.commands[-1].messages != previous:
            previous = server.commands[-1].messages
            await asyncio.sleep(0.05)
        # What the kernel's and the client's buffers take, and no more.
        assert 0 < previous < 8000
        assert server.sessions[0].link.pending < 200_000


@pytest.mark.asyncio
async def test_exit_leaves_no_task_and_no_socket(connect: Connect) -> None:
    before = asyncio.all_tasks()
    async with Server(messages=SyntheticMailbox(1000, size=50_000)) as server:
        clients = [await connect(server.port) for _ in range(3)]
        for client in clients:
            await client.login()
        clients[0].send("UID FETCH 1:* (BODY.PEEK[])")
        clients[1].send("IDLE")
        await asyncio.sleep(0.02)
        assert server.counters.open_connections == 3
    assert asyncio.all_tasks() == before
    assert server.counters.open_connections == 0
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server.port)


@pytest.mark.asyncio
async def test_disconnect_all(connect: Connect) -> None:
    async with Server(messages=1) as server:
        client = await connect(server.port)
        await client.login()
        assert server.disconnect_all() == 1
        assert await client.rest() == b""


@pytest.mark.asyncio
async def test_log_and_counters(connect: Connect) -> None:
    async with Server(messages=SyntheticMailbox(10)) as server:
        client = await connect(server.port)
        await client.login()
        await client.ok("UID FETCH 1:4 (FLAGS)")
        await client.ok("UID FETCH 5:10 (FLAGS)")
        batches = server.commands.named("UID FETCH")
        assert [record.messages for record in batches] == [4, 6]
        assert [record.message_set for record in batches] == ["1:4", "5:10"]
        assert server.commands.names == ["LOGIN", "SELECT", "UID FETCH", "UID FETCH"]
        assert server.commands.by_name["UID FETCH"] == 2
        assert all(record.connection == 1 and record.outcome == "OK" for record in server.commands)
        assert server.counters.messages_fetched == 10
        sent = sum(record.bytes_out for record in server.commands)
        assert server.counters.bytes_out == sent + len(client.greeting)


@pytest.mark.asyncio
async def test_unknown_extension_is_an_error() -> None:
    with pytest.raises(ValueError, match="NONSENSE"):
        Server(add_extensions=["NONSENSE"])
    with pytest.raises(ValueError, match="unknown profile"):
        Server(extensions="nonsense")
