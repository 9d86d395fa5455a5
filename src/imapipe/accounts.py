"""`accounts.toml`: several accounts, each with its URL and where its secret comes from.

    [work]
    url = "imaps://ann@example.org@imap.example.org"
    password_command = ["pass", "show", "mail/work"]
    exclude = ["\\\\Trash"]

Invariants:

- No password stands in the file; it says where there is one. It is looked for when a pool is opened, not before.
- What is wrong with the file is one sentence that names the account and the key.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

from imapipe.client import Pool, create_pool
from imapipe.durable_file import read_small
from imapipe.errors import AccountsError
from imapipe.net.account import parse_url
from imapipe.net.proxy import name_of_proxy
from imapipe.oauth import TokenFile
from imapipe.oauth.key_ring import ask_keyring
from imapipe.providers import Provider, provider_of
from imapipe.secret_source import read_secret, secret_of_program

# A thousand accounts take a tenth of it.
_MOST_BYTES: Final = 1024 * 1024
_NAME: Final = re.compile(r"\w[\w.@+-]{0,99}")
_SECRETS: Final = (
    "password_env",
    "password_file",
    "password_command",
    "password_keyring",
    "token_file",
    "token_command",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSettings:
    """One account of the file; a relative path counts from where the file is.

    Attributes:
        name: Its name in the file.
        url: `imaps://user@host[:993]` or `imap://user@host[:143]`.
        password_env: The name of an environment variable with the password.
        password_file: A file with the password in its first line.
        password_command: A program and its arguments that writes the password as its first line; no shell is asked.
        password_keyring: The name of a service in the system's keyring (needs `imapipe[keyring]`).
        token_file: A file that `imapipe login` wrote, or one with an OAuth 2 access token in its first line.
        token_command: A program and its arguments that writes an access token, run at every connect.
        mailboxes: Names, patterns and special uses of mailboxes; see `Pool.each`.
        exclude: Those to leave out.
        connections: How many connections at a time; what suits the provider unless said.
        daily_bytes: How many bytes may be fetched within 24 hours; four fifths of what the provider allows unless said.
        ca_file: Trust the certificates in this file.
        proxy: See `create_pool`; not in the repr, since a password may be in it.
    """

    name: str
    url: str
    password_env: str = ""
    password_file: str = ""
    password_command: tuple[str, ...] = ()
    password_keyring: str = ""
    token_file: str = ""
    token_command: tuple[str, ...] = ()
    mailboxes: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    connections: int = 0
    daily_bytes: int = 0
    ca_file: str = ""
    proxy: str = field(default="", repr=False)
    folder: Path = Path()

    @property
    def provider(self) -> Provider:
        """What is known of its provider."""
        return provider_of(parse_url(self.url).host)

    @property
    def bytes_per_day(self) -> int | None:
        """How many bytes may be fetched within 24 hours, or None."""
        quota = self.provider.bytes_per_day
        return self.daily_bytes or (quota * 4 // 5 if quota else None)

    @asynccontextmanager
    async def open_pool(self) -> AsyncIterator[Pool]:
        """A pool for the account, closed at the end of the block: `async with settings.open_pool() as pool`.

        Raises:
            AccountsError: The secret cannot be had.
            ValueError: A URL, a proxy or a number that cannot work.
        """
        token = self._token()
        pool = create_pool(
            self.url,
            password=await self._password() if token is None else None,
            token=token,
            max_size=self.connections or self.provider.connections,
            ssl_context=self._ssl_context(),
            proxy=self.proxy or None,
        )
        async with pool:
            yield pool

    def _ssl_context(self) -> ssl.SSLContext | None:
        if not self.ca_file:
            return None
        try:
            return ssl.create_default_context(cafile=str(self._path(self.ca_file)))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", "") or str(error)
            raise self._error("ca_file", f"{self.ca_file!r}: {reason}") from error

    async def _password(self) -> str:
        if self.password_env:
            password = os.environ.get(self.password_env, "")
            if not password:
                raise self._error("password_env", f"the environment has no {self.password_env}")
            return password
        if self.password_file:
            return await asyncio.to_thread(self._read_password)
        if self.password_command:
            return await self._ask("password_command", self.password_command)
        return await asyncio.to_thread(self._ask_keyring)

    def _token(self) -> Callable[[], Awaitable[str]] | None:
        if self.token_file:
            return TokenFile(self._path(self.token_file), proxy=self.proxy or None)
        if self.token_command:
            return lambda: self._ask("token_command", self.token_command)
        return None

    async def _ask(self, key: str, command: tuple[str, ...]) -> str:
        """The first line that a program writes."""
        try:
            return await secret_of_program(command, self.folder)
        except AccountsError as error:
            raise self._error(key, f"{command[0]}: {error.reason}") from error

    def _ask_keyring(self) -> str:
        try:
            password = ask_keyring(self.password_keyring, parse_url(self.url).user)
        except AccountsError as error:
            raise self._error("password_keyring", error.reason) from error
        if not password:
            raise self._error("password_keyring", f"the keyring has no password of {self.password_keyring}")
        return password

    def _read_password(self) -> str:
        try:
            return read_secret(self._path(self.password_file))
        except AccountsError as error:
            raise self._error("password_file", f"{self.password_file}: {error.reason}") from error

    def _path(self, name: str) -> Path:
        try:
            return self.folder / Path(name).expanduser()
        except RuntimeError:
            raise AccountsError(f"{name}: there is no such user on this machine", account=self.name) from None

    def _error(self, key: str, reason: str) -> AccountsError:
        return AccountsError(f"{key}: {reason}", account=self.name)


_KINDS: Final = {each.name: each.type for each in fields(AccountSettings) if each.name not in ("name", "folder")}


def load_accounts(path: str | os.PathLike[str]) -> dict[str, AccountSettings]:
    """Read a file of accounts; see `AccountSettings` for its keys. Nothing is connected, and no secret is looked for.

    Args:
        path: A TOML file with a table for each account.

    Returns:
        The accounts by name, in the order of the file.

    Raises:
        AccountsError: It cannot be read; the text says where and what to change.
    """
    file = Path(path)
    try:
        tables = tomllib.loads(read_small(os.fspath(file), _MOST_BYTES).decode("utf-8"))
    except OSError as error:
        raise AccountsError(error.strerror or str(error), path=str(file)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AccountsError(f"it is no TOML: {error}", path=str(file)) from None
    except RecursionError:
        raise AccountsError("it is nested too deeply", path=str(file)) from None
    if not tables:
        raise AccountsError("it has no account; begin one with [name]", path=str(file))
    try:
        return {name: _settings(name, table, file.absolute().parent) for name, table in tables.items()}
    except AccountsError as error:
        raise AccountsError(error.reason, path=str(file), account=error.account) from None


def _settings(name: str, table: object, folder: Path) -> AccountSettings:
    if not _NAME.fullmatch(name):
        # It becomes the name of a folder.
        raise AccountsError(f"[{name!r}] is no name of an account: use letters, digits and . _ @ + -")
    if not isinstance(table, Mapping):
        raise AccountsError(f"{name} stands alone; keys of an account come below [name]")
    if "password" in table:
        reason = (
            "password: it does not belong into a file that is copied around; say where it is, by password_command, "
        )
        raise AccountsError(f"{reason}password_env, password_file or password_keyring", account=name)
    given: dict[str, object] = {}
    for key, value in table.items():
        kind = _KINDS.get(key)
        if kind is None:
            raise AccountsError(f"{key} is no key of an account; there are {', '.join(_KINDS)}", account=name)
        given[key] = _value(name, key, str(kind), value)
    secrets = [key for key in _SECRETS if given.get(key)]
    if "url" not in given:
        raise AccountsError('url is missing, such as url = "imaps://ann@imap.example.org"', account=name)
    if len(secrets) != 1:
        what = f"{' and '.join(secrets)} exclude each other" if secrets else "it does not say where its secret is"
        raise AccountsError(f"{what}: give one of {', '.join(_SECRETS)}", account=name)
    try:
        parse_url(str(given["url"]))
    except ValueError as error:
        raise AccountsError(f"url: {error}", account=name) from None
    if "proxy" in given:
        try:
            name_of_proxy(str(given["proxy"]))
        except ValueError as error:
            raise AccountsError(f"proxy takes the URL of a proxy: {error}", account=name) from None
    return AccountSettings(name=name, folder=folder, **given)  # type: ignore[arg-type]  # checked one by one


def _value(name: str, key: str, kind: str, value: object) -> object:
    if kind == "str" and isinstance(value, str) and value:
        return value
    if kind == "int" and isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    is_list = isinstance(value, list) and all(isinstance(each, str) and each for each in value)
    if kind.startswith("tuple") and isinstance(value, list) and is_list and (value or key == "exclude"):
        return tuple(value)
    wanted = {"str": "text", "int": "a whole number above 0"}.get(kind, 'a list of texts, such as ["one", "two"]')
    raise AccountsError(f"{key} takes {wanted}", account=name)
