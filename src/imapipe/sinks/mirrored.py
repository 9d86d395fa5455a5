"""What the sinks that can mirror have in common: what is asked for waits, and is done by the next commit.

Invariants:

- What waits is done in one call in the thread of the sink, behind what was written; when it is over, nothing waits any
  more.
- Where messages have other UIDs now, they are moved when a run begins. Cut off at any moment, it can be done again.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from imapipe.changes.mirror import Held
from imapipe.models.identity import Renumbered
from imapipe.sinks.base import FileSink
from imapipe.sinks.place import Place
from imapipe.wire.uid_set import UidSet


@dataclass(slots=True)
class Pending:
    """What waits to be done.

    Attributes:
        flags: The flags that messages are to have, by UID.
        removed: Messages that are to be removed.
        earlier: Whether what was written under another UIDVALIDITY is to be removed.
    """

    flags: dict[int, frozenset[str]] = field(default_factory=dict)
    removed: UidSet = field(default_factory=UidSet)
    earlier: bool = False

    def __bool__(self) -> bool:
        return bool(self.flags or self.removed or self.earlier)


class MirrorSink(FileSink):
    """A sink that writes below one path, and can follow what becomes of its messages (a `Mirror`)."""

    _place: Place

    def __init__(self, path: str | os.PathLike[str], *, durable: bool = True) -> None:
        super().__init__(path, durable=durable)
        self._pending = Pending()

    async def open_mirror(self, account: str, mailbox: str, uidvalidity: int) -> Held:
        """See `Mirror`. Raises SinkError: the files cannot be used, or a run uses the sink."""
        self._begin_run()
        return await self._in_thread(self._open_mirror, Place(account, mailbox, uidvalidity))

    async def update_flags(self, uid: int, flags: frozenset[str]) -> None:
        """See `Mirror`."""
        self._pending.flags[uid] = flags

    async def remove(self, uids: UidSet) -> None:
        """See `Mirror`."""
        self._pending.removed |= uids

    async def remove_earlier(self) -> None:
        """See `Mirror`."""
        self._pending.earlier = True

    async def commit(self) -> None:
        """See `Sink` and `Mirror`. Raises SinkError."""
        await super().commit()
        if self._pending:
            pending, self._pending = self._pending, Pending()
            await self._in_thread(self._follow, pending)

    async def close(self) -> None:
        """See `Sink`."""
        await super().close()
        if not self._runs:
            self._pending = Pending()

    def _renumber(self, renumbered: Renumbered) -> None:
        before = renumbered.uidvalidity
        if before == self._place.uidvalidity:
            # What has these UIDs may be any message.
            before = renumbered.apart
            self._set_apart(before)
        self._move(before, renumbered.uids)

    @abstractmethod
    def _set_apart(self, apart: int) -> None:
        """Put all that has the UIDVALIDITY of now under another number, once for each number."""

    @abstractmethod
    def _move(self, before: int, uids: Mapping[int, int]) -> None:
        """Give messages that have the UIDVALIDITY `before` that of now, and other UIDs, by those that they have.

        One whose new UID is there stays as it is; what was moved already is not there any more.
        """

    @abstractmethod
    def kept_flags(self, flags: frozenset[str]) -> frozenset[str]:
        """See `Mirror`."""

    @abstractmethod
    def _open_mirror(self, place: Place) -> Held:
        """Open the files for a mailbox, and tell what is there."""

    @abstractmethod
    def _follow(self, pending: Pending) -> None:
        """Do what waits, and make it safe."""
