"""Plays the server's side of a dialogue."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from enum import Enum
from types import TracebackType
from typing import Self

from scripted_server.script import Line, Script, fill_in, match_line

_MARKER_END = re.compile(rb"(?s).+?(?:\{\d+\+?\}\r\n|\Z)")


class Feeding(Enum):
    """How what the server says is cut into segments."""

    WHOLE = "whole"
    BYTES = "byte by byte"
    MARKERS = "behind markers"

    def cut(self, data: bytes) -> list[bytes]:
        """The segments."""
        if self is Feeding.BYTES:
            return [data[index : index + 1] for index in range(len(data))]
        return _MARKER_END.findall(data) if self is Feeding.MARKERS else [data]


class ScriptedServer:
    """Plays one dialogue with each client that connects; an asynchronous context manager.

    Args:
        script: What is said.
        feeding: How it is cut.
        tls: Context for TLS from the first byte.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        problem: What a client said that was not expected, or "".
        played: How many dialogues came to their end.
    """

    def __init__(self, script: Script, feeding: Feeding = Feeding.WHOLE, *, tls: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._feeding = feeding
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.host = "127.0.0.1"
        self.port = 0
        self.problem = ""
        self.played = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self.host, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))
        if self._server is not None:
            await self._server.wait_closed()
        if self.problem and error is None:
            raise AssertionError(self.problem)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._play(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tags: dict[str, bytes] = {}
        unsaid: list[bytes] = []
        try:
            for line in self._script.lines:
                if line.kind == "S":
                    unsaid.append(fill_in(line.text, tags) + b"\r\n")
                    continue
                await self._say(writer, b"".join(unsaid))
                unsaid.clear()
                if line.kind == "X":
                    break
                await self._expect(reader, line, tags)
            await self._say(writer, b"".join(unsaid))
            self.played += 1
            if not any(line.kind == "X" for line in self._script.lines):
                # The client closes.
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.problem = self.problem or f"{self._script.name}: the client has gone"
        except AssertionError as problem:
            self.problem = self.problem or str(problem)
        finally:
            writer.close()

    async def _say(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        for segment in self._feeding.cut(data) if data else ():
            writer.write(segment)
            await writer.drain()
            # The client lives in the same loop: let it read.
            await asyncio.sleep(0)

    async def _expect(self, reader: asyncio.StreamReader, line: Line, tags: dict[str, bytes]) -> None:
        said = (await reader.readuntil(b"\r\n")).removesuffix(b"\r\n")
        if not match_line(line.text, said, tags):
            raise AssertionError(f"{self._script.name}:{line.number}: expected {line.text!r}, the client said {said!r}")
