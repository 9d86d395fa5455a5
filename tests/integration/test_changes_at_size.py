"""All of a mailbox is flagged, moved and brought back: every message in one place, dates and flags as they were.

`nox -s proof` does it with many thousand messages, and says how long each took; the suite with a few hundred.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Final

import pytest
from tests.integration.mail_state import open_account, read_mail

import imapipe
from dovecot_server import DovecotServer
from imapipe import search as q

pytestmark = pytest.mark.asyncio

MESSAGES: Final = int(os.environ.get("IMAPIPE_PROOF_MESSAGES", "300"))
# The suite has several batches, too.
BATCH: Final = 5_000 if MESSAGES > 5_000 else 100


def _tell(server: str, missing: tuple[str, ...], what: str, began: float) -> None:
    """For whoever runs the proof (`pytest -s`)."""
    without = f" without {' '.join(missing)}" if missing else ""
    sys.stdout.write(f"{server}{without}: {what} of {MESSAGES:,} in {time.monotonic() - began:.1f} s\n")


@pytest.mark.slow
@pytest.mark.parametrize(("server", "missing"), [("dovecot", ()), ("embedded", ()), ("embedded", ("MOVE", "OBJECTID"))])
async def test_flags_moves_and_undo_leave_all_as_it_was(
    dovecot: DovecotServer, tmp_path: Path, server: str, missing: tuple[str, ...]
) -> None:
    async with (
        open_account(server, dovecot, MESSAGES, missing=missing) as account,
        imapipe.create_pool(account.url, password=account.password) as pool,
    ):
        before = await read_mail(pool, "INBOX")
        inbox = pool.mailbox("INBOX").search(q.ALL).batch(BATCH)
        flagged = [mail._replace(flags=mail.flags | {"\\Flagged", "$Work"}) for mail in before]
        changes = {
            "flag": (inbox.add_flags("\\Flagged", "$Work"), (flagged, [])),
            "move": (inbox.move_to("Archive"), ([], before)),
        }
        for name, (change, expected) in changes.items():
            began = time.monotonic()
            report = await change.run(journal=tmp_path / name)
            _tell(server, missing, name, began)
            assert (report.done, report.complete) == (MESSAGES, True), report.table()
            assert (await read_mail(pool, "INBOX"), await read_mail(pool, "Archive")) == expected
            began = time.monotonic()
            back = await imapipe.undo(tmp_path / name, pool)
            _tell(server, missing, f"undo {name}", began)
            # Those that were flagged already keep that flag, and count too: they got the other one.
            assert (back.undone, back.complete) == (MESSAGES, True), back.table()
            assert (await read_mail(pool, "INBOX"), await read_mail(pool, "Archive")) == (before, [])
