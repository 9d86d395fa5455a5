"""For programs whose children are killed: they import everything once, so that a death costs milliseconds.

Such a program reads orders from standard input, a JSON object a line, and makes a child for each. After
`kill_after_seconds` that is killed with SIGKILL. The answer is a line, too: `killed`, or how the child ended by itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any, NoReturn

import imapipe


def obey(run: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    """Read orders until there are no more; `run` is what a child does."""
    # What is imported when it is first needed: here, once, and not in every child.
    for name in imapipe.__all__:
        getattr(imapipe, name)
    for module in ("filelock", "psutil", "tenacity"):
        import_module(module)
    for line in sys.stdin:
        sys.stdout.write(_obey(run, json.loads(line)) + "\n")
        sys.stdout.flush()


def _obey(run: Callable[[Any], Coroutine[Any, Any, None]], order: dict[str, Any]) -> str:
    pid = os.fork()
    if not pid:
        _child(run, order)
    end = time.monotonic() + order["kill_after_seconds"]
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return f"ended {os.waitstatus_to_exitcode(status)}"
        time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return "killed" if os.WIFSIGNALED(status) else f"ended {os.waitstatus_to_exitcode(status)}"


def _child(run: Callable[[Any], Coroutine[Any, Any, None]], order: dict[str, Any]) -> NoReturn:
    status = 1
    try:
        asyncio.run(run(order))
        status = 0
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(status)
