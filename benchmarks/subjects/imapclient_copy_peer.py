"""IMAPClient from one account into another: a FETCH for each batch, and its MULTIAPPEND of a hundred messages."""

from __future__ import annotations

import imaplib
import importlib
from typing import Any, Final

from benchmarks.copies import read_back, target_of
from benchmarks.job import Job
from benchmarks.meter import Meter
from benchmarks.tally import Tally

imapclient: Any = importlib.import_module("imapclient")

VERSION: Final = str(imapclient.__version__)
_TOGETHER: Final = 100

imaplib._MAXLINE = 50_000_000  # type: ignore[attr-defined]


def run(job: Job, tally: Tally, meter: Meter) -> None:
    old, new = _client(job, job.user), _client(job, target_of(job))
    old.select_folder("INBOX", readonly=True)
    uids = old.search("ALL")
    for first in range(0, len(uids), job.batch):
        found = old.fetch(uids[first : first + job.batch], ["FLAGS", "INTERNALDATE", "BODY.PEEK[]"])
        messages = [
            {
                "msg": data[b"BODY[]"],
                "flags": [flag for flag in data[b"FLAGS"] if flag != b"\\Recent"],
                "date": data[b"INTERNALDATE"],
            }
            for _, data in sorted(found.items())
        ]
        for start in range(0, len(messages), _TOGETHER):
            new.multiappend("INBOX", messages[start : start + _TOGETHER])
    meter.stop()
    old.logout()
    new.logout()
    read_back(job, tally)


def _client(job: Job, user: str) -> Any:  # noqa: ANN401 - its types are not known
    client = imapclient.IMAPClient(job.host, port=job.port, ssl=False)
    client.normalise_times = False
    client.login(user, job.password)
    return client
