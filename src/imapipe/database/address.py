"""Which database: what a user writes, and what of it may be told.

Invariant: a password is in no text that is made of a `Database` or of what goes wrong with it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from imapipe.database.connection import Connection

_POSTGRES: Final = ("postgresql", "postgres")
_STATEMENT_SECONDS: Final = 10.0
_CONNECT_SECONDS: Final = 10.0
# The other form of an address that PostgreSQL knows; as the name of a file it would show a password to everybody.
_KEYWORDS: Final = re.compile(r"\s*[a-z_]+\s*=")
_PASSWORDS: Final = re.compile(r"(?:^|&)(?:ssl)?password=([^&]*)")
_HOST: Final = re.compile(r"(?:\[[0-9a-fA-F:.%\w]*\]|[^:\[\]]*)(?::\d*)?")


class Database:
    """A database, by its address. A value: nothing is opened before `connect`.

    Args:
        dsn: `postgresql://user:password@host:port/name`, with the parameters of libpq after a `?`; or an SQLite file:
            its path, `sqlite:///relative` or `sqlite:////absolute`.
        statement_seconds: The longest that a statement may take, or a transaction may be idle; after that the server
            ends it, and where no answer comes the connection is given up.
        connect_seconds: The longest that connecting may take; PostgreSQL counts in whole seconds, at least two.

    Raises:
        ValueError: It is no such address.

    Attributes:
        name: What it is called in texts: the address without its password and parameters.
    """

    __slots__ = ("_connect_seconds", "_is_postgres", "_place", "_secrets", "_statement_seconds", "name")

    def __init__(
        self,
        dsn: str | os.PathLike[str],
        *,
        statement_seconds: float = _STATEMENT_SECONDS,
        connect_seconds: float = _CONNECT_SECONDS,
    ) -> None:
        if statement_seconds <= 0 or connect_seconds <= 0:
            raise ValueError("statement_seconds and connect_seconds must be above 0")
        self._statement_seconds = statement_seconds
        self._connect_seconds = connect_seconds
        text = os.fspath(dsn)
        scheme, separator, rest = text.partition("://")
        self._is_postgres = bool(separator) and scheme in _POSTGRES
        self._secrets: tuple[str, ...] = ()
        if self._is_postgres:
            self._place = text
            self.name, self._secrets = _without_secrets(text)
        elif separator and scheme == "sqlite" and len(rest) > 1 and rest.startswith("/"):
            self._place = self.name = rest[1:]
        elif separator or _KEYWORDS.match(text) or not text:
            raise ValueError("a database is postgresql://user@host/name, sqlite:///PATH, or the path of an SQLite file")
        else:
            self._place = self.name = text

    def __repr__(self) -> str:
        return f"Database({self.name!r})"

    @property
    def is_postgres(self) -> bool:
        """Whether it is PostgreSQL, else SQLite."""
        return self._is_postgres

    def connect(self) -> Connection:
        """Open a connection. It is for one thread at a time.

        Raises:
            DatabaseError: It cannot be reached or opened.
            ModuleNotFoundError: PostgreSQL needs psycopg: `pip install 'imapipe[cluster]'`.
        """
        # Each of them imports what the other does without.
        if self._is_postgres:
            from imapipe.database.postgres import PostgresConnection  # noqa: PLC0415

            return PostgresConnection(
                self._place,
                self.name,
                self._secrets,
                statement_seconds=self._statement_seconds,
                connect_seconds=self._connect_seconds,
            )
        from imapipe.database.sqlite import SqliteConnection  # noqa: PLC0415

        return SqliteConnection(Path(self._place), busy_seconds=self._statement_seconds)


def _without_secrets(dsn: str) -> tuple[str, tuple[str, ...]]:
    """What may be told of an address of PostgreSQL, and what must not."""
    # Not by urllib, whose errors repeat what they are about.
    rest, _, query = dsn.partition("://")[2].partition("?")
    authority, slash, path = rest.partition("/")
    login, at, place = authority.rpartition("@")
    is_astray = "@" in path or (not at and "@" in query)
    if is_astray or not all(_HOST.fullmatch(host) for host in place.split(",")):
        # It is not repeated: what is astray may be a part of the password.
        raise ValueError(
            "the address of the PostgreSQL database cannot be read: in a password / ? @ are written as %2F %3F %40"
        )
    user, _, password = login.partition(":")
    given = {password, *_PASSWORDS.findall(query)} - {""}
    secrets = sorted(given | {unquote(secret) for secret in given}, key=len, reverse=True)
    return f"postgresql://{user}{at}{place}{slash}{path}", tuple(secrets)
