"""Who holds a key: what is told to people, and what proves that a holder is no more.

Invariant: a holder counts as dead only where that is certain: it was a process of this machine since its last start,
in our namespace of processes, and there is no process of its number that began when it did. Of another machine
nothing is known.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass

import orjson

from imapipe.runtime.process import look, machine


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds keys.

    Attributes:
        host: The name of its machine.
        pid: Its number there.
        machine: Names that machine since it was started, and its namespace of processes; "" where that is not known.
        birth: When it began, as the machine counts; "" where that is not known.
    """

    host: str
    pid: int
    machine: str
    birth: str

    @classmethod
    def ours(cls) -> Holder:
        """This process."""
        seen = look(os.getpid())
        return cls(socket.gethostname(), os.getpid(), machine(), "" if seen is None else seen.birth)

    @classmethod
    def from_json(cls, text: str) -> Holder | None:
        """Read what `to_json` wrote; None where it is something else."""
        with suppress(ValueError, TypeError):
            return cls(**orjson.loads(text))
        return None

    def to_json(self) -> str:
        """Write it down."""
        return orjson.dumps(asdict(self)).decode()

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def is_dead(held_by: str) -> bool:
    """Whether the holder that is written down so is certainly no more."""
    holder = Holder.from_json(held_by)
    if holder is None or not holder.machine or holder.machine != machine():
        return False
    try:
        # Not by /proc alone, which may hide the processes of other users.
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        # It is another user's.
        pass
    seen = look(holder.pid)
    if seen is None or not holder.birth:
        return False
    return seen.state == "dead" or seen.birth != holder.birth
