"""The settings that a domain publishes for mail programs: `config-v1.1.xml`.

Invariants:

- Nobody's XML makes us do anything: a document type, and with it every entity, is refused, and the size is bounded by
  who fetched it.
- A server without TLS is passed over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from xml.parsers.expat import ExpatError, ParserCreate

_SCHEMES: Final = {"SSL": "imaps", "STARTTLS": "imap"}
_FIELDS: Final = frozenset(("hostname", "port", "socketType", "username", "authentication"))
_MAX_DEPTH: Final = 32


@dataclass(slots=True)
class Setting:
    """An IMAP server of the document.

    Attributes:
        scheme: `imaps` or `imap` (STARTTLS).
        host: Its name.
        port: Its port, as it is written.
        user: The user name, with the address in it.
        authentication: How to log in, in the document's words, such as `OAuth2` or `password-cleartext`.
    """

    scheme: str
    host: str
    port: str
    user: str
    authentication: tuple[str, ...]


@dataclass(slots=True)
class _Reader:
    """Takes the document in, element by element."""

    depth: int = 0
    name: str = ""
    fields: dict[str, list[str]] | None = None
    servers: list[dict[str, list[str]]] = field(default_factory=list)

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        if name == "incomingServer":
            self.fields = {} if attributes.get("type") == "imap" else None
        elif self.fields is not None and name in _FIELDS:
            self.name = name
            self.fields.setdefault(name, []).append("")

    def text(self, data: str) -> None:
        if self.fields is not None and self.name:
            self.fields[self.name][-1] += data

    def end(self, name: str) -> None:
        self.depth -= 1
        self.name = ""
        if name == "incomingServer" and self.fields is not None:
            self.servers.append(self.fields)
            self.fields = None

    def refuse(self, *_: object) -> None:
        raise ValueError("it has a document type")


def parse_autoconfig(document: bytes, address: str) -> list[Setting]:
    """The IMAP servers of a document that can be used, those with TLS from the first byte first.

    Args:
        document: The XML.
        address: Whose settings; it takes the places that the document leaves for it.

    Raises:
        ValueError: It is no such document.
    """
    reader, parser = _Reader(), ParserCreate()
    # Else each line is a call, and text that grows by a line is copied for each.
    parser.buffer_text = True
    parser.StartElementHandler = reader.begin
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.refuse
    try:
        parser.Parse(document, True)
    except (ExpatError, LookupError) as error:
        raise ValueError(f"it is no XML ({error})") from None
    settings = [_setting(fields, address) for fields in reader.servers]
    usable = [each for each in settings if each is not None]
    return sorted(usable, key=lambda each: each.scheme != "imaps")


def _setting(fields: dict[str, list[str]], address: str) -> Setting | None:
    def first(name: str) -> str:
        return fields.get(name, [""])[0].strip()

    scheme = _SCHEMES.get(first("socketType").upper())
    if scheme is None or not first("hostname"):
        return None
    local, _, domain = address.rpartition("@")
    user = first("username") or "%EMAILADDRESS%"
    for place, value in (("%EMAILADDRESS%", address), ("%EMAILLOCALPART%", local), ("%EMAILDOMAIN%", domain)):
        user = user.replace(place, value)
    host = first("hostname").replace("%EMAILDOMAIN%", domain)
    words = tuple(each.strip() for each in fields.get("authentication", ()))
    return Setting(scheme, host, first("port"), user, words)
