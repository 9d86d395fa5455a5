"""Clients that listen to the events of a job, half of them slow or gone: `python -m benchmarks.listeners PORT PATH`.

A process of its own beside `subjects.service_subject`, which is what is measured. It says "here" when all are
connected, and in the end how many events each of those that read was told.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Final

CLIENTS: Final = 50
SLOW: Final = 15
GONE: Final = 10


async def listen(port: int, path: str) -> None:
    """Listen until the streams of those that read have ended."""

    async def come() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await reader.readline()
        return reader, writer

    there = [await come() for _ in range(CLIENTS)]
    for _, writer in there[:GONE]:
        writer.close()
    for _, writer in there[GONE : GONE + SLOW]:
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # it reads, whatever the type says
    print("here", flush=True)

    async def read(reader: asyncio.StreamReader) -> int:
        count = 0
        while line := await reader.readline():
            count += line.startswith(b"event:")
            if line.startswith(b"event: end"):
                break
        return count

    counts = await asyncio.gather(*(read(reader) for reader, _ in there[GONE + SLOW :]))
    print(json.dumps({"events": counts}), flush=True)


if __name__ == "__main__":
    asyncio.run(listen(int(sys.argv[1]), sys.argv[2]))
