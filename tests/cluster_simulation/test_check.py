"""The simulation beside a real run: three workers, fifty accounts. In `nox -s proof`: it wants a machine for itself."""

from __future__ import annotations

import os

import pytest

from cluster_simulation.check import check
from cluster_simulation.measure import measure
from postgres_server import find_postgres

pytestmark = pytest.mark.skipif(
    "IMAPIPE_PROOF_MESSAGES" not in os.environ or find_postgres() is None, reason="only in nox -s proof"
)


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(0)
def test_what_is_predicted_from_costs_measured_here_comes_out_here() -> None:
    comparison = check(measure(scale=0.5), messages=400)
    for name in ("messages_per_second", "database_writes"):
        assert 0.7 < comparison.ratio(name) < 1.4, comparison.table()
