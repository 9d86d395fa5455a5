"""Mirroring: what a sink has of a mailbox is brought to what the mailbox has now, but for what is new.

New messages are the job's. Here their flags follow those of the mailbox, and what is gone from it is removed.

Invariants:

- The sink itself is the state: what it holds is compared with what is there. So a crash at any moment repeats what was
  not committed and loses nothing, whatever was remembered; what is remembered spares the server, and moves on after
  the last commit only.
- More than the caller allows is never removed: that is counted before the first one is.
- What has UIDs of an earlier UIDVALIDITY counts as to be removed, and only where everything that is there now is held.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, Self, runtime_checkable

from imapipe.errors import DeletionsRefused
from imapipe.models.cursor import Cursor, reissued
from imapipe.models.document import Document
from imapipe.models.flag_table import FlagTable
from imapipe.pipeline.delivery.sink import Sink
from imapipe.runtime.completion import to_the_end
from imapipe.wire.uid_set import UidSet

_SHARE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_WHOLE: Final = 100.0
# So many changes of flags wait in memory at a time.
_COMMIT_EVERY: Final = 10_000


@dataclass(frozen=True, slots=True)
class Held:
    """What a sink has of a mailbox.

    Attributes:
        flags: The UIDs of the messages, by the flags that they have there.
        earlier: How many it has beside them that were written under another UIDVALIDITY.
    """

    flags: Mapping[frozenset[str], UidSet] = field(default_factory=dict)
    earlier: int = 0


@runtime_checkable
class Mirror(Sink, Protocol):
    """A sink that can follow what becomes of the messages that it has.

    Outside of a run it is opened by `open_mirror` and closed by `close`. What is asked between the two is done, and
    safe, when `commit` returns; done again, it changes nothing.
    """

    async def open_mirror(self, account: str, mailbox: str, uidvalidity: int) -> Held:
        """Open it for one mailbox, without a run; tells what it has. `close` follows also where this raises."""

    def kept_flags(self, flags: frozenset[str]) -> frozenset[str]:
        """Which of some flags it keeps, as it tells them."""

    async def update_flags(self, uid: int, flags: frozenset[str]) -> None:
        """A message has these flags now, and no others; nothing happens where the sink does not have it."""

    async def remove(self, uids: UidSet) -> None:
        """These messages are gone from the mailbox."""

    async def remove_earlier(self) -> None:
        """What was written under another UIDVALIDITY is there under this one."""


@runtime_checkable
class Several(Protocol):
    """A sink that is several, each of which follows changes by itself (`sinks.Tee`)."""

    @property
    def parts(self) -> Sequence[Sink]:
        """The sinks."""


def mirrors_of(sink: object) -> Sequence[Mirror]:
    """The mirrors that a sink is. Raises TypeError where one of them cannot follow changes."""
    if isinstance(sink, Several):
        return [mirror for part in sink.parts for mirror in mirrors_of(part)]
    if isinstance(sink, Mirror):
        return [sink]
    raise TypeError(f"mirror() takes a sink that can follow changes, such as sinks.Maildir(...), not {sink!r}")


@dataclass(frozen=True, slots=True)
class DeletionBound:
    """How many messages may be removed from a sink.

    Attributes:
        text: As it was given.
        count: So many; None is no such bound.
        share: So much of what the sink has, 0 to 1; None is no such bound.
    """

    text: str
    count: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, given: int | str | None) -> Self | None:
        """Read `100`, `"100"` or `"10%"`; None stays None: nothing is removed.

        Raises:
            ValueError: It is none of these.
        """
        if given is None:
            return None
        text = str(given).strip()
        share = _SHARE.fullmatch(text)
        if share is not None and float(share[1]) <= _WHOLE:
            return cls(text, share=float(share[1]) / _WHOLE)
        if isinstance(given, bool) or not (text.isascii() and text.isdigit()):
            raise ValueError(f"max_deletions takes a number such as 100, or a share such as '10%', not {given!r}")
        return cls(text, count=int(text))

    def allowed(self, held: int) -> int:
        """How many of so many may be removed; a share is rounded up."""
        return self.count if self.count is not None else math.ceil((self.share or 0.0) * held)


@dataclass(frozen=True, slots=True)
class MirrorReport(Document):
    """What became of what a sink has of a mailbox; of several in a `Tee`, by each number what is told of the worst.

    Attributes:
        mailbox: Its name.
        held: Messages that the sink has now.
        flags_changed: Messages whose flags were changed there.
        removed: Messages that were removed there.
        kept: Messages that are gone from the mailbox and were kept, since no bound for deletions was given, or since
            the mailbox was renumbered and not all of it is there under the new UIDs.
        missing: Messages of the mailbox that the sink does not have: the job has not brought them.
    """

    mailbox: str
    held: int
    flags_changed: int = 0
    removed: int = 0
    kept: int = 0
    missing: int = 0

    @classmethod
    def of_all(cls, reports: Sequence[Self]) -> Self:
        """What is to be said of several sinks that are one."""
        return cls(
            reports[0].mailbox,
            min(each.held for each in reports),
            *(max(getattr(each, name) for each in reports) for name in ("flags_changed", "removed", "kept", "missing")),
        )


async def bring_up_to_date(
    sink: Mirror,
    now: FlagTable,
    *,
    account: str,
    mailbox: str,
    uidvalidity: int,
    cursor: Cursor,
    bound: DeletionBound | None,
) -> MirrorReport:
    """Make a sink have the flags of a mailbox, and nothing that is gone from it; all is safe when it returns.

    Args:
        sink: The sink, closed.
        now: All messages of the mailbox, and their flags.
        account: `user@host:port`.
        mailbox: The name of the mailbox.
        uidvalidity: Its UIDVALIDITY.
        cursor: How far it has come.
        bound: How much may be removed; None is nothing.

    Raises:
        DeletionsRefused: More is gone than the bound allows; flags are up to date then, and nothing was removed.
        UidValidityChanged: What the sink has means other messages now.
        SinkError: It cannot be written.

    Cancelled, it closes the sink; what was committed stays.
    """
    try:
        held = await sink.open_mirror(account, mailbox, uidvalidity)
        has = FlagTable(held.flags)
        uids = has.uids
        if uids:
            met = Cursor(highest_uid=uids.max)
            error = reissued(mailbox, (uidvalidity, met), (uidvalidity, cursor), f"move away what {sink!r} has of it")
            if error is not None:
                raise error
        # In a thread: the comparison of hundreds of thousands of messages takes a while.
        changed = await asyncio.to_thread(lambda: now.within(uids).mapped(sink.kept_flags).differing(has))
        there = now.uids
        gone, missing = uids - there, len(there - uids)
        for number, (uid, flags) in enumerate(changed.items(), start=1):
            await sink.update_flags(uid, flags)
            if number % _COMMIT_EVERY == 0:
                await sink.commit()
        await sink.commit()
        earlier = 0 if missing else held.earlier
        removed = 0
        if bound is not None and (gone or earlier):
            removed = len(gone) + earlier
            total = len(uids) + held.earlier
            if removed > bound.allowed(total):
                raise DeletionsRefused(mailbox, deletions=removed, held=total, allowed=bound.text)
            await sink.remove(gone)
            if earlier:
                await sink.remove_earlier()
            await sink.commit()
    finally:
        # A cancellation may come now, too, and would leave locks and files behind.
        await to_the_end(sink.close())
    total = len(uids) + held.earlier
    kept = len(gone) + held.earlier - removed
    return MirrorReport(mailbox, total - removed, len(changed), removed, kept, missing)
