from __future__ import annotations

import asyncio
import logging
import mmap
import subprocess
import sys
from collections.abc import Callable

import pytest
from tests.middleware.fakes import block, run_in_fake_time

from imapipe.runtime.resources import Reading, ResourceUsage, Sampler, process_probe


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.001)


class ScriptedProbe:
    """Answers with given readings, the last one again and again, and tells when it is asked."""

    def __init__(self, *readings: Reading) -> None:
        self._readings = list(readings)
        self.asked = 0

    def __call__(self) -> Reading:
        self.asked += 1
        return self._readings.pop(0) if len(self._readings) > 1 else self._readings[0]


@pytest.mark.asyncio
async def test_peak_difference_mean_and_highest() -> None:
    probe = ScriptedProbe(Reading(100, 7.0, 99.0, 40.0), Reading(900, 8.0, 10.0, 60.0), Reading(300, 9.5, 30.0, 50.0))
    sampler = Sampler(0.01, probe=probe)
    sampler.start()
    await until(lambda: probe.asked >= 2)
    await sampler.stop()
    usage = sampler.usage()
    assert usage.peak_rss_bytes == 900
    assert usage.cpu_seconds == 2.5
    # The first load has nothing before it and does not count.
    assert 10.0 <= usage.system_cpu_percent <= 30.0
    assert usage.system_memory_percent == 60.0
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_a_blocked_loop_is_seen_as_lag() -> None:
    async def run() -> ResourceUsage:
        sampler = Sampler(10.0, probe=ScriptedProbe(Reading(1, 1.0, 1.0, 1.0)))
        sampler.start()
        await asyncio.sleep(0)
        block(30.0)
        await asyncio.sleep(0)
        await asyncio.sleep(5.0)
        await sampler.stop()
        return sampler.usage()

    # Ten times as often as the rest it looks how late it is: it was due after one second, and came after thirty.
    assert run_in_fake_time(run()).loop_lag_seconds.maximum == pytest.approx(29.0, rel=0.01)


@pytest.mark.asyncio
async def test_the_last_sample_is_taken_at_the_end_and_a_new_start_forgets() -> None:
    probe = ScriptedProbe(Reading(100, 1.0, 0.0, 10.0), Reading(500, 3.0, 0.0, 10.0), Reading(50, 4.0, 0.0, 5.0))
    sampler = Sampler(3_600, probe=probe)
    sampler.start()
    await sampler.stop()
    assert (sampler.usage().peak_rss_bytes, sampler.usage().cpu_seconds) == (500, 2.0)
    sampler.start()
    await sampler.stop()
    assert sampler.usage() == ResourceUsage(50, 0.0, system_memory_percent=5.0)


@pytest.mark.asyncio
async def test_a_machine_that_does_not_tell_costs_the_numbers_only(caplog: pytest.LogCaptureFixture) -> None:
    def refuse() -> Reading:
        raise PermissionError("no /proc here")

    sampler = Sampler(0.01, probe=refuse)
    with caplog.at_level(logging.WARNING):
        sampler.start()
        await until(lambda: sampler.usage().loop_lag_seconds.count >= 25)
        await sampler.stop()
    assert sampler.usage().peak_rss_bytes == 0
    assert len(caplog.records) == 1


def test_the_real_probe_sees_this_process() -> None:
    look = process_probe()
    first = look()
    # Pages of their own: an allocator may serve a bytearray from memory that the process holds already.
    with mmap.mmap(-1, 30_000_000) as ballast:
        for page in range(0, len(ballast), mmap.PAGESIZE):
            ballast[page] = 1
        second = look()
    assert second.rss_bytes - first.rss_bytes > 20_000_000
    assert second.cpu_seconds >= first.cpu_seconds > 0.0
    for reading in (first, second):
        assert 0.0 <= reading.system_cpu_percent <= 100.0
        assert 0.0 < reading.system_memory_percent <= 100.0


def test_importing_the_module_does_not_import_psutil() -> None:
    code = "import sys, imapipe.runtime.resources; print('psutil' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
