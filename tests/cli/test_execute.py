"""Whatever ends a command becomes one sentence and a status."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from imapipe.cli.errors import Status
from imapipe.cli.execute import execute
from imapipe.cli.logs import hide_logs
from imapipe.errors import CheckpointLost


async def _ends_by(error: BaseException) -> Status:
    raise error


async def _is_sent(number: signal.Signals) -> Status:
    os.kill(os.getpid(), number)
    await asyncio.Event().wait()
    return Status.COMPLETE


async def _cancels_itself() -> Status:
    raise asyncio.CancelledError


@pytest.mark.parametrize(("number", "status"), [
    (signal.SIGINT, Status.INTERRUPTED), (signal.SIGTERM, Status.TERMINATED),
])  # fmt: skip
def test_a_signal_cancels_and_is_told(
    number: signal.Signals, status: Status, capfd: pytest.CaptureFixture[str]
) -> None:
    assert execute(_is_sent(number), debug=False, interrupted="stopped: nothing is lost") == status
    assert capfd.readouterr().err == "imapipe: stopped: nothing is lost\n"


def test_a_cancellation_that_no_signal_asked_for_is_not_hidden() -> None:
    with pytest.raises(asyncio.CancelledError):
        execute(_cancels_itself(), debug=False)


def test_who_reads_has_gone_and_nothing_more_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    assert execute(_ends_by(BrokenPipeError()), debug=False) == Status.FAILED
    sys.stdout.write("to nobody\n")
    sys.stdout.flush()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("debug", [False, True])
def test_an_error_is_a_sentence_and_with_debug_its_traceback_too(
    debug: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        assert execute(_ends_by(CheckpointLost("somebody has it")), debug=debug, mailbox="x") == Status.FAILED
    finally:
        hide_logs()
    err = capfd.readouterr().err
    assert ("Traceback" in err) == debug
    assert err.splitlines()[-1].startswith("imapipe: ")
