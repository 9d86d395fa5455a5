"""The end of a run: its layers are stopped, and its report is made of values: its plan, its ledger, its books.

Invariants:

- Every layer is stopped, innermost first; one that fails does not keep the others from saving.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from imapipe.middleware.base import Layer
from imapipe.models.cursor import Cursor
from imapipe.models.report import RunReport
from imapipe.pipeline.books import Books
from imapipe.pipeline.ledger import Ledger
from imapipe.runtime.resources import ResourceUsage

_log = logging.getLogger(__name__)


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
            # What ended the run is raised; this must not be lost all the same.
            _log.exception("%s could not be stopped", type(layer).__name__)
    if first is not None:
        raise first


def make_report(
    *,
    account: str,
    mailbox: str,
    uidvalidity: int,
    cursor: Cursor,
    planned: int,
    ledger: Ledger,
    books: Books,
    usage: ResourceUsage,
    done_all_runs: int | None,
) -> RunReport:
    """What became of a run so far.

    Args:
        account: `user@host:port`.
        mailbox: The name of the mailbox.
        uidvalidity: Its UIDVALIDITY.
        cursor: How far it had come.
        planned: How many messages the run was for.
        ledger: The outcomes.
        books: The counts.
        usage: What it cost the machine.
        done_all_runs: Messages done over all runs, where somebody counts them.
    """
    ledger.flush()
    return RunReport(
        account=account,
        mailbox=mailbox,
        uidvalidity=uidvalidity,
        cursor=cursor,
        planned=planned,
        done=ledger.done_count,
        skipped=ledger.skipped_count,
        vanished=ledger.vanished_count,
        failed=ledger.failed_count,
        failures=dict(ledger.failures),
        failed_uids=ledger.failed,
        unaccounted=books.unaccounted,
        may_be_short=books.may_be_short,
        missing_items=dict(books.missing_items),
        notes=dict(books.notes),
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
        done_all_runs=done_all_runs if done_all_runs is not None else ledger.done_count,
    )
