"""Signals to end are heard, and passed on."""

from __future__ import annotations

import asyncio
import os
import signal
from types import FrameType

import pytest

from imapipe.contrib.exit_signals import told_of_exit


@pytest.mark.asyncio
async def test_a_signal_is_told_and_goes_its_way() -> None:
    heard: list[object] = []
    told = asyncio.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        heard.append(number)

    before = signal.signal(signal.SIGTERM, handle)
    try:
        with told_of_exit(told.set):
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(60):
                await told.wait()
        assert heard == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is handle
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.asyncio
async def test_what_kills_still_kills_and_what_somebody_else_sets_stays() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with told_of_exit(lambda: None):
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        signal.signal(signal.SIGTERM, _handle)
        with told_of_exit(lambda: None):
            signal.signal(signal.SIGTERM, _other)
        assert signal.getsignal(signal.SIGTERM) is _other
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.asyncio
async def test_in_another_thread_nothing_is_touched() -> None:
    async def look() -> object:
        with told_of_exit(lambda: None):
            return signal.getsignal(signal.SIGINT)

    assert await asyncio.to_thread(asyncio.run, look()) is signal.getsignal(signal.SIGINT)


def _handle(number: int, frame: FrameType | None) -> None:
    """Take a signal."""


def _other(number: int, frame: FrameType | None) -> None:
    """Take it otherwise."""
