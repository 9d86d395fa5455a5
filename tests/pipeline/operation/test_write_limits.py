"""What providers say when too much is written: waited for, slowed down for, or told; nothing is lost or done twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tests.pipeline.world import OpenWorld, World

import imapipe
from imapipe import search as q
from imapipe.connection import NewMessage
from imapipe.pipeline.append import append as appending
from imapipe.pipeline.operation import recovery
from imapipe.testing import Bye, Fault, Inject, Mailbox, Reply, Rewrite
from imapipe.testing.messages import make_messages

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("impatient")]

COUNT = 12
RAW = list(make_messages(COUNT))
# What is done, and the command that does it.
WAYS = {
    "flag": "UID STORE",
    "move": "UID MOVE",
    "copy": "UID COPY",
    "append": "APPEND",
    "move by copy": "UID COPY",
    "remove": "UID EXPUNGE",
    "after": "UID MOVE",
}
# Before a command was worked on, or behind it: a refusal does not say which.
CASES = [
    *(("exchange", way, way in ("move", "copy", "append", "after")) for way in WAYS),
    *(("gmail", way, False) for way in ("flag", "move", "copy", "append")),
    *(("exchange hangs up", way, True) for way in ("flag", "copy", "append")),
    *(("yahoo", way, True) for way in ("move", "append")),
    ("gmail says OK", "move", True),
]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of these tests does nothing any more when a connection has ended."""
    monkeypatch.setattr(recovery, "LOOK_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(appending, "MAX_IN_GROUP", 6)


def _faults(provider: str, way: str, times: int, *, done: bool) -> list[Fault]:
    """The provider's words to the command of a way; the second time it comes, where it comes twice."""
    name, nth = WAYS[way], 1 if way == "after" else 2
    throttled = "Request is throttled. Suggested Backoff Time: 40 milliseconds"
    match provider:
        case "gmail":
            text = "Account exceeded command or bandwidth limits."
            return [Reply("NO", text, "OVERQUOTA", after_response=done, command=name, nth=nth, times=times)]
        case "gmail says OK":
            return [Rewrite(lambda line: line.replace(b"completed", b"Success [THROTTLED]"), command=name, nth=nth)]
        case "yahoo":
            last = f"NO [LIMIT] {name} Rate limit hit."
            return [Bye("Rate limit hit.", after_response=done, tagged=last, command=name, nth=nth)]
        case _:
            faults: list[Fault] = [
                Reply("BAD", throttled, after_response=done, command=name, nth=nth, times=times),
                Inject(b"* BYE Connection closed. 14\r\n", "after", command=name, nth=nth, times=times),
            ]
            return faults[: 1 + (provider == "exchange hangs up")]


async def _open(open_world: OpenWorld, way: str) -> World:
    boxes = {"INBOX": Mailbox([] if way == "append" else RAW), "Other": Mailbox()}
    return await open_world(boxes, remove_extensions=["MOVE"] if way == "move by copy" else [])


async def _run(
    world: World, way: str, layers: list[imapipe.Middleware], journal: Path
) -> imapipe.RunReport | imapipe.AppendReport:
    if way == "append":
        return await world.pool.mailbox("INBOX").append([NewMessage(raw) for raw in RAW], use=layers)
    job = world.pool.mailbox("INBOX").search(q.ALL).batch(6)
    if way == "after":

        async def handle(message: imapipe.Message) -> None:
            """Nothing is to be done."""

        checkpoint = imapipe.Checkpoint(journal, save_every_messages=10)
        return await job.use(checkpoint, *layers).run(handle, on_done=imapipe.move_to("Other"))
    job = job.use(*layers)
    change = {
        "flag": job.add_flags("$Work"),
        "move": job.move_to("Other"),
        "copy": job.copy_to("Other"),
        "move by copy": job.move_to("Other"),
        "remove": job.delete(permanently=True),
    }[way]
    return await change.run(journal=journal)


def _check(world: World, way: str) -> None:
    """Every message is where it should be, once."""
    here, there = world.server.mailboxes["INBOX"], world.server.mailboxes["Other"]
    contents = [Counter(bytes(message.content.raw) for message in box) for box in (here, there)]
    everything, nothing = Counter(RAW), Counter[bytes]()
    match way:
        case "flag":
            assert all(here.flags_of(message.uid) == {"$Work"} for message in here)
            assert contents == [everything, nothing]
        case "append":
            assert contents == [everything, nothing]
        case "copy":
            assert contents == [everything, everything]
        case "remove":
            assert contents == [nothing, nothing]
        case _:
            assert contents == [nothing, everything]


@pytest.mark.parametrize(("provider", "way", "done"), CASES)
async def test_a_throttle_is_waited_for(
    open_world: OpenWorld, tmp_path: Path, provider: str, way: str, done: bool
) -> None:
    world = await _open(open_world, way)
    world.server.faults.add(*_faults(provider, way, 1, done=done))
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    limit = imapipe.AdaptiveRateLimit(1000.0, minimum_per_second=100.0)
    report = await _run(world, way, [imapipe.Retry(sleep=sleep), limit], tmp_path / "journal")
    assert report.complete
    _check(world, way)
    assert report.throttle_waits >= 1
    if provider == "gmail says OK":
        assert waited == []
    elif provider != "yahoo":
        assert waited[0] >= (5.0 if provider == "gmail" else 0.04)
    assert limit.rate_per_second < 1000.0


@pytest.mark.parametrize("way", ["flag", "move", "copy", "append", "after"])
@pytest.mark.parametrize("provider", ["exchange", "gmail"])
async def test_a_throttle_without_an_end_is_told_and_the_next_run_goes_on(
    open_world: OpenWorld, tmp_path: Path, provider: str, way: str
) -> None:
    world = await _open(open_world, way)
    world.server.faults.add(*_faults(provider, way, 10**6, done=False))

    async def sleep(seconds: float) -> None:
        """Time does not pass here."""

    layers: list[imapipe.Middleware] = [imapipe.Retry(3, sleep=sleep)]
    report = await _run(world, way, layers, tmp_path / "journal")
    assert not report.complete
    if isinstance(report, imapipe.AppendReport):
        failures = [result.failure for result in report.results if result.failure is not None]
    else:
        failures = [*(report.change_failures if way == "after" else report.failures).values()]
    reasons = {failure.reason for failure in failures} - {"not-tried"}
    assert reasons == {"Throttled"}
    if provider == "exchange":
        # It says when to come back.
        assert any("40 milliseconds" in failure.detail for failure in failures)
    world.server.faults.clear()
    if isinstance(report, imapipe.AppendReport):
        left = [raw for raw, result in zip(RAW, report.results, strict=True) if result.failure is not None]
        assert (await world.pool.mailbox("INBOX").append(map(NewMessage, left))).complete
    else:
        again = await _run(world, way, layers, tmp_path / "journal")
        assert again.complete
    _check(world, way)
