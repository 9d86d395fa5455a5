"""Through PgBouncer in transaction mode: a session is somebody else's from one transaction to the next.

`IMAPIPE_PGBOUNCER=1 pytest -m postgres tests/database tests/store/sql tests/cluster tests/contrib/cluster` has all
tests of databases go through one; this is one of each kind.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.contrib.cluster.places import QUICK, place

from postgres_server import PgBouncer, PostgresServer, find_pgbouncer

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.skipif(find_pgbouncer() is None, reason="PgBouncer is not installed (apt install pgbouncer)"),
]


async def test_a_job_of_two_workers_with_checkpoints_slots_and_rates(dsn: str, postgres: PostgresServer) -> None:
    pace = replace(QUICK, listen=False)
    with PgBouncer(postgres) as bouncer:
        async with place(bouncer.url(dsn), pace=pace, messages_per_second=1_000) as here, here.worker():
            job = await here.cluster.wait(await here.cluster.defer("ann", "scan", shards=2), every_seconds=0.05)
    assert job.state == "complete"
    assert job.report is not None
    assert (job.report.planned, job.report.done) == (60, 60)
    assert set(here.handled.values()) == {1}
