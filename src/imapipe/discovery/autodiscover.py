"""Where the mailbox of an address is: SRV records, then what the domain publishes, then the table of providers.

Invariants:

- Nothing is looked up unless somebody calls this, and nobody but the domain of the address is asked. The address itself
  is sent nowhere.
- No way of finding a server leads to one without TLS, and no redirection from https to http is followed.
- What a DNS answer alone says is marked (`is_vouched`): an attacker can forge it, and would be given the password
  (RFC 6186 §6).
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote, urljoin

from imapipe.discovery.autoconfig import parse_autoconfig
from imapipe.discovery.records import Records
from imapipe.errors import AutodiscoverFailed, ConnectionFailed, InvalidURL
from imapipe.https import HttpAnswer, request
from imapipe.net.account import parse_url
from imapipe.net.reaching import OpenSocket
from imapipe.providers import PROVIDERS, UNKNOWN, provider_of

_MAX_DOCUMENT_BYTES: Final = 64 * 1024
_HTTP_SECONDS: Final = 10.0
_MAX_REDIRECTIONS: Final = 3
_REDIRECTIONS: Final = (301, 302, 303, 307, 308)
_PORTS: Final = {"imaps": 993, "imap": 143}
# RFC 8314 §5.1: TLS from the first byte is preferred.
_SERVICES: Final = (("imaps", "_imaps._tcp"), ("imap", "_imap._tcp"))
_PLACES: Final = (
    "https://autoconfig.{}/mail/config-v1.1.xml",
    "https://{}/.well-known/autoconfig/mail/config-v1.1.xml",
)

Source = Literal["srv", "autoconfig", "provider"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovered:
    """Where a mailbox is, and who says so.

    Attributes:
        url: For `create_pool`.
        source: `srv`: a record of the DNS; `autoconfig`: what the domain publishes; `provider`: our own table.
        detail: The name of the record, the address of the document, or the provider.
        is_vouched: The server is below the domain of the address, or a known provider's, or the domain said so over
            https. Where it is not, look at the name of the server before it gets a password.
        authentication: How to log in, in the words of the document, such as `OAuth2`; empty where nothing is said.
    """

    url: str
    source: Source
    detail: str
    is_vouched: bool
    authentication: tuple[str, ...] = ()


async def autodiscover(
    address: str,
    *,
    ssl_context: ssl.SSLContext | None = None,
    open_socket: OpenSocket | None = None,
    name_server: str | None = None,
) -> Discovered:
    """Find the IMAP server of an address: `await imapipe.autodiscover("ann@example.org")`.

    In this order: SRV records (RFC 6186, RFC 8314), the document that the domain publishes for mail programs, the table
    of providers (by the domain, or by who receives its mail).

    Args:
        address: A mail address.
        ssl_context: Trust other certificates than the system does.
        open_socket: The way through a proxy, for https; see `create_pool`. The DNS is asked without.
        name_server: `host:port` of a name server instead of the system's.

    Raises:
        ValueError: Not a mail address.
        AutodiscoverFailed: Nobody says where it is; the text says what was asked.
        ModuleNotFoundError: dnspython is not installed: `pip install 'imapipe[autodiscover]'`.

    Cancelling it ends what is under way.
    """
    user, domain = _split(address)
    records = Records(name_server)
    found = (
        await _by_records(records, user, domain)
        or await _by_document(user, domain, ssl_context, open_socket)
        or await _by_table(records, user, domain)
    )
    if found is None:
        tried = [f"{name}.{domain}" for _, name in _SERVICES] + [place.format(domain) for place in _PLACES]
        raise AutodiscoverFailed(address, (*tried, f"the mail servers (MX) of {domain}"))
    return found


def _split(address: str) -> tuple[str, str]:
    """The address as it is, and its domain as the DNS has it. Raises ValueError."""
    local, at, domain = address.rpartition("@")
    try:
        ascii_domain = domain.rstrip(".").encode("idna").decode("ascii").lower()
    except UnicodeError:
        ascii_domain = ""
    is_name = "." in ascii_domain and all(each.isalnum() or each in "-." for each in ascii_domain)
    if not local or not at or not is_name or not address.isprintable():
        raise ValueError(f"{address!r} is no mail address such as ann@example.org")
    return address, ascii_domain


async def _by_records(records: Records, user: str, domain: str) -> Discovered | None:
    names = [f"{name}.{domain}" for _, name in _SERVICES]
    answers = await asyncio.gather(*map(records.services, names))
    for (scheme, _), name, services in zip(_SERVICES, names, answers, strict=True):
        for service in services:
            url = _url(scheme, user, service.host, service.port)
            if url:
                return Discovered(url=url, source="srv", detail=name, is_vouched=_is_below(service.host, domain))
    return None


async def _by_document(
    user: str, domain: str, ssl_context: ssl.SSLContext | None, open_socket: OpenSocket | None
) -> Discovered | None:
    places = [place.format(domain) for place in _PLACES]
    found = await asyncio.gather(*(_document(place, ssl_context, open_socket) for place in places))
    for place, document in zip(places, found, strict=True):
        try:
            settings = parse_autoconfig(document, user) if document else []
        except ValueError:
            continue
        for setting in settings:
            port = int(setting.port) if setting.port.isdecimal() and len(setting.port) < 6 else 0
            url = _url(setting.scheme, setting.user, setting.host, port)
            if url:
                return Discovered(
                    url=url,
                    source="autoconfig",
                    detail=place,
                    is_vouched=True,
                    authentication=setting.authentication,
                )
    return None


async def _document(place: str, ssl_context: ssl.SSLContext | None, open_socket: OpenSocket | None) -> bytes:
    """What is found there, or nothing."""
    for _ in range(_MAX_REDIRECTIONS + 1):
        try:
            answer: HttpAnswer = await request(
                place,
                ssl_context=ssl_context,
                open_socket=open_socket,
                timeout_seconds=_HTTP_SECONDS,
                max_bytes=_MAX_DOCUMENT_BYTES,
            )
        except (ConnectionFailed, ValueError):
            return b""
        if answer.status not in _REDIRECTIONS:
            return answer.body if answer.status == 200 else b""
        try:
            place = urljoin(place, answer.location)
        except ValueError:
            return b""
        if not place.startswith("https://"):
            return b""
    return b""


async def _by_table(records: Records, user: str, domain: str) -> Discovered | None:
    provider = next((each for each in PROVIDERS if domain in each.domains), None)
    if provider is None:
        for exchanger in await records.mail_exchangers(domain):
            ends = [(each, end) for each in PROVIDERS for end in each.mail_exchangers]
            provider = next((each for each, end in ends if _is_below(exchanger, end)), None)
            if provider is not None:
                break
    if provider is None:
        return None
    url = _url("imaps", user, provider.hosts[0], _PORTS["imaps"])
    return Discovered(url=url, source="provider", detail=provider.name, is_vouched=True)


def _url(scheme: str, user: str, host: str, port: int) -> str:
    """The URL, or "" where these cannot be one."""
    port_part = "" if port == _PORTS[scheme] else f":{port}"
    url = f"{scheme}://{quote(user, safe='@')}@{host}{port_part}"
    try:
        account = parse_url(url)
    except InvalidURL:
        return ""
    return url if account.host == host and account.user == user else ""


def _is_below(host: str, domain: str) -> bool:
    host = host.lower()
    return host == domain or host.endswith(f".{domain}") or provider_of(host) is not UNKNOWN
