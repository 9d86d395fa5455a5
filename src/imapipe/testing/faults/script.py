"""The faults of a server, and which of them fire for a command."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from ..records import CommandRecord
from .base import Fault
from .commands import Act, CutInput, Inject, RefuseCredentials, RefuseLogin, SearchCap
from .connections import CutConnection, RefuseConnection
from .messages import LieAboutLength, NilBodies, OmitItems, OmitUids, PoisonUids, ReplaceResponses, WrongPartial

CONNECTION_FAULTS = (RefuseConnection, CutConnection)
MESSAGE_FAULTS = (OmitUids, OmitItems, NilBodies, LieAboutLength, ReplaceResponses, PoisonUids, WrongPartial)
LOGIN_COMMANDS = ("LOGIN", "AUTHENTICATE")
GREETING = "GREETING"
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

    def of_input(self, record: CommandRecord) -> CutInput | None:
        """The fault that ends the connection while a command comes in, or None; all of them count it."""
        fired = [
            fault
            for fault in self._faults
            if isinstance(fault, CutInput) and _concerns(fault, record.name) and fault.fires(record)
        ]
        return fired[0] if fired else None

    def of_command(self, record: CommandRecord) -> FiredFaults:
        """Faults that fire for a command; each of them counts it."""
        if not self._faults:
            return _NOTHING
        return FiredFaults(
            fault
            for fault in self._faults
            if not isinstance(fault, CutInput) and _concerns(fault, record.name) and fault.fires(record)
        )


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
            isinstance(fault, MESSAGE_FAULTS) or (isinstance(fault, Inject | Act) and fault.where == "messages")
            for fault in self._faults
        )


_NOTHING = FiredFaults()


def _concerns(fault: Fault, name: str) -> bool:
    if isinstance(fault, CONNECTION_FAULTS):
        return False
    if name == GREETING and fault.command is None:
        return False
    if isinstance(fault, RefuseLogin | RefuseCredentials):
        return name in LOGIN_COMMANDS
    if isinstance(fault, SearchCap):
        return name in SEARCH_COMMANDS
    if isinstance(fault, MESSAGE_FAULTS):
        return name in FETCH_COMMANDS
    return True
