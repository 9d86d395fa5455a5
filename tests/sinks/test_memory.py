"""What an export holds does not grow with the mailbox, nor with its largest messages: the peak of a process of its own.

Among small messages there are some of 10 MB, half of these attached. `nox -s proof` does it with 20,000 messages.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from pathlib import Path
from typing import Final

import pytest

from imapipe.testing import Server, SyntheticMailbox

MIB: Final = 1024 * 1024
MESSAGES: Final = int(os.environ.get("IMAPIPE_PROOF_MESSAGES", "200"))
# Together more than a sink may hold.
LARGE: Final = 8
# In the daily run those that do something of their own with the content.
KINDS: Final = ("Attachments", "Mbox", "Parquet", "Sqlite") + ("EmlFolder", "JsonLines", "Maildir") * (MESSAGES > 1000)

_LINES: Final = (b"y" * 76 + b"\r\n") * (10 * MIB // 78)
_ENCODED: Final = b"\r\n".join(base64.encodebytes(bytes(range(256)) * (7 * MIB // 256)).splitlines())
_HEAD: Final = b"Message-ID: <%d@example.org>\r\nSubject: %d\r\nMIME-Version: 1.0\r\n"


def _message(uid: int) -> bytes:
    head = _HEAD % (uid, uid)
    if uid % (MESSAGES // LARGE):
        return head + b"\r\n" + b"small\r\n" * (uid % 200)
    if uid % 2:
        return head + b"\r\n" + _LINES
    return (
        head
        + b'Content-Type: application/octet-stream; name="x%d"\r\n' % uid
        + b"Content-Disposition: attachment\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + _ENCODED
    )


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory of a process in Linux's way")
@pytest.mark.parametrize("kind", KINDS)
async def test_the_peak_is_bounded(kind: str, tmp_path: Path) -> None:
    bar = 64
    if kind == "Parquet":
        bar = 200
        pytest.importorskip("pyarrow")
    async with Server(SyntheticMailbox(MESSAGES, make=_message)) as server:
        program = Path(__file__).with_name("exporting_and_measured.py")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(program),
            server.url,
            server.password,
            kind,
            str(tmp_path),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        output, _ = await process.communicate()
    assert process.returncode == 0
    told = json.loads(output)
    assert told["complete"]
    assert told["done"] == MESSAGES
    assert told["over_idle_bytes"] <= bar * MIB, f"{told['over_idle_bytes'] / MIB:.0f} MiB over idle"
