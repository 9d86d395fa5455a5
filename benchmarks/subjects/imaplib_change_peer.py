"""imaplib of the standard library: `append` for each new message; FETCH, handling and MOVE for each batch."""

from __future__ import annotations

import imaplib
import re
import sys
from typing import Final

from benchmarks.job import TARGET, Job
from benchmarks.letters import letters, read_header
from benchmarks.meter import Meter
from benchmarks.tally import Tally

VERSION: Final = sys.version.split(maxsplit=1)[0]

_UID = re.compile(rb"\(UID (\d+)")


def run(job: Job, tally: Tally, meter: Meter) -> None:
    new = letters(job)
    if new:
        # To make them is no part of it.
        meter.start()
    client = imaplib.IMAP4(job.host, job.port)
    client.login(job.user, job.password)
    for letter in new:
        client.append(TARGET, "", "", letter)
        tally.count += 1
    if not new:
        client.select("INBOX")
        _, found = client.uid("SEARCH", "ALL")
        uids = found[0].split()
        for first in range(0, len(uids), job.batch):
            batch = b",".join(uids[first : first + job.batch]).decode()
            _, answers = client.uid("FETCH", batch, job.items)
            for answer in answers:
                if isinstance(answer, tuple) and (uid := _UID.search(answer[0])):
                    read_header(int(uid[1]), answer[1])
                    tally.count += 1
            client.uid("MOVE", batch, TARGET)
    meter.stop()
    client.logout()
