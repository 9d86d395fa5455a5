"""Which machine this is, and how a process of it stands, so that others can tell what became of it.

A number of a process is given again some day, so its birth belongs to it; and containers have numbers of their own, so
their namespace belongs to the machine.

Invariants:

- Nothing is guessed: what cannot be read is not known.
- A birth is counted from the start of the machine where that can be had, for clocks are set.

psutil is imported where there is no /proc, not with this module: `import imapipe` stays quick.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal, TypeAlias

ProcessState: TypeAlias = Literal["runs", "stopped", "dead"]
"""Stopped, it stands still, or waits for a disk without an end; dead, its parent has not asked for it yet."""

_STATES: Final[dict[str, ProcessState]] = {"T": "stopped", "t": "stopped", "D": "stopped", "Z": "dead", "X": "dead"}


@dataclass(frozen=True, slots=True)
class ProcessLook:
    """A process, as it stands.

    Attributes:
        birth: When it began, as the machine counts.
        state: What it does.
    """

    birth: str
    state: ProcessState


@cache
def machine() -> str:
    """Names this machine, its last start and its namespace of processes; "" where that is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        namespace = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return ""
    return f"{boot} {namespace}"


def look(pid: int) -> ProcessLook | None:
    """How a process of this machine stands; None where there is none, or where it cannot be seen."""
    return _by_proc(pid) if sys.platform == "linux" else _by_psutil(pid)


def _by_proc(pid: int) -> ProcessLook | None:
    try:
        # After the name, which may hold anything, in parentheses: fields 3 to 52, of which 22 is the start in ticks
        # (proc(5)). psutil makes seconds since 1970 of it, which move with the clock.
        state, *fields = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
        return ProcessLook(fields[18], _STATES.get(state, "runs"))
    except (OSError, IndexError, ValueError):
        return None


def _by_psutil(pid: int) -> ProcessLook | None:
    import psutil  # noqa: PLC0415 - see the module docstring

    states: dict[str, ProcessState] = {
        psutil.STATUS_STOPPED: "stopped",
        psutil.STATUS_TRACING_STOP: "stopped",
        psutil.STATUS_DISK_SLEEP: "stopped",
        psutil.STATUS_ZOMBIE: "dead",
        psutil.STATUS_DEAD: "dead",
    }
    try:
        process = psutil.Process(pid)
        return ProcessLook(f"{process.create_time():.0f}", states.get(process.status(), "runs"))
    except psutil.Error:
        return None
