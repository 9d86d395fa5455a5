"""`imapipe demo` proves what it says, and would notice if it were not so."""

from __future__ import annotations

import asyncio
import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imapipe.cli import demo_job
from imapipe.cli.account import PASSWORD_VARIABLE
from imapipe.cli.demo import Child, compare
from imapipe.cli.demo_job import ALLOWED_REPEATS, LOG_LINE, LOG_LINE_BYTES, Order
from imapipe.testing import Server

if TYPE_CHECKING:
    from tests.cli.conftest import Call, Serve

MAILBOX = {uid: f"{uid:064x}" for uid in range(1, 1001)}


def pairs(first: int, last: int) -> list[tuple[int, str]]:
    return [(uid, MAILBOX[uid]) for uid in range(first, last + 1)]


def resumed(first: int) -> Child:
    """The second process as it should be, having handled all from `first` on."""
    handled = pairs(first, 1000)
    report: dict[str, object] = {
        "complete": True,
        "planned": 1000,
        "done": len(handled),
        "skipped": 1000 - len(handled),
        "vanished": 0,
        "failed": 0,
        "done_all_runs": 1000,
    }
    return Child(0, handled, report, "")


KILLED = Child(-signal.SIGKILL, pairs(1, 500), {}, "")


def test_a_kill_that_loses_nothing_is_proven() -> None:
    proof = compare(MAILBOX, KILLED, resumed(451), marked=0)
    assert proof.proven
    assert (proof.handled_before, proof.handled_after, proof.repeated, proof.lost) == (500, 550, 50, 0)


@pytest.mark.parametrize(
    ("first", "second", "marked", "words"),
    [
        (KILLED, resumed(502), 0, "lost: 1"),
        (KILLED, resumed(500 - ALLOWED_REPEATS), 0, f"handled twice: {ALLOWED_REPEATS + 1}"),
        (replace(KILLED, status=0), resumed(501), 0, "killed in the middle"),
        (replace(KILLED, handled=[]), resumed(1), 0, "killed in the middle: 0 of"),
        (replace(KILLED, handled=pairs(1, 1000)), replace(resumed(901), handled=[]), 0, "resumed"),
        (replace(KILLED, handled=[*pairs(1, 499), (500, "0" * 64)]), resumed(501), 0, "differ from what the server"),
        (replace(KILLED, handled=[*pairs(1, 500), (2000, "0" * 64)]), resumed(501), 0, "never asked for: 1"),
        (KILLED, resumed(501), 1, "marked as read"),
        (KILLED, replace(resumed(501), report={}), 0, "the report says"),
        (KILLED, replace(resumed(501), report={**resumed(501).report, "skipped": 499}), 0, "the report says"),
    ],
)
def test_what_goes_wrong_is_not_proven(first: Child, second: Child, marked: int, words: str) -> None:
    proof = compare(MAILBOX, first, second, marked=marked)
    assert not proof.proven
    assert any(words in text for text, holds in proof.checks if not holds)


def test_as_many_repeats_as_allowed_are_proven() -> None:
    assert compare(MAILBOX, KILLED, resumed(501 - ALLOWED_REPEATS), marked=0).proven


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0, 2500])
def test_the_demo_is_proven(call: Call, rate: int) -> None:
    outcome = call("demo", "--messages", 1500, "--rate", rate, "--json")
    assert outcome.status == 0
    document = outcome.document
    assert document["proven"] is True
    assert document["killed"] is True
    assert document["messages"] == 1500
    assert document["lost"] == document["unknown"] == document["altered"] == document["marked"] == 0
    assert 500 <= document["handled_before"] < 1500
    assert document["handled_before"] + document["handled_after"] - document["repeated"] == 1500
    assert document["report"]["complete"] is True
    assert not outcome.err


@pytest.mark.slow
def test_people_are_told_the_whole_story(call: Call) -> None:
    outcome = call("demo", "--messages", 1000, "--rate", 5000)
    assert outcome.status == 0
    assert "Killed (SIGKILL) after " in outcome.out
    assert "Proven: nothing was lost." in outcome.out
    assert outcome.out.count("\n  yes  ") == 7
    assert not outcome.err


def test_a_process_that_fails_by_itself_proves_nothing(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no module named cheese' >&2\nexit 7\n")
    broken.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(broken))
    outcome = call("demo", "--messages", 1000, "--json")
    assert outcome.status == 1
    assert not outcome.out
    assert outcome.sentence == "the 1st process ended with status 7, which nobody asked for: no module named cheese"


def test_log_lines_have_one_length() -> None:
    for uid in (1, 2**32 - 1):
        assert len(LOG_LINE % (uid, "f" * 64)) == LOG_LINE_BYTES


def test_an_order_survives_the_way_to_the_process() -> None:
    order = Order("imap://ann@127.0.0.1:1", "/tmp/ü/state.json", "log", 12.5)
    assert Order.from_json(order.to_json()) == order


def test_the_job_of_a_process_logs_what_it_handled_and_tells_how_far_it_is(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    server = serve({"INBOX": 30})
    monkeypatch.setenv(PASSWORD_VARIABLE, server.password)
    order = Order(server.url, str(tmp_path / "state.json"), str(tmp_path / "log"), rate=100_000.0)
    monkeypatch.setattr("sys.argv", ["demo_job", order.to_json()])
    demo_job.main()
    *told, last = map(json.loads, capfd.readouterr().out.splitlines())
    assert all(set(each) == {"progress"} for each in told)
    assert (last["report"]["done"], last["report"]["complete"]) == (30, True)
    assert "INBOX" in last["table"]
    log = (tmp_path / "log").read_text()
    assert len(log) == 30 * LOG_LINE_BYTES
    assert sorted(int(line.split()[0]) for line in log.splitlines()) == list(range(1, 31))
    # The second process has nothing left to do.
    demo_job.main()
    again = json.loads(capfd.readouterr().out.splitlines()[-1])["report"]
    assert (again["done"], again["skipped"]) == (0, 30)
    assert (tmp_path / "log").read_text() == log


@pytest.mark.asyncio
async def test_a_job_that_is_to_be_killed_holds_and_is_not_over_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    async with Server({"INBOX": 30}) as server:
        monkeypatch.setenv(PASSWORD_VARIABLE, server.password)
        order = Order(server.url, str(tmp_path / "state.json"), str(log), rate=0, hold_at=12)
        job = asyncio.create_task(demo_job.work(order))
        async with asyncio.timeout(100):
            while not log.exists() or log.stat().st_size < 12 * LOG_LINE_BYTES:
                assert not job.done()
                await asyncio.sleep(0.001)
        # Whatever could go on has its turns.
        for _ in range(50):
            await asyncio.sleep(0)
        assert not job.done()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
    assert log.stat().st_size == 12 * LOG_LINE_BYTES


@pytest.mark.slow
def test_a_kill_that_comes_late_finds_a_job_that_is_not_over(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is busy the job would be over before anybody looks."""
    monkeypatch.setattr("imapipe.cli.demo._LOOK_EVERY_SECONDS", 2.5)
    document = call("demo", "--messages", 1000, "--rate", 0, "--json").document
    assert document["proven"] is True
    assert document["handled_before"] == 800
