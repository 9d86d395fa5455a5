"""The tables of the limits that many processes share.

`imapipe_workers` has a row for each `Limits` that is in use, with the end of its lease: renewing it renews everything
that it has. `imapipe_accounts` has what the servers bear, `imapipe_slots` a row for each pool that has connections or
waits for one, `imapipe_rates` when the next thing may pass, `imapipe_bytes` what was received within a day.

Times are milliseconds (`_ms`) or microseconds (`_us`) since 1970 on the clock of the database.
"""

from __future__ import annotations

from typing import Final

from imapipe.database import Step

COMPONENT: Final = "limits"

_WORKERS: Final = """CREATE TABLE imapipe_workers (
    worker TEXT PRIMARY KEY, host TEXT NOT NULL, process BIGINT NOT NULL, birth TEXT NOT NULL,
    seen_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL
)"""
_ACCOUNTS: Final = """CREATE TABLE imapipe_accounts (
    account TEXT PRIMARY KEY, maximum BIGINT NOT NULL, value BIGINT NOT NULL, refusals BIGINT NOT NULL,
    pause_ms BIGINT NOT NULL, held_until_ms BIGINT NOT NULL, grows_at_ms BIGINT NOT NULL, used_ms BIGINT NOT NULL
)"""
_SLOTS: Final = """CREATE TABLE imapipe_slots (
    member TEXT PRIMARY KEY, account TEXT NOT NULL, worker TEXT NOT NULL, held BIGINT NOT NULL, wanted BIGINT NOT NULL,
    since_ms BIGINT NOT NULL, asked_ms BIGINT NOT NULL
)"""
_RATES: Final = """CREATE TABLE imapipe_rates (
    account TEXT NOT NULL, name TEXT NOT NULL, due_us BIGINT NOT NULL, used_ms BIGINT NOT NULL,
    PRIMARY KEY (account, name)
)"""
_BYTES: Final = """CREATE TABLE imapipe_bytes (
    account TEXT PRIMARY KEY, content BYTEA NOT NULL, used_ms BIGINT NOT NULL
)"""

STEPS: Final = (
    Step(
        (
            _WORKERS,
            "CREATE INDEX imapipe_workers_by_end ON imapipe_workers (expires_ms)",
            _ACCOUNTS,
            _SLOTS,
            "CREATE INDEX imapipe_slots_by_account ON imapipe_slots (account)",
            "CREATE INDEX imapipe_slots_by_worker ON imapipe_slots (worker)",
            _RATES,
            _BYTES,
        ),
        # Rows that are written many times a second: there is to be room on their page for the next version.
        postgres=tuple(
            f"ALTER TABLE imapipe_{name} SET (fillfactor = 50)" for name in ("workers", "accounts", "slots", "rates")
        ),
    ),
)
