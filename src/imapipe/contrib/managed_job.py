"""A job as its manager has it: it begins, changes, ends, and is kept between two runs of the service.

Invariants:

- A job ends once: `end` says how, and nothing changes afterwards.
- What is kept of its result is bounded: see `job.shortened`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import cast, get_args

from imapipe.contrib.job import ENDED, EndData, Job, JobState, Report, StateData, error_from, moment, shortened, told
from imapipe.middleware.base import Middleware
from imapipe.middleware.progress import ProgressSnapshot
from imapipe.models.json_value import JSON


class ManagedJob(Job):
    """A job, and what is done with it; its arguments are those of `Job`."""

    @property
    def saving(self) -> asyncio.Lock:
        """Held by whoever writes down how it stands."""
        return self._saving

    @property
    def layers(self) -> Sequence[Middleware]:
        """What its runs are to have inside, so that it is heard how far they are."""
        return self._watch.layers

    @property
    def progress(self) -> ProgressSnapshot | None:
        """How far it is; None before its search has ended."""
        return self._watch.progress

    def begin(self) -> None:
        """It has its turn."""
        self._attempt += 1
        self._started_at = datetime.now(UTC)
        self.change("running")
        self._watch.start()

    def change(self, state: JobState) -> None:
        """It stands otherwise now, and has not ended."""
        self._state = state
        self._ring.append("state", StateData(state, self._attempt).to_dict())

    async def end(self, state: JobState, *, error: BaseException | None = None, report: Report | None = None) -> None:
        """It is over; the last events tell how."""
        await self._watch.stop()
        self._state = state
        self._ended_at = datetime.now(UTC)
        if error is not None:
            self._error = told(error)
        if report is not None:
            self._report = cast("dict[str, JSON]", shortened(report.to_dict()))
        self._tell_end()

    def give_up(self) -> None:
        """It was interrupted, and is not to be gone on with."""
        self._state = "cancelled"

    def kept(self) -> dict[str, JSON]:
        """What is kept of it between two runs of the service."""
        status = self.status
        return {**status.to_dict(), "progress": None, "report": self._report}

    def recall(self, kept: Mapping[str, JSON]) -> None:
        """Be what was kept; one that had not ended is "interrupted"."""
        attempt = kept.get("attempt")
        self._attempt = attempt if isinstance(attempt, int) else 0
        self._started_at, self._ended_at = moment(kept.get("started_at")), moment(kept.get("ended_at"))
        state = kept.get("state")
        # One that somebody cancelled, and that did not come to its end.
        was = "cancelled" if state == "cancelling" else state
        self._state = cast("JobState", was) if was in ENDED and was in get_args(JobState) else "interrupted"
        report = kept.get("report")
        self._report = report if isinstance(report, dict) else None
        self._error = error_from(kept.get("error"))
        if self._state != "interrupted":
            self._tell_end()

    def _tell_end(self) -> None:
        self._ring.append("end", EndData(self._state, self._error, self._report).to_dict())
        self._ring.close()
        self._over.set()
