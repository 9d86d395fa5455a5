"""What shall go wrong, and when: scripted, so that a test fails the same way each time.

A fault is a value: what happens, plus to which commands. It fires for a command when all of its conditions
hold; all are keyword arguments:

- ``command``: a name (``"UID FETCH"``) or several; None for every command.
- ``connection``: number of the connection, from 1; None for every one.
- ``nth``: only from the n-th command (from 1) on that meets the other conditions, over all connections.
- ``times``: how often at most. With ``nth`` the default is 1, else there is no limit.
- ``when``: a function of the ``CommandRecord``.

Example::

    faults=[
        Delay(0.2, command="LOGIN"),
        CutAfterBytes(1000, command="UID FETCH", nth=2),
        PoisonUids({17}),
    ]

``server.faults`` may be changed while the server runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from .records import CommandRecord

Condition = Callable[[CommandRecord], bool]
CutKind = Literal["close", "reset", "stall"]
Status = Literal["OK", "NO", "BAD"]


@dataclass(kw_only=True, eq=False)
class Fault:
    """Base of all faults: when one fires, and how often it did.

    Attributes:
        seen: How many commands met the conditions.
        fired: How many of them it fired for.
    """

    command: str | Collection[str] | None = None
    connection: int | None = None
    nth: int | None = None
    times: int | None = None
    when: Condition | None = None
    seen: int = field(default=0, init=False)
    fired: int = field(default=0, init=False)

    def fires(self, record: CommandRecord) -> bool:
        """Whether it fires for this command; asking counts."""
        if self.command is not None:
            names = (self.command,) if isinstance(self.command, str) else self.command
            if record.name not in names:
                return False
        if self.connection is not None and record.connection != self.connection:
            return False
        if self.when is not None and not self.when(record):
            return False
        self.seen += 1
        if self.nth is not None and self.seen < self.nth:
            return False
        limit = self.times if self.times is not None else (1 if self.nth is not None else None)
        if limit is not None and self.fired >= limit:
            return False
        self.fired += 1
        return True


# Faults of a connection as a whole: of the conditions only connection, nth and times have a meaning, and nth
# counts connections.


@dataclass(eq=False)
class RefuseConnection(Fault):
    """Close a connection at once, or with ``* BYE text`` instead of the greeting when there is a text."""

    text: str = ""


@dataclass(eq=False)
class CutConnection(Fault):
    """End a connection after so many bytes of its whole output, greeting included.

    Attributes:
        after_bytes: Bytes still sent, counted before TLS and compression.
        kind: ``close`` ends it in order, ``reset`` aborts it, ``stall`` goes silent and keeps it open.
    """

    after_bytes: int
    kind: CutKind = "close"


# Faults of a command.


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
            the cut falls into the responses that follow.
        kind: ``close`` ends it in order, ``reset`` aborts it, ``stall`` goes silent and keeps it open.
    """

    after_bytes: int
    kind: CutKind = "close"


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


# Faults of single messages in a FETCH.


@dataclass(eq=False)
class OmitUids(Fault):
    """Leave these UIDs out of the FETCH; the reply is OK all the same (seen at Exchange)."""

    uids: Collection[int]


@dataclass(eq=False)
class NilBodies(Fault):
    """Answer NIL for every body section of these UIDs."""

    uids: Collection[int]


@dataclass(eq=False)
class LieAboutLength(Fault):
    """Announce literals of these UIDs as ``by`` bytes longer (or shorter) than they are."""

    uids: Collection[int]
    by: int = 10


@dataclass(eq=False)
class ReplaceResponses(Fault):
    """Send these raw bytes, CRLF included, instead of the FETCH response of a UID.

    ``%(seq)d`` is not expanded: the bytes go out as they are.
    """

    responses: Mapping[int, bytes]


@dataclass(eq=False)
class PoisonUids(Fault):
    """A FETCH that contains one of these UIDs fails.

    Attributes:
        uids: The poisoned ones.
        action: ``NO`` replies with the code and the text; ``cut`` and ``reset`` end the connection.
        text: Text of the NO.
        code: Response code of the NO.
        deliver_before: Whether the messages before the poisoned one are sent first.
    """

    uids: Collection[int]
    action: Literal["NO", "cut", "reset"] = "NO"
    text: str = "UID FETCH Server error"
    code: str = "SERVERBUG"
    deliver_before: bool = False


CONNECTION_FAULTS = (RefuseConnection, CutConnection)
MESSAGE_FAULTS = (OmitUids, NilBodies, LieAboutLength, ReplaceResponses, PoisonUids)
LOGIN_COMMANDS = ("LOGIN", "AUTHENTICATE")
FETCH_COMMANDS = ("FETCH", "UID FETCH")
SEARCH_COMMANDS = ("SEARCH", "UID SEARCH")

FaultType = TypeVar("FaultType", bound=Fault)


class Faults:
    """The faults of a server, in order; those that fire for one command act together."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._faults = list(faults)

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._faults)

    def __len__(self) -> int:
        return len(self._faults)

    def add(self, *faults: Fault) -> None:
        """Add faults; they count from now on."""
        self._faults.extend(faults)

    def remove(self, fault: Fault) -> None:
        """Take a fault out.

        Raises:
            ValueError: It is not there.
        """
        self._faults.remove(fault)

    def clear(self) -> None:
        """Take all faults out."""
        self._faults.clear()

    def of_connection(self, record: CommandRecord) -> list[Fault]:
        """Faults that fire for a new connection."""
        return [fault for fault in self._faults if isinstance(fault, CONNECTION_FAULTS) and fault.fires(record)]

    def of_command(self, record: CommandRecord) -> FiredFaults:
        """Faults that fire for a command; each of them counts it."""
        if not self._faults:
            return _NOTHING
        return FiredFaults(fault for fault in self._faults if _concerns(fault, record.name) and fault.fires(record))


class FiredFaults:
    """The faults that fire for one command."""

    __slots__ = ("_faults",)

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._faults = tuple(faults)

    def __bool__(self) -> bool:
        return bool(self._faults)

    def of(self, kind: type[FaultType]) -> list[FaultType]:
        """Those of a kind."""
        return [fault for fault in self._faults if isinstance(fault, kind)]

    @property
    def touches_messages(self) -> bool:
        """Whether FETCH responses have to be looked at one by one."""
        return any(
            isinstance(fault, MESSAGE_FAULTS) or (isinstance(fault, Inject) and fault.where == "messages")
            for fault in self._faults
        )


_NOTHING = FiredFaults()


def _concerns(fault: Fault, name: str) -> bool:
    if isinstance(fault, CONNECTION_FAULTS):
        return False
    if isinstance(fault, RefuseLogin):
        return name in LOGIN_COMMANDS
    if isinstance(fault, SearchCap):
        return name in SEARCH_COMMANDS
    if isinstance(fault, MESSAGE_FAULTS):
        return name in FETCH_COMMANDS
    return True
