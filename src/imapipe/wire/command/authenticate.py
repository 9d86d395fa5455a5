"""AUTHENTICATE (RFC 9051 §6.2.2) and its mechanisms: PLAIN (RFC 4616), OAUTHBEARER (RFC 7628), XOAUTH2.

Invariant: no part of what identifies somebody can end its field and begin another one; errors hold none of them.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Final

from imapipe.wire.command.encoder import Request, atom

_CONTROLS: Final = re.compile("[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Mechanism:
    """A mechanism with what it says.

    Attributes:
        name: Its name.
        response: The line that answers the first request.
        after_refusal: The line that answers every further one: the server tells why it refuses, and waits.
    """

    name: str
    response: bytes = field(repr=False)
    after_refusal: bytes


def plain(user: str, password: str) -> Mechanism:
    """PLAIN: a password.

    Raises:
        ValueError: CR, LF or NUL in one of them.
    """
    if any(character in user + password for character in "\r\n\0"):
        raise ValueError("the user name or the password holds a line end or NUL")
    return Mechanism("PLAIN", _line(f"\0{user}\0{password}"), b"*\r\n")


def oauthbearer(user: str, token: str, *, host: str, port: int) -> Mechanism:
    """OAUTHBEARER: an access token.

    Raises:
        ValueError: A control character in one of them.
    """
    _check(user, token, host)
    name = user.replace("=", "=3D").replace(",", "=2C")
    text = f"n,a={name},\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01"
    return Mechanism("OAUTHBEARER", _line(text), b"AQ==\r\n")


def xoauth2(user: str, token: str) -> Mechanism:
    """XOAUTH2, from before the standard: an access token.

    Raises:
        ValueError: A control character in one of them.
    """
    _check(user, token)
    return Mechanism("XOAUTH2", _line(f"user={user}\x01auth=Bearer {token}\x01\x01"), b"\r\n")


def authenticate(mechanism: Mechanism, *, initial: bool) -> Request:
    """AUTHENTICATE, with the response on its line where SASL-IR (RFC 4959) is offered (`initial`)."""
    name = atom(mechanism.name, "a mechanism")
    if not initial:
        return Request("AUTHENTICATE", name)
    return Request("AUTHENTICATE", name, mechanism.response.removesuffix(b"\r\n"))


def _check(*fields: str) -> None:
    if any(map(_CONTROLS.search, fields)):
        raise ValueError("the user name or the token holds a control character")


def _line(text: str) -> bytes:
    return b64encode(text.encode()) + b"\r\n"
