"""What surrounds every command: signals, errors, exit statuses."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Coroutine

from imapipe.cli.errors import Status, explain
from imapipe.cli.logs import LogLevel, hide_logs, show_logs
from imapipe.cli.output import STANDARD_OUTPUT, write_lines, write_note
from imapipe.cli.signals import hear_signals


class _Terminated(Exception):
    """SIGTERM came."""


def execute(
    work: Coroutine[object, object, Status], *, debug: bool, mailbox: str = "", interrupted: str = "interrupted"
) -> int:
    """Run a command; turn whatever ends it into one sentence and a status."""
    if debug:
        show_logs(LogLevel.DEBUG)
    else:
        hide_logs()
    try:
        return asyncio.run(_until_terminated(work))
    except KeyboardInterrupt:
        write_note(interrupted)
        return Status.INTERRUPTED
    except _Terminated:
        write_note(interrupted)
        return Status.TERMINATED
    except BrokenPipeError:
        forget_stdout()
        return Status.FAILED
    except Exception as error:  # noqa: BLE001 - whatever it is, it becomes a sentence and a status.
        if debug:
            # It quotes what the server said, in the causes too.
            write_lines(traceback.format_exc().rstrip("\n"))
        if isinstance(error, OSError) and error.filename == STANDARD_OUTPUT:
            forget_stdout()
        sentence, status = explain(error, mailbox=mailbox)
        write_note(sentence)
        return status


async def _until_terminated(work: Coroutine[object, object, Status]) -> Status:
    """Let SIGTERM do what Ctrl-C does: cancel, so that the checkpoint is saved."""
    task = asyncio.current_task()
    assert task is not None
    came = False

    def terminate() -> None:
        nonlocal came
        came = True
        task.cancel()

    hear_signals(terminate, [signal.SIGTERM])
    try:
        return await work
    except asyncio.CancelledError:
        if came:
            raise _Terminated from None
        raise


def forget_stdout() -> None:
    """Nothing can be written there any more: let the interpreter flush into nothing when it ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
