"""What the server saw: one record per command, and counters."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import overload


class CommandRecord:
    """One command as it was received and answered.

    Attributes:
        connection: Number of the connection, from 1 in order of arrival.
        tag: Its tag.
        name: Upper case, with ``UID`` in front where it was: ``"UID FETCH"``.
        arguments: The rest of the line; literals appear as ``{n}``, secrets of LOGIN and AUTHENTICATE as ``***``.
        received_at: Seconds on the server's clock when the last byte of it had come.
        finished_at: Seconds on the server's clock when its tagged reply was written, None before.
        outcome: ``OK``, ``NO``, ``BAD``; ``BYE`` when the server hung up politely instead, ``CUT`` when not
            politely, ``LOST`` when the client left before the end, ``STALL`` while it hangs; "" while it runs.
        reply: Text of the tagged reply after the status, with its response code.
        messages: How many messages the command was answered for (FETCH responses, stored or copied messages,
            search hits).
        fetched: UIDs of the FETCH responses of the command, in order.
        pipelined: Whether it was there before the command before it on this connection was answered, so that it
            cost the client no waiting of its own.
        continuations: How often the client had to wait for a ``+`` within it.
        bytes_out: Bytes of the response before TLS and compression.
        throttled: Whether a throttle answered it.
    """

    __slots__ = (
        "arguments",
        "bytes_out",
        "connection",
        "continuations",
        "fetched",
        "finished_at",
        "messages",
        "name",
        "outcome",
        "pipelined",
        "received_at",
        "reply",
        "tag",
        "throttled",
    )

    def __init__(self, connection: int, tag: str, name: str, arguments: str, received_at: float) -> None:
        self.connection = connection
        self.tag = tag
        self.name = name
        self.arguments = arguments
        self.received_at = received_at
        self.finished_at: float | None = None
        self.outcome = ""
        self.reply = ""
        self.messages = 0
        self.fetched = array("I")
        self.pipelined = False
        self.continuations = 0
        self.bytes_out = 0
        self.throttled = False

    @property
    def message_set(self) -> str:
        """The first argument, which is the message set of FETCH, STORE, COPY and MOVE."""
        return self.arguments.split(" ", 1)[0]

    def __repr__(self) -> str:
        arguments = self.arguments if len(self.arguments) <= 60 else self.arguments[:57] + "..."
        return f"<{self.connection}:{self.tag} {self.name} {arguments} -> {self.outcome or '...'} ({self.messages})>"


class CommandLog(Sequence[CommandRecord]):
    """All records in order of arrival; a sequence with a filter.

    Example:
        ``[record.messages for record in server.commands.named("UID FETCH")]`` are the sizes of the batches.
    """

    def __init__(self) -> None:
        self._records: list[CommandRecord] = []

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[CommandRecord]:
        return iter(self._records)

    @overload
    def __getitem__(self, index: int) -> CommandRecord: ...

    @overload
    def __getitem__(self, index: slice) -> list[CommandRecord]: ...

    def __getitem__(self, index: int | slice) -> CommandRecord | list[CommandRecord]:
        return self._records[index]

    def add(self, record: CommandRecord) -> None:
        """Note a command."""
        self._records.append(record)

    def clear(self) -> None:
        """Forget all commands."""
        self._records.clear()

    def named(self, *names: str, connection: int | None = None) -> list[CommandRecord]:
        """Commands with one of these names, of one connection or all."""
        return [
            record
            for record in self._records
            if record.name in names and (connection is None or record.connection == connection)
        ]

    def fetched(self, connection: int | None = None) -> Counter[int]:
        """How often each UID was sent by FETCH, on one connection or all; mailboxes are not told apart."""
        return Counter(uid for record in self._of(connection) for uid in record.fetched)

    def round_trips(self, connection: int | None = None) -> int:
        """How often the client waited for an answer, on one connection or all; pipelined commands wait together.

        A server without latency answers between two commands that were sent one right after the other, so give
        it some (``latency_seconds=0.01``) where this is counted.
        """
        return sum((not record.pipelined) + record.continuations for record in self._of(connection))

    def _of(self, connection: int | None) -> Iterator[CommandRecord]:
        return (record for record in self._records if connection is None or record.connection == connection)

    @property
    def names(self) -> list[str]:
        """Names of all commands in order."""
        return [record.name for record in self._records]

    @property
    def by_name(self) -> Counter[str]:
        """How many commands there were of each name."""
        return Counter(record.name for record in self._records)


class Counters:
    """Sums over all connections.

    Attributes:
        connections: Accepted, refused ones included.
        refused_connections: Closed before or with the greeting.
        open_connections: Open now.
        peak_connections: Most that were open at once.
        logins: Logins that succeeded.
        failed_logins: Logins that failed or were refused.
        bytes_in: Bytes received, under TLS the decrypted ones, under COMPRESS the compressed ones.
        bytes_out: Bytes sent, counted likewise.
        throttled: Replies of throttles.
        messages_fetched: FETCH responses sent.
    """

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "connections",
        "failed_logins",
        "logins",
        "messages_fetched",
        "open_connections",
        "peak_connections",
        "refused_connections",
        "throttled",
    )

    def __init__(self) -> None:
        self.connections = 0
        self.refused_connections = 0
        self.open_connections = 0
        self.peak_connections = 0
        self.logins = 0
        self.failed_logins = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.throttled = 0
        self.messages_fetched = 0
