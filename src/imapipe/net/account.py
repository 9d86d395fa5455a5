"""The URL of an account, and what it says of security.

`imaps://user@host[:993]` is TLS from the first byte; `imap://user@host[:143]` is plain, with STARTTLS
where the server offers it. User names hold `@` (`imaps://ann@example.org@imap.example.org`), so the last one
splits, and both sides are percent-decoded. A password has no place in a URL: URLs end up in logs.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from imapipe.errors import InvalidURL

_PORTS = {"imaps": 993, "imap": 143}
# With the dot at the end, which may be there.
_MAX_HOST: Final = 254
_MAX_LABEL: Final = 63


@dataclass(frozen=True, slots=True)
class Account:
    """Where and who.

    Attributes:
        tls: TLS from the first byte.
        user: May be empty where the caller gives it another way.
        host: Name or address.
        port: TCP port.
    """

    tls: bool
    user: str
    host: str
    port: int

    @property
    def key(self) -> str:
        """`user@host:port`: what checkpoints and limits are kept under."""
        return f"{self.user}@{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine by its name; where a socket leads is another question."""
        return self.host == "localhost" or is_loopback_address(self.host)


def is_loopback_address(text: str) -> bool:
    """Whether this is an address, and one of this machine."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def parse_url(url: str, *, user: str | None = None, host: str | None = None) -> Account:
    """Read the URL of an account.

    Args:
        url: `imaps://user@host[:port]` or `imap://user@host[:port]`.
        user: Takes the place of the URL's user, as it is (not percent-decoded).
        host: Takes the place of the URL's host.

    Raises:
        InvalidURL: One sentence says what to change. A password in the URL is refused without repeating it.
    """
    if not isinstance(url, str):
        raise InvalidURL("the URL is a str such as imaps://ann@imap.example.org")
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _PORTS:
        raise InvalidURL("the URL must begin with imaps:// or imap://, as in imaps://ann@imap.example.org")
    authority, slash, path = rest.partition("/")
    if slash and path:
        raise InvalidURL("the URL must end after the host: name the mailbox on its own")
    if "?" in authority or "#" in authority:
        raise InvalidURL("the URL must end after the host: a ? or # in a user name is written %3F or %23")
    userinfo, at, hostport = authority.rpartition("@")
    if at and ":" in userinfo:
        raise InvalidURL("the URL holds a password (or a ':' in the user name, which is written %3A): give it apart")
    url_host, port = _split_port(hostport, _PORTS[scheme])
    named_user = user if user is not None else unquote(userinfo)
    named_host = host if host is not None else unquote(url_host)
    if not named_host:
        raise InvalidURL("the URL names no host, as in imaps://ann@imap.example.org")
    for what, value in (("user name", named_user), ("host", named_host)):
        if any(character in value for character in "\r\n\0"):
            raise InvalidURL(f"the {what} holds a line end or NUL")
        if not _is_text(value):
            raise InvalidURL(f"the {what} holds half a surrogate pair")
    if " " in named_host:
        raise InvalidURL("the host holds a space")
    if not _is_host(named_host):
        raise InvalidURL("the host is no name on the net: its parts, between dots, have 1 to 63 characters, 253 in all")
    return Account(tls=scheme == "imaps", user=named_user, host=named_host, port=port)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_host(name: str) -> bool:
    """Whether a name can be looked up; for others the resolver raises UnicodeError (RFC 1035 §2.3.4)."""
    if len(name) > _MAX_HOST:
        return False
    if name.isascii():
        # As the codec has it, whose tables take longer to import than a small job to run.
        *labels, last = name.split(".")
        return len(last) <= _MAX_LABEL and all(0 < len(label) <= _MAX_LABEL for label in labels)
    try:
        return len(name.encode("idna")) <= _MAX_HOST
    except UnicodeError:
        return False


def _split_port(hostport: str, default: int) -> tuple[str, int]:
    if hostport.startswith("["):
        host, bracket, rest = hostport[1:].partition("]")
        if not bracket:
            raise InvalidURL("the address in brackets has no closing bracket")
        digits = rest.removeprefix(":")
        if rest and not rest.startswith(":"):
            raise InvalidURL("after the address in brackets only :port may follow")
    else:
        host, _, digits = hostport.partition(":")
    if not digits:
        return host, default
    # More digits than these may be more than int() takes.
    is_short_number = digits.isascii() and digits.isdigit() and len(digits) < 6
    if not is_short_number or not 0 < int(digits) < 65536:
        # Where the host was forgotten, this is the password.
        shown = repr(digits) if is_short_number else "what stands behind the ':' of the host"
        raise InvalidURL(f"{shown} is not a port: use a number from 1 to 65535")
    return host, int(digits)
