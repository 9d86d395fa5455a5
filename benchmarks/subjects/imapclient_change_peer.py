"""IMAPClient: a silent STORE, or a MOVE, for each batch."""

from __future__ import annotations

import importlib
from typing import Any, Final

from benchmarks.job import KEYWORD, TARGET, Job
from benchmarks.meter import Meter
from benchmarks.tally import Tally

imapclient: Any = importlib.import_module("imapclient")

VERSION: Final = str(imapclient.__version__)


def run(job: Job, tally: Tally, meter: Meter) -> None:
    client = imapclient.IMAPClient(job.host, port=job.port, ssl=False)
    client.login(job.user, job.password)
    client.select_folder("INBOX")
    uids = client.search("ALL")
    for first in range(0, len(uids), job.batch):
        batch = uids[first : first + job.batch]
        if job.work == "moves":
            client.move(batch, TARGET)
        else:
            client.add_flags(batch, [KEYWORD], silent=True)
    meter.stop()
    tally.count = len(uids)
    client.logout()
