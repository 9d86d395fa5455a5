"""Logging in: LOGIN, PLAIN, XOAUTH2 and OAUTHBEARER (RFC 9051 §6.2, RFC 4616, RFC 7628).

Which one: with a token OAUTHBEARER where it is offered, else XOAUTH2; with a password AUTHENTICATE PLAIN where
LOGIN is disabled or the credentials need more than ASCII, else LOGIN. An initial response saves a round trip where
SASL-IR (RFC 4959) is offered.

Invariants: a secret is in no exception, log or repr. A server that asks on after a refused token (it sends the
reason as base64 JSON) is answered, or it would wait for ever.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from imapipe.errors import AuthenticationFailed, CapabilityMissing
from imapipe.net.command import Command
from imapipe.net.signals import is_refusal, to_error
from imapipe.wire.command.authenticate import Mechanism, authenticate, oauthbearer, plain, xoauth2
from imapipe.wire.command.login import login
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
            return _Sasl(oauthbearer(self.user, token, host=host, port=port), initial="SASL-IR" in capabilities)
        if "AUTH=XOAUTH2" in capabilities:
            return _Sasl(xoauth2(self.user, token), initial="SASL-IR" in capabilities)
        raise CapabilityMissing(
            "AUTH=OAUTHBEARER or AUTH=XOAUTH2", "a token cannot be used here; log in with a password"
        )

    def _password_command(self, capabilities: frozenset[str]) -> Command:
        assert self._password is not None
        ascii_only = self.user.isascii() and self._password.isascii()
        if "AUTH=PLAIN" in capabilities and ("LOGINDISABLED" in capabilities or not ascii_only):
            return _Sasl(plain(self.user, self._password), initial="SASL-IR" in capabilities)
        if "LOGINDISABLED" in capabilities:
            raise CapabilityMissing(
                "LOGIN", "the server forbids passwords on this connection; use imaps:// or STARTTLS"
            )
        return Command.of(login(self.user, self._password))


class _Sasl(Command):
    """AUTHENTICATE: gives its response when asked for it, and then the same line to everything else.

    Args:
        mechanism: What is said.
        initial: Whether the first line holds the response (RFC 4959).
    """

    __slots__ = ("_after_refusal", "_initial", "_response")

    def __init__(self, mechanism: Mechanism, *, initial: bool) -> None:
        request = authenticate(mechanism, initial=initial)
        super().__init__(request.name, request.pieces, keeps_asking=True)
        self._response = mechanism.response
        self._initial = initial
        self._after_refusal = mechanism.after_refusal

    def next_piece(self, text: bytes) -> bytes | None:
        """Answer a request: the first one asks for the response, unless it was sent and not overlooked."""
        response, self._response = self._response, b""
        # With the response sent already, an empty request means that the server overlooked it.
        if response and not (self._initial and text):
            return response
        return self._after_refusal
