"""The progress of several runs: of each of them, and of all as that of one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

import imapipe


class Together:
    """Shows the snapshots of many mailboxes, each of which names its account and its own name, and their sum.

    Args:
        show: Is called with the sum whenever one of them is told.
        show_part: And this with that one itself.
    """

    def __init__(
        self,
        show: Callable[[imapipe.ProgressSnapshot], None],
        show_part: Callable[[imapipe.ProgressSnapshot], None] | None = None,
    ) -> None:
        self._show = show
        self._show_part = show_part
        self._running: dict[tuple[str, str], imapipe.ProgressSnapshot] = {}
        # The sum of those that have ended, so that the work does not grow with how many there were.
        self._ended: imapipe.ProgressSnapshot | None = None

    def show(self, snapshot: imapipe.ProgressSnapshot) -> None:
        """Take one run's snapshot."""
        mailbox = snapshot.account, snapshot.mailbox
        if snapshot.final:
            self._running.pop(mailbox, None)
            self._ended = _sums(snapshot, [snapshot] if self._ended is None else [self._ended, snapshot])
        else:
            self._running[mailbox] = snapshot
        running = self._running.values()
        speed = _sum(each.messages_per_second for each in running)
        left = sum(each.planned - each.settled for each in running)
        together = replace(
            _sums(snapshot, running if self._ended is None else [self._ended, *running]),
            messages_per_second=speed,
            bytes_per_second=_sum(each.bytes_per_second for each in running),
            eta_seconds=left / speed if speed else None,
            connections=sum(each.connections for each in running),
            # Another mailbox may begin; whoever shows it knows when all is over.
            final=False,
        )
        if self._show_part is not None:
            self._show_part(snapshot)
        self._show(together)


def _sums(like: imapipe.ProgressSnapshot, every: Collection[imapipe.ProgressSnapshot]) -> imapipe.ProgressSnapshot:
    """The counts of all of them; whatever else it tells is that of one."""
    return replace(
        like,
        planned=sum(each.planned for each in every),
        done=sum(each.done for each in every),
        skipped=sum(each.skipped for each in every),
        vanished=sum(each.vanished for each in every),
        failed=sum(each.failed for each in every),
        bytes_received=sum(each.bytes_received for each in every),
        elapsed_seconds=max(each.elapsed_seconds for each in every),
        waits=sum(each.waits for each in every),
    )


def _sum(values: Iterable[float]) -> float:
    return float(sum(values))
