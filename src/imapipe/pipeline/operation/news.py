"""What a server tells of flags that somebody else changes, while we change some.

A STORE with `.SILENT` says nothing of what it does itself, so the flags that are told before its reply are of changes
by others: servers tell them, so that the state of the flags is known (RFC 9051 §6.4.6).

Invariant: a message is among `contested` if it was told of, or if it cannot be told which one was meant.
"""

from __future__ import annotations

import re
from types import TracebackType
from typing import Self

from imapipe.net.connection import Connection
from imapipe.pipeline.operation.step import Step
from imapipe.pipeline.source.find import find
from imapipe.search import ALL
from imapipe.wire.uid_set import UidSet

_FLAGS = re.compile(rb"\* (\d{1,9}) FETCH \(.*?\bFLAGS \(", re.IGNORECASE)
_UID = re.compile(rb"[( ]UID (\d{1,10})\b", re.IGNORECASE)
_GONE = re.compile(rb"\* (\d{1,9}) EXPUNGE|\* VANISHED ", re.IGNORECASE)


class FlagNews:
    """Listens to what is told of flags on a connection, as a context manager."""

    __slots__ = ("_connection", "_is_unsure", "_numbers", "_uids")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._numbers: list[int] = []
        self._uids: set[int] = set()
        self._is_unsure = False

    def __enter__(self) -> Self:
        self._connection.session.on_news = self._heard
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.session.on_news = None

    def _heard(self, text: bytes) -> None:
        if (flags := _FLAGS.match(text)) is not None:
            if (uid := _UID.search(text)) is not None:
                self._uids.add(int(uid[1]))
            else:
                self._numbers.append(int(flags[1]))
        elif self._numbers and (gone := _GONE.match(text)) is not None:
            if gone[1] is None:
                self._is_unsure = True
            else:
                # Those behind it move up (RFC 9051 §7.5.1).
                self._numbers = [number - (number > int(gone[1])) for number in self._numbers]

    async def contested(self, step: Step, among: UidSet) -> UidSet:
        """Those of some messages that were told of; raises as `find` does. Asked after the listening."""
        if len(self._uids) + len(self._numbers) >= len(among) > 1:
            # A server that is not silent tells all of them: that is our own doing.
            return UidSet()
        found = set(self._uids)
        if self._numbers:
            connection = self._connection
            selected = connection.selected
            expunged = selected.expunged if selected is not None else 0
            uids = await find(connection, ALL, connection.session.messages, step.today)
            if self._is_unsure or selected is None or selected.expunged != expunged:
                return among
            found |= {uids[number - 1] for number in self._numbers if 0 < number <= len(uids)}
        return among & UidSet.from_numbers(found)
