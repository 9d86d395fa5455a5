"""All lanes of a run, side by side, until the plan is empty or the run is to end."""

from __future__ import annotations

import asyncio

from imapipe.net.connection import Connection
from imapipe.pipeline.delivery.tasks import first_cause
from imapipe.pipeline.lane import Lane
from imapipe.pipeline.lane_task import LaneTask


async def work_in_lanes(task: LaneTask, count: int, connection: Connection) -> None:
    """Do what is planned; raises what ends the run. Cancelled, every lane gives back its lease.

    Args:
        task: What they have to do.
        count: How many there are to be, 1 or more.
        connection: The lease of the first.
    """
    first = Lane(task, 0, connection)
    lanes = [first, *(Lane(task, number) for number in range(1, count))]
    for lane in lanes:
        task.dispatch.join(lane)
    error: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for lane in lanes:
                group.create_task(lane.work())
    except BaseExceptionGroup as errors:
        error = first_cause(errors)
    finally:
        first.give_back()  # It does so itself, unless it was cancelled before its first step.
    # The first cause counts, whatever fell over it; raised outside of the handling of the group it keeps its own.
    error = task.dispatch.failure or error
    if error is not None:
        raise error
