"""Faults of a command, or of the greeting, which has the name ``GREETING``."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from ..records import CommandRecord
from .base import Bytes, CutKind, Fault, Status


@dataclass(eq=False)
class Delay(Fault):
    """Wait ``seconds`` before the command is worked on, over and above the latency of the line."""

    seconds: float


@dataclass(eq=False)
class Reply(Fault):
    """Answer with this status instead of the right one.

    Attributes:
        status: OK, NO or BAD.
        text: Text after the code.
        code: Response code without brackets, or "".
        after_response: Whether the command is done and its untagged data sent first.
    """

    status: Status
    text: str
    code: str = ""
    after_response: bool = False


@dataclass(eq=False)
class RefuseLogin(Fault):
    """Answer LOGIN and AUTHENTICATE with NO: by default as Gmail does when there are too many connections."""

    text: str = "Too many simultaneous connections. (Failure)"
    code: str = "ALERT"


@dataclass(eq=False)
class RefuseCredentials(Fault):
    """Find the password or the token wrong, in the way of the mechanism (a challenge first for XOAUTH2)."""


@dataclass(eq=False)
class Bye(Fault):
    """Say ``* BYE text`` and close.

    Attributes:
        text: Its text, with a response code if one is wanted.
        after_response: Whether the command is answered first.
        tagged: Status and text of a tagged reply after the BYE (Yahoo sends one), or "".
    """

    text: str = "Server shutting down"
    after_response: bool = False
    tagged: str = ""


@dataclass(eq=False)
class CutAfterBytes(Fault):
    """End the connection after so many bytes of the response to the command: inside a literal, a line, the reply.

    Attributes:
        after_bytes: Bytes of the response still sent, counted before TLS and compression. Beyond its end
            the cut falls into the responses that follow. A function chooses anew each time, such as
            ``exponential_bytes(300_000)``.
        kind: ``close`` ends it in order, ``reset`` aborts it, ``stall`` goes silent and keeps it open.

    The command is done all the same: with 0 only its reply is lost.
    """

    after_bytes: Bytes
    kind: CutKind = "close"

    def choose_bytes(self) -> int:
        """How many bytes it is this time."""
        return self.after_bytes if isinstance(self.after_bytes, int) else self.after_bytes()


@dataclass(eq=False)
class CutInput(Fault):
    """End the connection before the command is done, when so many bytes of its literals have come.

    Attributes:
        after_bytes: Bytes of literals; with 0, or when there are fewer, before the work.
        kind: ``close`` ends it in order, ``reset`` aborts it.
    """

    after_bytes: int = 0
    kind: Literal["close", "reset"] = "close"


@dataclass(eq=False)
class Stall(Fault):
    """Send ``after_bytes`` bytes of the response, then nothing more, and keep the connection open.

    It goes on after ``server.release_stalls()``.
    """

    after_bytes: int = 0


@dataclass(eq=False)
class Bandwidth(Fault):
    """Send from this response on with so many bytes a second (the slow drip of a throttled account)."""

    bytes_per_second: float


@dataclass(eq=False)
class Drip(Fault):
    """Send from this response on ``count`` bytes at a time, each after ``every_seconds`` of the server's sleep."""

    every_seconds: float
    count: int = 1


@dataclass(eq=False)
class Flood(Fault):
    """Send the same bytes over and over before the response, as fast as the client takes them.

    Attributes:
        data: What to send, CRLF included where lines are meant.
        count: How often.
        every_seconds: The server's sleep after each; 0 for none.
    """

    data: bytes = b"* OK Still here\r\n"
    count: int = 1_000_000
    every_seconds: float = 0.0


@dataclass(eq=False)
class Inject(Fault):
    """Put raw bytes, CRLF included, into the stream.

    Attributes:
        data: What to send.
        where: ``before`` all of the response, ``reply`` just before its tagged reply, ``after`` it in the same segment,
            ``messages`` before each FETCH response (of ``uids``, or every one).
        uids: For ``messages``: only before the responses of these.
    """

    data: bytes
    where: Literal["before", "reply", "after", "messages"] = "before"
    uids: Collection[int] | None = None


@dataclass(eq=False)
class InProgress(Fault):
    """Send ``* OK [INPROGRESS ("tag" i n)]`` before the work (RFC 9585).

    Attributes:
        count: How many of them.
        every_seconds: The time after each.
    """

    count: int = 3
    every_seconds: float = 0.0


@dataclass(eq=False)
class SearchCap(Fault):
    """Return at most ``count`` hits of a search, the lowest, and say nothing of it."""

    count: int


@dataclass(eq=False)
class Rewrite(Fault):
    """Send something else instead of a response: the general way to have any broken line.

    Attributes:
        change: Gets each response of the command, whole with its literals and its CRLF, the tagged one too, and
            gives the bytes that go out instead; empty for none.

    Examples:
        `Rewrite(lambda response: response.replace(b"* SEARCH", b"* SEARCH 0"), command="UID SEARCH")`, and
        `Rewrite(lambda response: greeting_421, command="GREETING")`.
    """

    change: Callable[[bytes], bytes]


@dataclass(eq=False)
class Act(Fault):
    """Do something at that moment: change a mailbox behind the client's back, close the port.

    Attributes:
        action: Called with the record of the command.
        where: ``before`` the work, before the tagged ``reply``, or before the FETCH response of each of ``uids``
            (``messages``).
        uids: For ``messages``.
    """

    action: Callable[[CommandRecord], object]
    where: Literal["before", "reply", "messages"] = "before"
    uids: Collection[int] | None = None
