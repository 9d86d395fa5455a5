"""Which process this is, so that others on its machine can tell whether it was stopped."""

from __future__ import annotations

import os
import platform
import uuid
from dataclasses import dataclass

from imapipe.runtime.process import look, machine


@dataclass(frozen=True, slots=True)
class Process:
    """A process.

    Attributes:
        host: The machine since it was started, and the namespace of its processes.
        number: Its number there.
        birth: When it began, as the machine counts it; "" where that is not known.
    """

    host: str
    number: int
    birth: str

    @classmethod
    def this(cls) -> Process:
        """The process that asks."""
        seen = look(os.getpid())
        return cls(_host(), os.getpid(), "" if seen is None else seen.birth)

    @property
    def is_stopped(self) -> bool:
        """Whether it is there and stands still; of a process of another machine nothing is known, so it does not."""
        if not self.birth or self.host != _host():
            return False
        seen = look(self.number)
        return seen is not None and seen.birth == self.birth and seen.state == "stopped"


def _host() -> str:
    return machine() or f"{platform.node()}/{uuid.getnode():x}"
