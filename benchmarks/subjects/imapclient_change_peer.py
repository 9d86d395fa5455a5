"""IMAPClient: a silent STORE, or a MOVE, for each batch, also after its headers were handled; MULTIAPPEND."""

from __future__ import annotations

import importlib
from typing import Any, Final

from benchmarks.job import KEYWORD, TARGET, Job
from benchmarks.letters import letters, read_header
from benchmarks.meter import Meter
from benchmarks.tally import Tally

imapclient: Any = importlib.import_module("imapclient")

VERSION: Final = str(imapclient.__version__)


def run(job: Job, tally: Tally, meter: Meter) -> None:
    new = letters(job)
    if new:
        # To make them is no part of it.
        meter.start()
    client = imapclient.IMAPClient(job.host, port=job.port, ssl=False)
    client.login(job.user, job.password)
    if new:
        for first in range(0, len(new), job.batch):
            client.multiappend(TARGET, new[first : first + job.batch])
        meter.stop()
        tally.count = len(new)
        client.logout()
        return
    client.select_folder("INBOX")
    uids = client.search("ALL")
    for first in range(0, len(uids), job.batch):
        batch = uids[first : first + job.batch]
        if job.work == "on-done":
            for uid, data in client.fetch(
                batch, [b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE", b"BODY.PEEK[HEADER]"]
            ).items():
                read_header(uid, data[b"BODY[HEADER]"])
        if job.work != "set-flags":
            client.move(batch, TARGET)
        else:
            client.add_flags(batch, [KEYWORD], silent=True)
    meter.stop()
    tally.count = len(uids)
    client.logout()
