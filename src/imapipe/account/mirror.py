"""All mailboxes of an account mirrored into a sink, and what became of that.

Invariants:

- A mailbox in which nothing changed since it was mirrored, flags included, costs no command of its own, where the
  server tells HIGHESTMODSEQ.
- What happens in one mailbox leaves the others alone; see `account.isolation`.
- A mailbox that is gone from the server is not looked at: what the sink has of it stays.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import ClassVar, TypeAlias

from imapipe.account.isolation import do_each
from imapipe.changes.mirror import DeletionBound, MirrorReport, mirrors_of
from imapipe.changes.mirroring import is_up_to_date, mirror_mailbox
from imapipe.models.mailbox import MailboxEntry
from imapipe.models.report import shown
from imapipe.models.sums import Sums
from imapipe.net.pool.pool import ConnectionPool
from imapipe.pipeline.delivery.sink import Sink, sink_for
from imapipe.store.base import BlockingCheckpointStore, CheckpointStore
from imapipe.store.job_key import JobKey
from imapipe.store.threaded import as_async

_SUMS = ("held", "flags_changed", "removed", "kept", "missing")

OnMirrored: TypeAlias = Callable[[str, MirrorReport | Exception], None]
"""Called with the name of a mailbox when it has been mirrored: its report, or what went wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountMirrorReport(Sums):
    """What became of each mailbox of an account in a mirror.

    Attributes:
        account: `user@host:port`.
        reports: Of the mailboxes that were looked at, by name, in the order in which they ended.
        unchanged: Mailboxes in which nothing had changed since they were mirrored.
        errors: What went wrong with a mailbox, by its name; nothing else of it is in the sums.
        started_at: When it began (aware).
        elapsed_seconds: How long it took.
    """

    derived: ClassVar[Sequence[str]] = (*_SUMS, "complete")
    told_as: ClassVar[Mapping[str, str]] = {"reports": "mailboxes"}

    account: str
    reports: Mapping[str, MirrorReport]
    unchanged: tuple[str, ...]
    errors: Mapping[str, Exception]
    started_at: datetime
    elapsed_seconds: float

    @property
    def held(self) -> int:
        """Messages that the sink has now."""
        return self._sum("held")

    @property
    def missing(self) -> int:
        """Messages of the mailboxes that the sink does not have."""
        return self._sum("missing")

    @property
    def flags_changed(self) -> int:
        """Messages whose flags were changed in the sink."""
        return self._sum("flags_changed")

    @property
    def removed(self) -> int:
        """Messages that were removed from the sink."""
        return self._sum("removed")

    @property
    def kept(self) -> int:
        """Messages that are gone from the mailboxes and were kept."""
        return self._sum("kept")

    @property
    def complete(self) -> bool:
        """Whether every mailbox was looked at, and nothing was refused."""
        return not self.errors

    def table(self) -> str:
        """The report as plain text: what was changed, and what was refused and why."""
        kept = f"; {self.kept:,} that are gone were kept" if self.kept else ""
        lines = [f"mirrored: {self.flags_changed:,} with other flags, {self.removed:,} removed{kept}"]
        lines += [f"{shown(name)}: {shown(str(error))}" for name, error in self.errors.items()]
        return "\n".join(lines)

    def _each(self) -> Iterable[object]:
        return self.reports.values()


async def mirror_account(
    pool: ConnectionPool,
    account: str,
    entries: Sequence[MailboxEntry],
    sink: Sink,
    store: CheckpointStore | BlockingCheckpointStore,
    *,
    name: str,
    bound: DeletionBound | None,
    outage_seconds: float,
    on_mailbox: OnMirrored | None,
) -> AccountMirrorReport:
    """Mirror mailboxes, as many at a time as there are connections and the sink can be divided.

    Raises:
        AuthenticationFailed, PoolClosed, CheckpointError: The account or the file of the state cannot be used.

    Cancelled, it keeps what the sink committed.
    """
    started_at, began = datetime.now(UTC), time.monotonic()
    kept = as_async(store)
    path = str(getattr(store, "path", ""))
    keys = [JobKey(account, entry.name, name) for entry in entries]
    remembered = await kept.peek_all(keys)
    unchanged: list[str] = []
    work: list[tuple[str, Callable[[], Awaitable[MirrorReport]]]] = []
    is_divided = True
    for entry, key in zip(entries, keys, strict=True):
        if is_up_to_date(entry.status, remembered.get(key)):
            unchanged.append(str(entry.name))
            continue
        divided = sink_for(sink, str(entry.name), entry.delimiter)
        is_divided = is_divided and divided is not None
        mirror = partial(
            mirror_mailbox,
            pool,
            key,
            kept,
            path,
            mirrors_of(sink if divided is None else divided),
            bound=bound,
            outage_seconds=outage_seconds,
        )
        work.append((str(entry.name), mirror))
    reports, errors = await do_each(work, on_mailbox, at_once=pool.max_size if is_divided else 1)
    return AccountMirrorReport(
        account=account,
        reports=reports,
        unchanged=tuple(unchanged),
        errors=errors,
        started_at=started_at,
        elapsed_seconds=time.monotonic() - began,
    )
