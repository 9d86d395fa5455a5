"""One export, in a process of its own, which tells its memory: a program, run by `test_memory.py`."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Final

import imapipe
from imapipe import search as q
from imapipe import sinks

KIB: Final = 1024


def _resident(name: str) -> int:
    """A figure of this process, in bytes; unlike getrusage's, it begins with the program."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split(name + ":", 1)[1].split(None, 1)[0]) * KIB


async def _main(url: str, password: str, kind: str, folder: str) -> None:
    sink: imapipe.Sink = getattr(sinks, kind)(Path(folder) / kind)
    # All of imapipe is idle; what a sink brings with it (pyarrow) counts.
    for name in imapipe.__all__:
        getattr(imapipe, name)
    idle = _resident("VmRSS")
    async with imapipe.create_pool(url, password=password, max_size=4) as pool:
        report = await pool.mailbox("INBOX").search(q.ALL).fetch("full").run(sink)
    over = _resident("VmHWM") - idle
    sys.stdout.write(json.dumps({"done": report.done, "complete": report.complete, "over_idle_bytes": over}))


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
