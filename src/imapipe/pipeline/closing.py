"""The end of a run: its layers are stopped, and its report is made of values: its plan, its ledger, its books.

Invariants:

- Every layer is stopped, innermost first; one that fails does not keep the others from saving.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from imapipe.middleware.base import Layer
from imapipe.models.cursor import Cursor
from imapipe.models.report import ChangeTally, RunReport
from imapipe.pipeline.books import Books
from imapipe.pipeline.ledger import Ledger
from imapipe.pipeline.memory import done_all_runs_of
from imapipe.pipeline.plan import Plan
from imapipe.runtime.resources import Sampler
from imapipe.wire.response.note import add_counts

_log = logging.getLogger(__name__)


@runtime_checkable
class MakesChanges(Protocol):
    """A layer that changes messages after their outcome."""

    @property
    def changes(self) -> ChangeTally:
        """What became of the changes so far."""


class Reported(Protocol):
    """A run, as its report sees it."""

    account: str
    mailbox: str
    layers: Sequence[Layer]
    ledger: Ledger
    resources: Sampler

    @property
    def uidvalidity(self) -> int:
        """UIDVALIDITY of the mailbox."""

    @property
    def cursor(self) -> Cursor:
        """How far it had come."""

    @property
    def plan(self) -> Plan:
        """What it was for."""

    @property
    def retry_at(self) -> datetime | None:
        """When the server serves again, where it refused and that is known."""


async def finish_layers(layers: Sequence[Layer]) -> None:
    """Every message has its outcome: tell the layers, innermost first. Raises what one of them raises."""
    for layer in reversed(layers):
        await layer.finish()


async def stop_layers(layers: Sequence[Layer], because: BaseException | None = None) -> None:
    """Stop what was started.

    Args:
        layers: The layers, outermost first.
        because: What ended the run and is to be raised; errors of layers are logged beside it. Without it, the first
            of them is raised.
    """
    first: BaseException | None = None
    for layer in reversed(layers):
        try:
            await layer.stop()
        except BaseException as error:  # noqa: BLE001 - raised, or logged where another one is raised already
            if because is None and first is None:
                first = error
                continue
            # What ended the run is raised; another reason must not be lost all the same.
            if error is not because:
                _log.exception("%s could not be stopped", type(layer).__name__)
    if first is not None:
        raise first


def make_report(run: Reported, books: Books) -> RunReport:
    """What became of a run so far, with what was counted."""
    ledger, usage = run.ledger, run.resources.usage()
    done_all_runs = done_all_runs_of(run.layers)
    changes = next((layer.changes for layer in run.layers if isinstance(layer, MakesChanges)), ChangeTally())
    notes = dict(books.notes)
    add_counts(notes, changes.notes)
    ledger.flush()
    return RunReport(
        account=run.account,
        mailbox=run.mailbox,
        uidvalidity=run.uidvalidity,
        cursor=run.cursor,
        planned=len(run.plan.planned),
        done=ledger.done_count,
        skipped=ledger.skipped_count,
        vanished=ledger.vanished_count,
        failed=ledger.failed_count,
        failures=dict(ledger.failures),
        failed_uids=ledger.failed,
        unaccounted=books.unaccounted,
        may_be_short=books.may_be_short,
        missing_items=dict(books.missing_items),
        notes=notes,
        changes_due=changes.due,
        changed=changes.changed,
        change_vanished=changes.vanished,
        change_failed=changes.failed,
        change_failures=changes.failures,
        started_at=books.started_at,
        elapsed_seconds=books.elapsed_seconds,
        bytes_received=books.bytes_received,
        wire_bytes=books.wire_bytes,
        batch_seconds=books.batch_seconds,
        batch_sizes=books.batch_sizes,
        retries=books.retries,
        reconnects=books.reconnects,
        throttle_waits=books.waits,
        peak_rss_bytes=usage.peak_rss_bytes,
        cpu_seconds=usage.cpu_seconds,
        loop_lag_seconds=usage.loop_lag_seconds,
        system_cpu_percent=usage.system_cpu_percent,
        system_memory_percent=usage.system_memory_percent,
        retry_at=run.retry_at,
        done_all_runs=done_all_runs if done_all_runs is not None else ledger.done_count,
    )
