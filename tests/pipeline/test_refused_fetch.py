"""A FETCH that is refused is refused for one of its messages until that is disproved."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.pipeline.world import OpenWorld, check_sums

import imapipe
from imapipe.testing import CommandRecord, Reply

pytestmark = pytest.mark.asyncio


def asks_for(*uids: int) -> Callable[[CommandRecord], bool]:
    def asked(record: CommandRecord) -> bool:
        found = imapipe.UidSet.parse(record.message_set)
        return any(uid in found for uid in uids)

    return asked


@pytest.mark.parametrize("status", ["NO", "BAD"])
@pytest.mark.parametrize("uids", [(1,), (13,), (25,), (1, 2)])
async def test_one_message_that_cannot_be_fetched_costs_that_one(
    open_world: OpenWorld, status: str, uids: tuple[int, ...]
) -> None:
    """Defect: BAD to the first FETCH of a run ended in 25 failed messages."""
    fault = Reply(status, "cannot do that", command="UID FETCH", when=asks_for(*uids))  # type: ignore[arg-type]
    world = await open_world(50, faults=[fault])
    job = world.job("envelope").batch(imapipe.FixedBatch(25)).use(imapipe.Retry(wait_initial_seconds=0.0))
    report = await job.run(world.handle, connections=1)
    check_sums(report)
    assert tuple(report.failed_uids) == uids
    assert sorted(world.handled) == [uid for uid in range(1, 51) if uid not in uids]


async def test_a_kind_of_fetch_that_is_not_understood_is_not_asked_for_message_by_message(
    open_world: OpenWorld,
) -> None:
    world = await open_world(50, faults=[Reply("BAD", "no such item", command="UID FETCH")])
    job = world.job("envelope").batch(imapipe.FixedBatch(10)).use(imapipe.Retry(wait_initial_seconds=0.0))
    report = await job.run(world.handle)
    check_sums(report)
    assert report.failed == 50
    assert len(world.asked) == 5 + 3
