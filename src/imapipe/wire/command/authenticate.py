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
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_TOKEN: Final = re.compile(r"[!-~]+")


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
        ValueError: As `check_credential` does.
    """
    check_credential(user, "the user name")
    check_credential(password, "the password")
    return Mechanism("PLAIN", _line(f"\0{user}\0{password}"), b"*\r\n")


def oauthbearer(user: str, token: str, *, host: str, port: int) -> Mechanism:
    """OAUTHBEARER: an access token.

    Raises:
        ValueError: As `check_credential` does, or a token that is none (RFC 6750 §2.1).
    """
    _check(user, token)
    check_credential(host, "the host")
    name = user.replace("=", "=3D").replace(",", "=2C")
    text = f"n,a={name},\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01"
    return Mechanism("OAUTHBEARER", _line(text), b"AQ==\r\n")


def xoauth2(user: str, token: str) -> Mechanism:
    """XOAUTH2, from before the standard: an access token.

    Raises:
        ValueError: As `check_credential` does, or a token that is none (RFC 6750 §2.1).
    """
    _check(user, token)
    return Mechanism("XOAUTH2", _line(f"user={user}\x01auth=Bearer {token}\x01\x01"), b"\r\n")


def authenticate(mechanism: Mechanism, *, initial: bool) -> Request:
    """AUTHENTICATE, with the response on its line where SASL-IR (RFC 4959) is offered (`initial`)."""
    name = atom(mechanism.name, "a mechanism")
    if not initial:
        return Request("AUTHENTICATE", name)
    return Request("AUTHENTICATE", name, mechanism.response.removesuffix(b"\r\n"))


def check_credential(text: str, what: str) -> None:
    """Look at what is to be sent in a login.

    Args:
        text: The user name or the secret.
        what: What it is, for the error.

    Raises:
        ValueError: A control character in it, which would end a field (and which SASLprep forbids, RFC 4013 §2.3), or
            half a surrogate pair. The error holds nothing of it, nor does one behind it.
    """
    if _CONTROLS.search(text):
        raise ValueError(f"{what} holds a control character")
    if _SURROGATES.search(text):
        raise ValueError(f"{what} holds what is no text: bytes that were not UTF-8, or half a surrogate pair")


def _check(user: str, token: str) -> None:
    check_credential(user, "the user name")
    check_credential(token, "the token")
    if not _TOKEN.fullmatch(token):
        raise ValueError("the token holds what no access token holds: a space, or more than ASCII")


def _line(text: str) -> bytes:
    return b64encode(text.encode()) + b"\r\n"
