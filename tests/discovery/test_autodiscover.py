"""Autodiscovery, against a name server and web servers on loopback that the tests start."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import dns.message
import dns.rrset
import pytest
import pytest_asyncio
from tests.web_server import answering

import imapipe
from dovecot_server.certificate import write_certificate
from imapipe.discovery import autoconfig, records
from imapipe.discovery.autoconfig import parse_autoconfig

DOCUMENT = """<?xml version="1.0"?>
<clientConfig version="1.1"><emailProvider id="example.org"><domain>example.org</domain>
<incomingServer type="pop3"><hostname>pop.example.org</hostname><port>995</port><socketType>SSL</socketType>
</incomingServer>
<incomingServer type="imap"><hostname>plain.example.org</hostname><port>143</port><socketType>plain</socketType>
</incomingServer>
<incomingServer type="imap"><hostname>start.example.org</hostname><port>143</port><socketType>STARTTLS</socketType>
 <username>%EMAILADDRESS%</username></incomingServer>
<incomingServer type="imap"><hostname>mail.%EMAILDOMAIN%</hostname><port>1993</port><socketType>SSL</socketType>
 <authentication>OAuth2</authentication><authentication>password-cleartext</authentication>
 <username>%EMAILLOCALPART%</username></incomingServer>
</emailProvider></clientConfig>"""


@dataclass
class World(asyncio.DatagramProtocol):
    """The DNS and the web, on loopback.

    Attributes:
        records: By `name kind`, the texts of records.
        pages: By URL, an answer.
        asked: What was asked for.
    """

    context: ssl.SSLContext
    records: dict[str, list[str]] = field(default_factory=dict)
    pages: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    ports: set[int] = field(default_factory=set)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # In Python 3.11 it is none by its class.
        self._dns = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        (question,) = query.question
        key = f"{question.name.to_text(omit_final_dot=True)} {dns.rdatatype.to_text(question.rdtype)}"
        self.asked.append(key)
        answer = dns.message.make_response(query)
        if texts := self.records.get(key):
            answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", question.rdtype, *texts))
        self._dns.sendto(answer.to_wire(), addr)

    def answer(self, head: str) -> bytes:
        url = f"https://{head.partition('Host: ')[2].split()[0]}{head.split(' ')[1]}"
        self.asked.append(url)
        return self.pages.get(url, b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n")

    async def find(self, address: str) -> imapipe.Discovered:
        name_server = ":".join(map(str, self._dns.get_extra_info("sockname")[:2]))
        found = await imapipe.autodiscover(
            address, ssl_context=self.trust, open_socket=self.open_socket, name_server=name_server
        )
        assert not [each for each in self.asked if each.startswith("http") and "ann" in each]
        return found

    async def open_socket(self, host: str, port: int) -> socket.socket:
        self.ports.add(port)
        opened = socket.socket()
        opened.setblocking(False)
        await asyncio.get_running_loop().sock_connect(opened, ("127.0.0.1", self.port))
        return opened

    @asynccontextmanager
    async def running(self, trust: ssl.SSLContext) -> AsyncIterator[None]:
        self.trust = trust
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, ("127.0.0.1", 0))
        try:
            async with answering(self.answer, self.context) as self.port:
                yield
        finally:
            self._dns.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    folder: Path = tmp_path_factory.mktemp("certificate")
    write_certificate(folder / "c.pem", folder / "k.pem", ["example.org", "autoconfig.example.org", "www.example.org"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "c.pem", folder / "k.pem")
    return context, ssl.create_default_context(cafile=str(folder / "c.pem"))


@pytest_asyncio.fixture
async def world(certificate: tuple[ssl.SSLContext, ssl.SSLContext]) -> AsyncIterator[World]:
    world = World(certificate[0])
    async with world.running(certificate[1]):
        yield world


def _page(document: str) -> bytes:
    body = document.encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def _moved(to: str) -> bytes:
    return f"HTTP/1.1 302 x\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.mark.asyncio
async def test_records_are_asked_first_and_tls_is_preferred(world: World) -> None:
    world.records = {
        "_imap._tcp.example.org SRV": ["0 1 143 start.example.org."],
        "_imaps._tcp.example.org SRV": [
            "20 9 993 later.example.org.",
            "10 1 993 b.example.org.",
            "10 5 9993 a.example.org.",
        ],
    }
    found = await world.find("ann@example.org")
    assert found.url == "imaps://ann@example.org@a.example.org:9993"
    assert (found.source, found.detail, found.is_vouched) == ("srv", "_imaps._tcp.example.org", True)
    assert not [each for each in world.asked if each.startswith("http")]
    del world.records["_imaps._tcp.example.org SRV"]
    assert (await world.find("ann@example.org")).url == "imap://ann@example.org@start.example.org"


@pytest.mark.asyncio
async def test_a_record_that_leads_elsewhere_is_not_vouched_for(world: World) -> None:
    world.records = {"_imaps._tcp.example.org SRV": ["0 1 993 imap.elsewhere.net."]}
    assert not (await world.find("ann@example.org")).is_vouched
    world.records = {"_imaps._tcp.example.org SRV": ["0 1 993 imap.gmail.com."]}
    assert (await world.find("ann@example.org")).is_vouched
    world.records = {"_imaps._tcp.example.org SRV": ["0 1 993 notexample.org."]}
    assert not (await world.find("ann@example.org")).is_vouched


@pytest.mark.asyncio
async def test_the_domains_document_is_next(world: World) -> None:
    # The dot says that there is no such service.
    world.records = {"_imaps._tcp.example.org SRV": ["0 0 0 ."]}
    well_known = "https://example.org/.well-known/autoconfig/mail/config-v1.1.xml"
    world.pages = {
        well_known: _moved("https://www.example.org/mail.xml"),
        "https://www.example.org/mail.xml": _page(DOCUMENT),
    }
    found = await world.find("ann@example.org")
    assert found.url == "imaps://ann@mail.example.org:1993"
    assert (found.source, found.detail, found.is_vouched) == ("autoconfig", well_known, True)
    assert found.authentication == ("OAuth2", "password-cleartext")
    first = "https://autoconfig.example.org/mail/config-v1.1.xml"
    world.pages[first] = _page(DOCUMENT.replace("mail.%EMAILDOMAIN%", "first.example.org"))
    assert (await world.find("ann@example.org")).url == "imaps://ann@first.example.org:1993"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "page",
    [
        _moved("http://autoconfig.example.org/mail.xml"),
        _moved("https://autoconfig.example.org/mail/config-v1.1.xml"),
        _moved("http://127.0.0.1/mail.xml"),
        _moved("//elsewhere.net/"),
        _moved("https://[/"),
        _moved(""),
        _page(DOCUMENT + " " * 100_000),
        _page("<html>" * 100_000),
        _page('<!DOCTYPE x [<!ENTITY a "mail.example.org">]>' + DOCUMENT.partition("?>")[2]),
        _page(DOCUMENT.replace("SSL", "plain").replace("STARTTLS", "plain")),
        _page(DOCUMENT.replace("mail.%EMAILDOMAIN%", "a b").replace("start.example.org", "x@evil.net/")),
        _page(""),
        b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n",
        b"\x00",
    ],
    ids=range(14),
)
async def test_a_hostile_document_leads_nowhere(world: World, page: bytes) -> None:
    world.pages = {"https://autoconfig.example.org/mail/config-v1.1.xml": page}
    with pytest.raises(
        imapipe.AutodiscoverFailed, match=r"nothing says where the mailbox of ann@example.org is"
    ) as caught:
        await world.find("ann@example.org")
    assert "_imaps._tcp.example.org" in caught.value.tried
    assert world.ports == {443}
    assert len([each for each in world.asked if each.startswith("https://autoconfig.example.org/")]) <= 4


@pytest.mark.asyncio
async def test_the_table_of_providers_is_last(world: World) -> None:
    world.records = {"example.org MX": ["20 other.example.org.", "10 aspmx.l.GOOGLE.com."]}
    found = await world.find("ann@example.org")
    assert (found.url, found.source, found.detail) == ("imaps://ann@example.org@imap.gmail.com", "provider", "Gmail")
    world.records = {"example.org MX": ["10 example-org.mail.protection.outlook.com."]}
    assert (await world.find("ann@example.org")).detail == "Exchange Online"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "address", ["ann", "@example.org", "ann@", "ann@example", "ann@exa mple.org", "ann\r\n@example.org"]
)
async def test_what_is_no_address(world: World, address: str) -> None:
    with pytest.raises(ValueError, match="is no mail address"):
        await world.find(address)
    assert not world.asked


@pytest.mark.asyncio
async def test_without_dnspython_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'imapipe\[autodiscover\]'"):
        await imapipe.autodiscover("ann@example.org")
    with pytest.raises(ValueError, match="is no mail address"):
        await imapipe.autodiscover(f"ann@{'x' * 64}.example.org")


@pytest.mark.asyncio
async def test_a_name_server_that_is_silent_leaves_the_rest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_SECONDS", 0.05)
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        name_server = f"127.0.0.1:{silent.getsockname()[1]}"
        found = await imapipe.autodiscover(
            "ann@gmail.com", ssl_context=world.trust, open_socket=world.open_socket, name_server=name_server
        )
        assert found.detail == "Gmail"
    with pytest.raises(ValueError, match="name_server takes host:port"):
        await imapipe.autodiscover("ann@gmail.com", name_server="nowhere")


def test_text_of_many_lines_is_taken_in_few_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece is added to what there is, and that is copied."""
    pieces: list[str] = []
    take = autoconfig._Reader.text

    def note(reader: autoconfig._Reader, data: str) -> None:
        pieces.append(data)
        take(reader, data)

    monkeypatch.setattr(autoconfig._Reader, "text", note)
    lines = "\n" * 60_000
    document = DOCUMENT.replace("mail.%EMAILDOMAIN%", f"mail.example.org{lines}").encode()
    assert "mail.example.org" in [each.host for each in parse_autoconfig(document, "ann@example.org")]
    assert len("".join(pieces)) > 60_000
    assert len(pieces) < 100


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_no_entity_hides_in_an_encoding(encoding: str) -> None:
    document = '<!DOCTYPE x [<!ENTITY a "b">]><clientConfig/>'.encode(encoding)
    with pytest.raises(ValueError, match="it "):
        parse_autoconfig(document, "ann@example.org")
