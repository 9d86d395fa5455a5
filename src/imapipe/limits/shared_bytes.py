"""The bytes of an account, shared by every process that names the same file.

::

    bytes.json                {"version":1,"accounts":{"ann@…":{"received":{…},"bytes_per_message":…,"under_way":{…}}}}
    bytes.json.lock           held for the moment of one look or change
    bytes.json.<token>.lock   held by a process as long as it has runs: whose token is free has died

Invariants:

- Whether a batch fits is decided, and the batch written down, without the lock being let go in between. So all of them
  together let through what one process would.
- What a process had under way when it died counts as received.
- What was received and could not be written down is written down with the next change.
- The event loop never waits for the lock: it is tried, and other tasks go on meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

import orjson

from imapipe.durable_file import kept_mode, read_object, remove_leftovers, save_file
from imapipe.errors import CheckpointCorrupt, CheckpointError, CheckpointLocked
from imapipe.limits.byte_usage import ByteUsage
from imapipe.models.json_value import JSON
from imapipe.runtime.lock_file import LockFile

_VERSION: Final = 1
_TOKEN: Final = re.compile(r"[0-9a-f]{16}")
# JSON has no larger whole numbers, and no account as many bytes.
_MOST: Final = 2**53
_TRY_EVERY_SECONDS: Final = 0.005
# Nobody has it for longer than writing a small file takes, unless it was stopped in the middle.
_GIVE_UP_SECONDS: Final = 30.0


@dataclass(slots=True)
class SharedRow:
    """An account, as the file has it and as it is to be.

    Attributes:
        usage: What was received.
        bytes_per_message: What a message was worth to whoever wrote last.
        under_way: By the token of a process, the batches that it has under way and the bytes they are thought to bring.
    """

    usage: ByteUsage = field(default_factory=ByteUsage)
    bytes_per_message: float | None = None
    under_way: dict[str, tuple[int, int]] = field(default_factory=dict)

    def to_json(self) -> JSON:
        """As the file has it."""
        under_way: dict[str, JSON] = {token: list(each) for token, each in self.under_way.items()}
        received = self.usage.to_note(0)
        return {"received": received, "bytes_per_message": self.bytes_per_message, "under_way": under_way}

    @classmethod
    def from_json(cls, value: JSON, now: float) -> SharedRow:
        """Read what `to_json` gave. Raises ValueError: it is something else."""
        row = cls()
        match value:
            case {"received": note, "bytes_per_message": None | int() | float() as worth, "under_way": dict(under_way)}:
                row.usage.recall(note, now)
                row.bytes_per_message = worth
            case _:
                raise ValueError("an account is not whole")
        for token, each in under_way.items():
            match each:
                case [int(batches), int(count)] if 0 <= batches <= _MOST and 0 <= count <= _MOST:
                    # It becomes a part of the name of a file, which is emptied and removed.
                    if not _TOKEN.fullmatch(token):
                        raise ValueError("what is under way is nobody's")
                    row.under_way[token] = batches, count
                case _:
                    raise ValueError("what is under way is no pair of numbers")
        return row


class SharedCount(Protocol):
    """One account in a place that several processes share, as one `ByteBudget` of one process sees it."""

    token: str
    """What this process is called there."""
    pending: ByteUsage
    """What was received and is not written down there yet."""

    def open(self) -> None:
        """A run begins."""

    def close(self) -> None:
        """No run is left, and nothing is under way."""

    def hold(self, now: float) -> AbstractAsyncContextManager[SharedRow]:
        """Look at the account and change it, alone; there is to be no `await` in the block."""


class SharedPlace(Protocol):
    """A place that several processes share."""

    def of(self, account: str) -> SharedCount:
        """One account of it."""


class SharedBytes:
    """One account in the file, as one `ByteBudget` of one process sees it.

    Attributes:
        token: What this process is called in the file.
        pending: What was received and is not in the file yet.
    """

    __slots__ = ("_account", "_life", "_path", "_shown", "pending", "token")

    def __init__(self, path: str | os.PathLike[str], account: str) -> None:
        self.token = secrets.token_hex(8)
        self.pending = ByteUsage()
        # Through links: what replaces the file must replace the real one.
        self._path = os.path.realpath(path)
        self._shown = os.fspath(path)
        self._account = account
        self._life: LockFile | None = None

    def open(self) -> None:
        """A run begins. Raises CheckpointError: there is no place for the file."""
        if self._life is not None:
            return
        if not os.path.isdir(os.path.dirname(self._path)):  # noqa: PTH112, PTH120
            raise CheckpointError("its folder does not exist", path=self._shown)
        life = self._life_of(self.token)
        try:
            life.acquire()
        except OSError as error:
            raise self._failed("its lock file cannot be made", error) from error
        self._life = life

    def close(self) -> None:
        """No run is left, and nothing is under way."""
        life, self._life = self._life, None
        if life is not None:
            life.release()

    @asynccontextmanager
    async def hold(self, now: float) -> AsyncIterator[SharedRow]:
        """Look at the account and change it, alone; there is to be no `await` in the block.

        Raises:
            CheckpointError: The file cannot be read or written, and then nothing has changed.
        """
        lock = await self._acquire()
        try:
            rows = self._read(now)
            row = rows.setdefault(self._account, SharedRow())
            row.usage.add_all(self.pending)
            for token in [token for token in row.under_way if token != self.token and self._has_died(token)]:
                row.usage.add(now, row.under_way.pop(token)[1])
            yield row
            self._write(rows)
            self.pending = ByteUsage()
        finally:
            lock.release()

    async def _acquire(self) -> LockFile:
        lock = LockFile(f"{self._path}.lock")
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + _GIVE_UP_SECONDS
        try:
            while not lock.acquire():
                if loop.time() >= ends_at:
                    raise CheckpointLocked(
                        f"another process has held it for {_GIVE_UP_SECONDS:g} seconds (by {lock.path})",
                        path=self._shown,
                    )
                await asyncio.sleep(_TRY_EVERY_SECONDS)
        except OSError as error:
            raise self._failed("its lock file cannot be made", error) from error
        return lock

    def _life_of(self, token: str) -> LockFile:
        return LockFile(f"{self._path}.{token}.lock")

    def _has_died(self, token: str) -> bool:
        lock = self._life_of(token)
        try:
            has_died = lock.acquire()
        except OSError as error:
            raise self._failed("a lock file of another process cannot be looked at", error) from error
        lock.release()
        return has_died

    def _read(self, now: float) -> dict[str, SharedRow]:
        try:
            data = read_object(self._path)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._failed("it cannot be read", error) from error
        try:
            match orjson.loads(data):
                case {"version": 1, "accounts": dict(accounts)}:
                    return {account: SharedRow.from_json(value, now) for account, value in accounts.items()}
                case _:
                    raise ValueError("it is some other file, or of another version")
        except ValueError as error:
            reason = f"the bytes of a day cannot be read from it ({error}); move it away to begin to count anew"
            raise CheckpointCorrupt(reason, path=self._shown) from error

    def _write(self, rows: dict[str, SharedRow]) -> None:
        document = {"version": _VERSION, "accounts": {account: row.to_json() for account, row in rows.items()}}
        try:
            # The death of a process loses nothing; after a loss of power, what came last may count no more.
            remove_leftovers(self._path)
            save_file(self._path, (orjson.dumps(document),), durable=False, mode=kept_mode(self._path))
        except OSError as error:
            raise self._failed("it cannot be written", error) from error

    def _failed(self, what: str, error: OSError) -> CheckpointError:
        return CheckpointError(f"{what}: {error.strerror or error}", path=self._shown)
