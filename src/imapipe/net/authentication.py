"""Logging in: LOGIN, PLAIN, XOAUTH2 and OAUTHBEARER (RFC 9051 §6.2, RFC 4616, RFC 7628).

Which one: with a token OAUTHBEARER where it is offered, else XOAUTH2; with a password AUTHENTICATE PLAIN where
LOGIN is disabled or the credentials need more than ASCII, else LOGIN. Where the server does not understand one (BAD),
the next one is tried. An initial response saves a round trip where SASL-IR (RFC 4959) is offered; what was not
understood with it is tried without it when nothing else is left.

Invariants:

- A secret is in no exception, log or repr, nor in what an exception was raised from; `secrets` hides it where a server
  echoes it, from before it is sent.
- What cannot be sent is refused before anything is: control characters, which end a field of SASL, and halves of
  surrogate pairs, which are no text.
- A server that asks on after a refused token (it sends the reason as base64 JSON) is answered, or it would wait for
  ever.
- Credentials that were refused (NO) are not sent again: accounts get locked by that. A token is asked for anew, once
  (`RenewableToken` is told which one was refused), and sent only if it is another one.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

from imapipe.errors import (
    AuthenticationFailed,
    CapabilityMissing,
    ConnectionFailed,
    ConnectionLost,
    ImapipeError,
    ServerBye,
)
from imapipe.net.command import Command
from imapipe.net.secrets import Secrets
from imapipe.net.signals import is_one_too_many, to_error
from imapipe.wire.command.authenticate import Mechanism, authenticate, check_credential, oauthbearer, plain, xoauth2
from imapipe.wire.command.login import login
from imapipe.wire.response.response import Tagged

# RFC 9051 §6.2.2: NO may also mean that the mechanism is not supported.
_UNKNOWN_MECHANISM = re.compile(
    r"(?:unsupported|unknown|unrecogni[sz]ed|not supported|not available).*mechanism"
    r"|mechanism.*(?:unsupported|unknown|not supported|not available)",
    re.IGNORECASE,
)

Token = Callable[[], Awaitable[str]]
Runner = Callable[[Command], Awaitable[Tagged]]


@runtime_checkable
class RenewableToken(Protocol):
    """A `token=` that can do more than wait for a token's time to pass: it is told of a refusal."""

    async def __call__(self) -> str:
        """A token."""

    async def renew(self, refused: str) -> str:
        """Another token than the one that the server has just refused; the same where there is none."""


class Credentials:
    """Who logs in, and how.

    Args:
        user: The user name.
        password: The password, or None with a token.
        token: Called at every connect for a fresh access token.

    Raises:
        ValueError: A control character or no text in one of them, or not one secret; the error holds none.
        TypeError: A secret of another type.

    Attributes:
        user: The user name.
        secrets: What was sent to log in, and must not be told.
    """

    __slots__ = ("_password", "_token", "secrets", "user")

    def __init__(self, user: str, password: str | None, token: Token | None) -> None:
        if not user:
            raise ValueError("name the user: in the URL (imaps://ann@imap.example.org) or as user=")
        if (password is None) == (token is None):
            raise ValueError("give either password= or token=, and not both")
        if password is not None and not isinstance(password, str):
            raise TypeError(f"password takes a str, not {type(password).__name__}")
        if token is not None and not callable(token):
            raise TypeError("token takes an async function that gives an access token, not the token itself")
        check_credential(user, "the user name")
        self.user = user
        self._password = password
        self._token = token
        self.secrets = Secrets()
        if password is not None:
            # PLAIN looks at it, whichever mechanism will be used.
            self.secrets.add(password, plain(user, password).response)

    def __repr__(self) -> str:
        return f"<Credentials {self.user!r} with a {'password' if self._token is None else 'token'}>"

    def begin(self, host: str, port: int) -> Login:
        """Begin to log in at a server."""
        return Login(self.user, self._password, self._token, self.secrets, host, port)


