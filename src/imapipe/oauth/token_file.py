"""A file that keeps an access token fresh, for all tasks and processes that name it.

::

    ann.token         {"version":1,"grant":"refresh_token","keyring":false,"client":{…},"token":{…}}, for its owner only
    ann.token.lock    held while a token is asked for

A file whose first line is an access token and nothing else is taken as well: another program keeps it fresh.

Invariants:

- One at a time asks for a token; who waited for that looks into the file again, and takes what the other one got.
- What the server gave is on the disk before it is used, and an answer that is under way is waited for also by who is
  cancelled, for some seconds: the server may take the old refresh token no more.
- No token is in an exception or a repr.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from imapipe.durable_file import MOST_SECRET_BYTES, read_small, save_file
from imapipe.errors import AccountsError, ConnectionFailed, TokenRefused
from imapipe.oauth.application import log_in_as_application
from imapipe.oauth.client import OAuthClient, Token
from imapipe.oauth.kept import Grant, Kept, parse_kept
from imapipe.oauth.key_ring import ask_keyring, tell_keyring
from imapipe.oauth.token_endpoint import refresh
from imapipe.runtime.completion import to_the_end
from imapipe.runtime.lock_file import LockFile

# Under this name the keyring keeps what belongs to a file, by its path.
_SERVICE: Final = "imapipe"
_TRY_EVERY_SECONDS: Final = 0.02
_FINISH_SECONDS: Final = 5.0


class TokenFile:
    """An access token in a file, as `token=` of a pool: refreshed before it ends, and when a server refuses it.

    `imapipe login` and `save` write it, readable by its owner only. Any number of tasks and processes may use one file.

    Args:
        path: The file.
        ssl_context: Trust other certificates than the system does, when a token is asked for.
        proxy: The URL of a proxy for that; see `create_pool`.
        clock: Gives the time in seconds since 1970.

    Raises:
        ValueError, ModuleNotFoundError: A proxy that cannot work.
    """

    __slots__ = ("_clock", "_path", "_proxy", "_ssl_context")

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = Path(path)
        self._ssl_context = ssl_context
        self._proxy = proxy
        self._clock = clock

    def __repr__(self) -> str:
        return f"TokenFile({str(self._path)!r})"

    async def __call__(self) -> str:
        """An access token that can be used now; another one is asked for where its end is near.

        Raises:
            AccountsError: The file cannot be read or written, or is no such file.
            TokenRefused: The OAuth server gives none any more; somebody has to log in again.
            ConnectionFailed: It cannot be reached, and the token has ended.

        Cancelling it waits some seconds for an answer that is under way, and keeps that.
        """
        kept = await self._read()
        if kept.lasts(self._clock()):
            return kept.token.access_token
        try:
            return (await self._renewed(lambda found: found.lasts(self._clock()))).access_token
        except ConnectionFailed:
            # The last minutes of a token are better than none.
            if kept.token.expires_at is not None and kept.token.expires_at > self._clock():
                return kept.token.access_token
            raise

    async def renew(self, refused: str) -> str:
        """Another access token than one that a server has refused; the same where nobody can get another one.

        Raises as calling it does, and the same holds for cancelling.
        """
        kept = await self._read()
        if kept.client is None or kept.token.access_token != refused:
            return kept.token.access_token
        return (await self._renewed(lambda found: found.token.access_token != refused)).access_token

    async def save(
        self, client: OAuthClient, token: Token, *, as_application: bool = False, in_keyring: bool = False
    ) -> None:
        """Keep what a login gave; the file is replaced, and on the disk when this returns.

        Args:
            client: Who logged in.
            token: What it was given.
            as_application: It was given to the application itself, which asks for the next one as it did for this.
            in_keyring: Keep the refresh token and the client's secret in the keyring of the system (extra
                `imapipe[keyring]`); the file then holds nothing that lasts longer than the access token.

        Raises:
            AccountsError: It cannot be written, or the keyring does not take it.

        Cancelled, it waits until it is kept.
        """
        grant: Grant = "client_credentials" if as_application else "refresh_token"
        async with self._turn():
            # Whoever has the next turn is not to be overtaken by a thread that nobody waits for.
            await to_the_end(asyncio.to_thread(self._write, Kept(token, client, grant, in_keyring)))

    async def client(self) -> OAuthClient | None:
        """Who logged in; None where another program writes the file.

        Raises:
            AccountsError: It cannot be read, or is no such file.
        """
        return (await self._read()).client

    def check(self) -> None:
        """Raise AccountsError unless there is a token in it; it is not looked at whether that has ended."""
        self._read_now()

    async def _renewed(self, is_good: Callable[[Kept], bool]) -> Token:
        """The token of the file where that is good now, else another one, which is in the file then."""
        async with self._turn():
            kept = await self._read()
            if is_good(kept):
                return kept.token
            work = asyncio.create_task(self._ask(kept))
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                await _finish(work)
                raise

    async def _ask(self, kept: Kept) -> Token:
        client = kept.client
        if client is None:
            return kept.token
        if kept.grant == "client_credentials":
            token = await log_in_as_application(client, ssl_context=self._ssl_context, proxy=self._proxy)
        elif not kept.token.refresh_token:
            raise TokenRefused("expired", "and the server gave nothing to ask for another one with")
        else:
            token = await refresh(client, kept.token, ssl_context=self._ssl_context, proxy=self._proxy)
        await asyncio.to_thread(self._write, replace(kept, token=token))
        return token

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """The file is nobody else's meanwhile; the event loop is not held up."""
        lock = LockFile(f"{self._target()}.lock")
        try:
            while not lock.acquire():  # noqa: ASYNC110  # nobody in this process may know of its release
                await asyncio.sleep(_TRY_EVERY_SECONDS)
        except OSError as error:
            raise self._error(f"its lock file cannot be made: {error.strerror or error}") from error
        try:
            yield
        finally:
            lock.release()

    def _target(self) -> str:
        """Where the file is; what is mounted into a container is behind a link, which may change."""
        return os.path.realpath(self._path)

    async def _read(self) -> Kept:
        return await asyncio.to_thread(self._read_now)

    def _read_now(self) -> Kept:
        try:
            data = read_small(os.fspath(self._path), MOST_SECRET_BYTES)
        except (OSError, ValueError) as error:
            # ValueError: there is a NUL in the name.
            raise self._error(getattr(error, "strerror", "") or str(error)) from None
        if data.lstrip().startswith(b"{"):
            return self._parsed(data)
        try:
            line = data.decode("utf-8").partition("\n")[0].rstrip("\r")
        except UnicodeDecodeError:
            raise self._error("it is not text in UTF-8") from None
        if not line:
            raise self._error("its first line is empty")
        return Kept(Token(line))

    def _parsed(self, data: bytes) -> Kept:
        try:
            kept = parse_kept(data)
        except ValueError:
            raise self._error("it is no token file of this version; log in again with `imapipe login`") from None
        if not kept.in_keyring:
            return kept
        try:
            return kept.with_secrets(ask_keyring(_SERVICE, self._target()))
        except AccountsError as error:
            raise self._error(error.reason) from error
        except ValueError:
            raise self._error("the keyring has nothing that belongs to it; log in again with `imapipe login`") from None

    def _write(self, kept: Kept) -> None:
        try:
            if kept.in_keyring:
                # First: with the old one in the file, a new refresh token is no worse.
                tell_keyring(_SERVICE, self._target(), kept.secrets)
            save_file(self._target(), (kept.to_bytes(),))
        except OSError as error:
            raise self._error(f"it cannot be written: {error.strerror or error}") from error
        except AccountsError as error:
            raise self._error(error.reason) from error

    def _error(self, reason: str) -> AccountsError:
        return AccountsError(reason, path=str(self._path))


async def _finish(work: asyncio.Task[Token]) -> None:
    """Wait some seconds for an answer that is under way; then, or when it is cancelled again, it is given up."""
    try:
        await asyncio.wait((work,), timeout=_FINISH_SECONDS)
    finally:
        work.cancel()
        with suppress(BaseException):
            await work
