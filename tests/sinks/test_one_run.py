"""A sink has one run at a time, and a call that was cancelled does nothing later on."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from tests.sinks.conftest import Shop, files_below
from tests.sinks.test_trouble import KINDS, make_sink

import imapipe
from imapipe import sinks
from imapipe.testing import Act, Stall


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [*KINDS, "Tee"])
async def test_two_runs_with_one_sink_at_a_time(shop: Shop, tmp_path: Path, kind: str) -> None:
    shop.add("Other", b"Subject: other\r\n\r\n")
    sink = (
        sinks.Tee(sinks.JsonLines(tmp_path / "x"), sinks.Maildir(tmp_path / "y"))
        if kind == "Tee"
        else make_sink(kind, tmp_path / "out")
    )
    # The first one stands still in its middle for as long as the second one takes.
    is_under_way = asyncio.Event()
    shop.server.faults.add(
        Act(lambda _: is_under_way.set(), command="UID FETCH", nth=1), Stall(command="UID FETCH", nth=1)
    )
    first = asyncio.create_task(shop.job().run(sink))
    await is_under_way.wait()
    with pytest.raises(imapipe.SinkError, match="another run has this sink"):
        await shop.job(mailbox="Other").run(sink)
    while not first.done():
        shop.server.release_stalls()
        await asyncio.sleep(0.001)
    assert (await first).complete
    assert (await first).done == 60
    # What the first one had done is there, and the sink is free again.
    assert (await shop.job(mailbox="Other").run(sink)).done == 1
    fresh = make_sink("JsonLines", tmp_path / "fresh") if kind == "Tee" else make_sink(kind, tmp_path / "fresh")
    await shop.job().run(fresh)
    await shop.job(mailbox="Other").run(fresh)
    lines = {"Tee": tmp_path / "x", "JsonLines": tmp_path / "out", "Mbox": tmp_path / "out"}
    if kind in lines:
        assert sorted(lines[kind].read_bytes().split(b"\n")) == sorted((tmp_path / "fresh").read_bytes().split(b"\n"))
    assert not [path for path in files_below(tmp_path) if path.name.endswith(".lock")]


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", KINDS)
async def test_a_sink_whose_job_did_not_fit_is_as_new(shop: Shop, tmp_path: Path, kind: str) -> None:
    sink = make_sink(kind, tmp_path / "out")
    if kind == "JsonLines":
        sink = sinks.JsonLines(tmp_path / "out", columns=["subject"])
    # Parquet takes whatever is fetched.
    with contextlib.nullcontext() if kind == "Parquet" else pytest.raises(ValueError, match="fetch"):
        await shop.job("uid").run(sink)
    for _ in range(2):
        assert (await shop.job().run(sink)).complete
    assert not [path for path in files_below(tmp_path) if path.name.endswith(".lock")]


@pytest.mark.asyncio
async def test_a_call_that_was_cancelled_does_nothing_after_the_next_one(shop: Shop, tmp_path: Path) -> None:
    sink = sinks.Maildir(tmp_path / "mail")
    calls: list[str] = []

    def slow() -> None:
        calls.append("slow")

    with sink._busy:
        call = asyncio.create_task(sink._in_thread(slow))
        await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        following = asyncio.create_task(sink._in_thread(calls.append, "next"))
        await asyncio.sleep(0.05)
    await following
    await sink._in_thread(calls.append, "last")
    assert calls == ["next", "last"]
