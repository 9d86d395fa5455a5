"""What all lanes of a run have to do: a value, made by the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from imapipe.middleware.base import Layer
from imapipe.pipeline.access import MailboxAccess
from imapipe.pipeline.dispatch import Dispatch
from imapipe.pipeline.operation.base import Operation, Workbench
from imapipe.runtime.event_bus import EventBus


class LaneTask(NamedTuple):
    """What all lanes of a run have to do.

    Attributes:
        dispatch: Who hands out batches.
        access: The way to connections with the mailbox open.
        operation: What is done with a batch.
        bench: What the works of the run share.
        layers: The middleware of the run, outermost first.
        events: Where reconnects are told.
        depth: Commands in flight on a connection; None follows the round trip.
        by_batch: Messages are handed over in whole batches.
    """

    dispatch: Dispatch
    access: MailboxAccess
    operation: Operation
    bench: Workbench
    layers: Sequence[Layer]
    events: EventBus
    depth: int | None = None
    by_batch: bool = False
