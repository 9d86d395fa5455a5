"""How much there was to do in a part when its run began: so that it is known later whether that is done.

A worker may die when all is done, and before it has said so. Then the checkpoint tells how many messages are done, and
this how many there were. It is written down before the first message, and only by tries that follow the death of a
worker: the others need not pay for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import astuple, dataclass

from imapipe.contrib.cluster.report import MailboxOutcome
from imapipe.middleware.base import Layer, Middleware, Run
from imapipe.middleware.checkpoint_layer import CheckpointLayer
from imapipe.models.json_value import JSON
from imapipe.store.checkpoint_state import CheckpointState


@dataclass(frozen=True, slots=True)
class Begun:
    """A run of a part, when it began.

    Attributes:
        series: The history of the checkpoint.
        runs: The number of the run in it.
        planned: Messages that were found.
        left: Those of them that were to be done.
        done: How many had been done until then, as the checkpoint counts them.
        vanished: How many had been found gone.
    """

    series: str
    runs: int
    planned: int
    left: int
    done: int
    vanished: int

    def to_json(self) -> list[JSON]:
        """As it is kept."""
        return [*astuple(self)]

    def outcome(self, state: CheckpointState, *, done_before: int) -> MailboxOutcome | None:
        """What the run would have told, had it come to its end; None where it had not done all, or another one began.

        Args:
            state: The checkpoint of the part, as it is now.
            done_before: How many messages it counted when the job was planned.
        """
        counters = state.counters
        done, vanished = counters.done - self.done, counters.vanished - self.vanished
        # What a checkpoint keeps besides is something that the job owes to its messages.
        is_same = (state.series, counters.runs) == (self.series, self.runs)
        if not is_same or done + vanished < self.left or state.extra:
            return None
        report: Mapping[str, JSON] = {
            "planned": self.planned,
            "done": done,
            "vanished": vanished,
            "skipped": self.planned - self.left,
            "complete": True,
            "done_all_runs": counters.done,
        }
        return MailboxOutcome.of_report(report, done_before=done_before)


class NotesBegun(Middleware):
    """Tells how much there is to do, before anything is done; to be used inside of the Checkpoint.

    Args:
        note: Writes it down.
    """

    def __init__(self, note: Callable[[Begun], Awaitable[None]]) -> None:
        self._note = note

    async def start(self, run: Run) -> Layer:
        """Tell it, where the mailbox has shown all that it holds. Raises what writing it down raises."""
        kept = next((layer for layer in run.layers if isinstance(layer, CheckpointLayer)), None)
        if kept is not None and not run.unaccounted:
            state, plan = kept.state, run.plan
            before = state.counters
            left = len(plan.remaining)
            await self._note(Begun(state.series, before.runs, len(plan.planned), left, before.done, before.vanished))
        return Layer()
