"""What can be told of a process by its number, from /proc and by psutil."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imapipe.runtime import process
from imapipe.runtime.clock import uptime
from imapipe.runtime.process import ProcessLook, ProcessState, look, machine

WAYS = [
    pytest.param(process._by_proc, marks=pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")),
    process._by_psutil,
]


@pytest.fixture
def child() -> Iterator[int]:
    with subprocess.Popen(["sleep", "60"]) as started:
        yield started.pid
        started.kill()


@pytest.mark.parametrize("see", WAYS)
def test_a_process_runs_is_stopped_goes_on_and_is_dead(see: Callable[[int], ProcessLook | None], child: int) -> None:
    first = see(child)
    assert first is not None
    states: list[tuple[int, ProcessState]] = [
        (0, "runs"),
        (signal.SIGSTOP, "stopped"),
        (signal.SIGCONT, "runs"),
        (signal.SIGKILL, "dead"),
    ]
    for number, state in states:
        os.kill(child, number)
        # The signal is on its way.
        while (seen := see(child)) != ProcessLook(first.birth, state):
            assert seen is not None
            assert seen.birth == first.birth
            time.sleep(0.001)
    os.waitpid(child, 0)
    assert see(child) is None


def test_processes_of_one_number_differ_by_their_birth(child: int) -> None:
    # Our parent may have begun in the same hundredth of a second.
    ours, childs = look(os.getpid()), look(child)
    assert ours is not None
    assert childs is not None
    assert ours.birth != childs.birth


def test_a_machine_is_known_by_its_start_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine() == machine()
    assert bool(machine()) == (sys.platform == "linux")
    machine.cache_clear()
    monkeypatch.setattr(Path, "read_text", lambda *_: Path("/nowhere").read_bytes())
    assert not machine()
    machine.cache_clear()


def test_uptime_goes_on_where_the_machine_does() -> None:
    before = time.monotonic()
    assert uptime() <= uptime()
    assert uptime() >= before or sys.platform != "linux"
