"""mbsync (isync) from one account into another, without waiting for the disk, its pipeline as deep as it takes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from benchmarks.copies import read_back, target_of
from benchmarks.job import Job
from benchmarks.meter import Meter
from benchmarks.program import measure_program
from benchmarks.subjects import mbsync_peer
from benchmarks.tally import Tally

VERSION: Final = mbsync_peer.VERSION
_STORE: Final = """
IMAPStore {name}
Host {job.host}
Port {job.port}
User {user}
Pass {job.password}
SSLType None
PipelineDepth 50
"""
_CHANNEL: Final = """
Channel all
Far :from:
Near :to:
Patterns INBOX
Sync Pull New
Create Near
CopyArrivalDate yes
SyncState {folder}/state/
"""


def run(job: Job, tally: Tally, meter: Meter) -> None:
    with tempfile.TemporaryDirectory(prefix="mbsync-") as folder:
        Path(folder, "state").mkdir()
        stores = [_STORE.format(name=name, user=user, job=job) for name, user in _users(job)]
        configuration = Path(folder, "mbsyncrc")
        configuration.write_text("FSync no\n" + "".join(stores) + _CHANNEL.format(folder=folder))
        measure_program(["mbsync", "-q", "-c", str(configuration), "all"], folder, meter)
    read_back(job, tally)


def _users(job: Job) -> list[tuple[str, str]]:
    return [("from", job.user), ("to", target_of(job))]
