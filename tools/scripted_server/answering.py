"""A server on a socket that answers each command as a function says: for answers that no real server gives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeAlias

_GOODBYE = b"* BYE so\r\n"

Answer: TypeAlias = Callable[[bytes], bytes | None]
"""What to say to a command without its tag; `TAG` in it stands for the tag. None is what any server would say.
Where it ends in `* BYE so`, the connection ends, too."""


class AnsweringServer:
    """A mailbox of messages 1 to `exists`, and whatever else the function says; an asynchronous context manager.

    Args:
        answer: Asked for each command.
        exists: How many messages there are; their UIDs are 1 to this.
        greeting: What is said first.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        commands: What was asked, without tags.
    """

    def __init__(
        self, answer: Answer, *, exists: int = 3, greeting: bytes = b"* OK [CAPABILITY IMAP4rev1] ready\r\n"
    ) -> None:
        self._answer = answer
        self._exists = exists
        self._greeting = greeting
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.commands: list[bytes] = []
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Where to connect to."""
        return f"imap://ann@127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
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

    def say_to_all(self, data: bytes) -> None:
        """Say something to everybody who is connected, whether he asked or not."""
        for writer in self._writers:
            writer.write(data)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._talk(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            writer.write(self._greeting)
            while line := await reader.readline():
                tag, _, command = line.rstrip(b"\r\n").partition(b" ")
                self.commands.append(command)
                said = self._answer(command)
                said = self._usual(command) if said is None else said
                writer.write(said.replace(b"TAG", tag))
                await writer.drain()
                if said.endswith(_GOODBYE):
                    return
        except ConnectionError:
            # The client has had enough of it.
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    def _usual(self, command: bytes) -> bytes:
        name = command.upper()
        told = b""
        if name.startswith((b"EXAMINE", b"SELECT")):
            told = b"* %d EXISTS\r\n* OK [UIDVALIDITY 1] so\r\n* OK [UIDNEXT %d] so\r\n" % (
                self._exists,
                self._exists + 1,
            )
        elif name.startswith(b"UID SEARCH"):
            told = b"* SEARCH%b\r\n" % b"".join(b" %d" % uid for uid in range(1, self._exists + 1))
        elif name.startswith(b"LOGOUT"):
            told = _GOODBYE
        return told + b"TAG OK done\r\n"