class Login:
    """One login, on one connection or, where a token was refused or the server hung up behind a refusal, on two.

    Args:
        user: The user name.
        password: The password, or None with a token.
        token: Gives an access token.
        secrets: Where a token is kept out of what is told.
        host: The server's name, which OAUTHBEARER wants to be told.
        port: And its port.
    """

    __slots__ = (
        "_host",
        "_not_understood",
        "_password",
        "_port",
        "_refusal",
        "_refused_token",
        "_secrets",
        "_token",
        "_user",
        "may_begin_again",
    )

    def __init__(
        self, user: str, password: str | None, token: Token | None, secrets: Secrets, host: str, port: int
    ) -> None:
        self._user = user
        self._password = password
        self._token = token
        self._secrets = secrets
        self._host = host
        self._port = port
        self._refused_token = ""
        self._refusal: AuthenticationFailed | None = None
        self._not_understood: dict[str, AuthenticationFailed] = {}
        self.may_begin_again = False

    async def run(self, run: Runner, capabilities: frozenset[str]) -> None:
        """Log in on a fresh connection. Where another one may do better, `may_begin_again` is True afterwards.

        Raises:
            AuthenticationFailed: The server refused the credentials, or no token could be had.
            ConnectionFailed: The token's server cannot be reached.
            Throttled: The server refused because of too many connections or attempts.
            CapabilityMissing: It offers no way that fits the credentials.
        """
        self.may_begin_again = False
        if self._password is not None:
            ways = self._password_ways(self._password, capabilities)
            token = ""
        else:
            if not {"AUTH=OAUTHBEARER", "AUTH=XOAUTH2"} & capabilities:
                raise CapabilityMissing(
                    "AUTH=OAUTHBEARER or AUTH=XOAUTH2", "a token cannot be used here; log in with a password"
                )
            token = await self._ask_for_token()
            if self._refusal is not None and token == self._refused_token:
                raise self._refusal
            ways = self._token_ways(token, capabilities)
        refusal = await self._try(ways, run)
        if refusal is None:
            return
        if token and self._refusal is None and refusal.status == "NO":
            self._refusal, self._refused_token = refusal, token
            self.may_begin_again = True
        raise refusal

    async def _try(self, ways: list[Command], run: Runner) -> AuthenticationFailed | None:
        refusal: AuthenticationFailed | None = None
        left = deque(ways)
        while left:
            command = left.popleft()
            label = (
                f"{command.name} {command.mechanism.name} {command.initial}" if isinstance(command, _Sasl) else "LOGIN"
            )
            if label in self._not_understood:
                refusal = self._not_understood[label]
            else:
                try:
                    tagged = await run(command)
                except (ConnectionLost, ServerBye):
                    if refusal is None:
                        raise
                    # It hung up behind a refusal, which says more; what is left may be tried on a new connection.
                    self.may_begin_again = True
                    break
                if tagged.status == "OK":
                    return None
                error = to_error(command.name, tagged)
                if is_one_too_many(error):
                    raise error
                refusal = AuthenticationFailed(command.name, tagged.status, error.code, error.text)
                if tagged.status == "NO":
                    if _UNKNOWN_MECHANISM.search(tagged.text):
                        continue
                    break
                self._not_understood[label] = refusal
            if isinstance(command, _Sasl) and command.initial:
                left.append(_Sasl(command.mechanism, initial=False))
        return refusal

    async def _ask_for_token(self) -> str:
        assert self._token is not None
        try:
            token = await self._next_token(self._token)
        except ImapipeError:
            raise
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ConnectionFailed(f"token() could not reach its server: {reason}") from error
        except Exception as error:
            # Whatever it is, the password or token itself was not looked at (RFC 5530): it may pass.
            text = f"token() raised {type(error).__name__}"
            raise AuthenticationFailed("AUTHENTICATE", "NO", "UNAVAILABLE", text) from error
        if not isinstance(token, str) or not token:
            raise AuthenticationFailed("AUTHENTICATE", "NO", "", f"token() gave {type(token).__name__}, and no token")
        return token

    async def _next_token(self, token: Token) -> object:
        if self._refusal is not None and isinstance(token, RenewableToken):
            return await token.renew(self._refused_token)
        return await token()

    def _token_ways(self, token: str, capabilities: frozenset[str]) -> list[Command]:
        mechanisms: list[Mechanism] = []
        try:
            if "AUTH=OAUTHBEARER" in capabilities:
                mechanisms.append(oauthbearer(self._user, token, host=self._host, port=self._port))
            if "AUTH=XOAUTH2" in capabilities:
                mechanisms.append(xoauth2(self._user, token))
        except ValueError as error:
            raise AuthenticationFailed("AUTHENTICATE", "NO", "", str(error)) from None
        self._secrets.add(token, *(mechanism.response for mechanism in mechanisms))
        return [_Sasl(mechanism, initial="SASL-IR" in capabilities) for mechanism in mechanisms]

    def _password_ways(self, password: str, capabilities: frozenset[str]) -> list[Command]:
        ways: list[Command] = []
        if "LOGINDISABLED" not in capabilities:
            ways.append(Command.of(login(self._user, password)))
        if "AUTH=PLAIN" in capabilities:
            sasl = _Sasl(plain(self._user, password), initial="SASL-IR" in capabilities)
            # LOGIN is known to all servers; what is not ASCII is safer in PLAIN, which says that it is UTF-8.
            is_ascii = self._user.isascii() and password.isascii()
            ways.insert(len(ways) if is_ascii else 0, sasl)
        if not ways:
            raise CapabilityMissing(
                "LOGIN", "the server forbids passwords on this connection; use imaps:// or STARTTLS"
            )
        return ways


class _Sasl(Command):
    """AUTHENTICATE: gives its response when asked for it, and then the same line to everything else.

    Args:
        mechanism: What is said.
        initial: Whether the first line holds the response (RFC 4959).
    """

    __slots__ = ("_response", "initial", "mechanism")

    def __init__(self, mechanism: Mechanism, *, initial: bool) -> None:
        request = authenticate(mechanism, initial=initial)
        super().__init__(request.name, request.pieces, keeps_asking=True)
        self.mechanism = mechanism
        self.initial = initial
        self._response = mechanism.response

    def next_piece(self, text: bytes) -> bytes | None:
        """Answer a request: the first one asks for the response, unless it was sent and not overlooked."""
        response, self._response = self._response, b""
        # With the response sent already, an empty request means that the server overlooked it.
        if response and not (self.initial and text):
            return response
        return self.mechanism.after_refusal
