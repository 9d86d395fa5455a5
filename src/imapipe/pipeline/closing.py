"""The report of a run, made of values: its plan, its ledger, its books."""

from __future__ import annotations

from imapipe.models.cursor import Cursor
from imapipe.models.report import RunReport
from imapipe.pipeline.books import Books
from imapipe.pipeline.ledger import Ledger
from imapipe.runtime.resources import ResourceUsage


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
