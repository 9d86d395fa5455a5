"""Logging in: LOGIN, PLAIN, XOAUTH2 and OAUTHBEARER (RFC 9051 §6.2, RFC 4616, RFC 7628).

Which one: with a token OAUTHBEARER where it is offered, else XOAUTH2; with a password AUTHENTICATE PLAIN where
LOGIN is disabled or the credentials need more than ASCII, else LOGIN. An initial response saves a round trip where
SASL-IR (RFC 4959) is offered.

Invariants: a secret is in no exception, log or repr. A server that asks on after a refused token (it sends the
reason as base64 JSON) is answered, or it would wait for ever.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Awaitable, Callable

from imapipe.errors import AuthenticationFailed, CapabilityMissing
from imapipe.net.command import Command
from imapipe.net.signals import is_refusal, to_error
from imapipe.wire.mailbox_name import quote
from imapipe.wire.response.response import Tagged

Token = Callable[[], Awaitable[str]]
Runner = Callable[[Command], Awaitable[Tagged]]


class Credentials:
    """Who logs in, and how.

    Args:
        user: The user name.
        password: The password, or None with a token.
        token: Called at every connect for a fresh access token.
    """

    __slots__ = ("_password", "_token", "user")

    def __init__(self, user: str, password: str | None, token: Token | None) -> None:
        if not user:
            raise ValueError("name the user: in the URL (imaps://ann@imap.example.org) or as user=")
        if (password is None) == (token is None):
            raise ValueError("give either password= or token=, and not both")
        if password is not None and not isinstance(password, str):
            raise TypeError(f"password takes a str, not {type(password).__name__}")
        if token is not None and not callable(token):
            raise TypeError("token takes an async function that gives an access token, not the token itself")
        self.user = user
        self._password = password
        self._token = token

    def __repr__(self) -> str:
        return f"<Credentials {self.user!r} with a {'password' if self._token is None else 'token'}>"

    @property
    def has_token(self) -> bool:
        """Whether a token callback is used."""
        return self._token is not None

    async def log_in(self, run: Runner, capabilities: frozenset[str], *, host: str, port: int) -> None:
        """Log in on a fresh connection.

        Raises:
            AuthenticationFailed: The server refused the credentials.
            Throttled: It refused because of too many connections or attempts.
            CapabilityMissing: It offers no way that fits the credentials.
        """
        if self._token is not None:
            command = await self._token_command(capabilities, host, port)
        else:
            command = self._password_command(capabilities)
        tagged = await run(command)
        if tagged.status == "OK":
            return
        error = to_error(command.name, tagged)
        if is_refusal(error):
            raise error
        raise AuthenticationFailed(command.name, tagged.status, error.code, error.text)

    async def _token_command(self, capabilities: frozenset[str], host: str, port: int) -> Command:
        assert self._token is not None
        token = await self._token()
        if "AUTH=OAUTHBEARER" in capabilities:
            user = self.user.replace("=", "=3D").replace(",", "=2C")
            initial = f"n,a={user},\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01"
            return _sasl("OAUTHBEARER", initial.encode(), capabilities, after_refusal=b"AQ==\r\n")
        if "AUTH=XOAUTH2" in capabilities:
            initial = f"user={self.user}\x01auth=Bearer {token}\x01\x01"
            return _sasl("XOAUTH2", initial.encode(), capabilities, after_refusal=b"\r\n")
        raise CapabilityMissing(
            "AUTH=OAUTHBEARER or AUTH=XOAUTH2", "a token cannot be used here; log in with a password"
        )

    def _password_command(self, capabilities: frozenset[str]) -> Command:
        assert self._password is not None
        plain = "AUTH=PLAIN" in capabilities
        ascii_only = self.user.isascii() and self._password.isascii()
        if plain and ("LOGINDISABLED" in capabilities or not ascii_only):
            initial = b"\0" + self.user.encode() + b"\0" + self._password.encode()
            return _sasl("PLAIN", initial, capabilities, after_refusal=b"*\r\n")
        if "LOGINDISABLED" in capabilities:
            raise CapabilityMissing(
                "LOGIN", "the server forbids passwords on this connection; use imaps:// or STARTTLS"
            )
        if any(c in self.user + self._password for c in "\r\n\0"):
            raise ValueError("the user name or the password holds a line end or NUL")
        if ascii_only:
            return Command("LOGIN", [b"LOGIN " + quote(self.user) + b" " + quote(self._password) + b"\r\n"])
        user, password = self.user.encode(), self._password.encode()
        return Command(
            "LOGIN",
            [b"LOGIN {%d}\r\n" % len(user), user + b" {%d}\r\n" % len(password), password + b"\r\n"],
        )


class _Sasl(Command):
    """AUTHENTICATE: gives its response when asked for it, and then the same line to everything else.

    Args:
        start: The first line, with or without the response.
        response: The response as it is sent.
        is_initial: Whether the first line holds it (RFC 4959).
        after_refusal: The answer to whatever else the server asks.
    """

    __slots__ = ("_after_refusal", "_is_initial", "_response")

    def __init__(self, start: bytes, response: bytes, *, is_initial: bool, after_refusal: bytes) -> None:
        super().__init__("AUTHENTICATE", [start], keeps_asking=True)
        self._response = response
        self._is_initial = is_initial
        self._after_refusal = after_refusal

    def next_piece(self, text: bytes) -> bytes | None:
        """Answer a request: the first one asks for the response, unless it was sent and not overlooked."""
        response, self._response = self._response, b""
        # With the response sent already, an empty request means that the server overlooked it.
        if response and not (self._is_initial and text):
            return response
        return self._after_refusal


def _sasl(mechanism: str, initial: bytes, capabilities: frozenset[str], *, after_refusal: bytes) -> Command:
    response = b64encode(initial)
    start = b"AUTHENTICATE " + mechanism.encode()
    is_initial = "SASL-IR" in capabilities
    if is_initial:
        start += b" " + response
    return _Sasl(start + b"\r\n", response + b"\r\n", is_initial=is_initial, after_refusal=after_refusal)
