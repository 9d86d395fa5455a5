"""The books of a run: what is counted beside the outcomes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime

from imapipe.models.batch import BatchResult
from imapipe.models.distribution import Distribution
from imapipe.models.event import Attempt, Event, Reconnect, Throttle, Wait
from imapipe.net.command import FetchCommand
from imapipe.runtime.histogram import Histogram
from imapipe.wire.response.note import Note, add_counts


class Books:
    """Counts what a run costs.

    Attributes:
        started_at: When the run began.
        unaccounted: Messages that the search did not find although the mailbox holds them.
        wire_bytes: Bytes on the wire, of the leases that have ended.
        may_be_short: The search was answered with something that is no UID.
        missing_items: Messages that came without an item, by the item.
        notes: What of answers and of what was read of messages was passed over, and how often; each FETCH adds to it.
        retries: Batches that were asked for again.
        reconnects: Connections that had to be replaced.
        waits: How often somebody held a batch back, or the server asked for it.
    """

    __slots__ = (
        "_batch_seconds",
        "_batch_sizes",
        "_began",
        "_fetching",
        "_received",
        "may_be_short",
        "missing_items",
        "notes",
        "reconnects",
        "retries",
        "started_at",
        "unaccounted",
        "waits",
        "wire_bytes",
    )

    def __init__(self) -> None:
        self.open()
        self._fetching: set[FetchCommand] = set()
        self._received = 0
        self._batch_seconds = Histogram()
        self._batch_sizes = Histogram()
        self.retries = 0
        self.reconnects = 0
        self.waits = 0
        self.unaccounted = 0
        self.may_be_short = False
        self.missing_items: dict[str, int] = {}
        self.notes: dict[Note, int] = {}
        self.wire_bytes = 0

    def open(self) -> None:
        """The run begins."""
        self.started_at = datetime.now(UTC)
        self._began = time.monotonic()

    @property
    def elapsed_seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._began

    @property
    def bytes_received(self) -> int:
        """Bytes of FETCH responses so far, after decompression."""
        return self._received + sum(command.bytes_received for command in self._fetching)

    @property
    def batch_seconds(self) -> Distribution:
        """How long the server worked on a batch."""
        return self._batch_seconds.distribution()

    @property
    def batch_sizes(self) -> Distribution:
        """Messages in a batch."""
        return self._batch_sizes.distribution()

    def fetching(self, command: FetchCommand) -> None:
        """A FETCH was sent."""
        self._fetching.add(command)

    def fetched(self, command: FetchCommand) -> None:
        """A FETCH is over, however it ended."""
        self._fetching.discard(command)
        self._received += command.bytes_received
        for item, count in command.incomplete.items():
            self.missing_items[item] = self.missing_items.get(item, 0) + count

    def searched(self, notes: Mapping[Note, int]) -> None:
        """A search for what is to be done is over; where something was passed over, a message may be missing."""
        self.may_be_short = self.may_be_short or bool(notes)
        add_counts(self.notes, notes)

    def batch_ended(self, result: BatchResult) -> None:
        """A batch went through all layers."""
        self._batch_seconds.add(result.elapsed_seconds)
        self._batch_sizes.add(len(result.batch))

    def listen(self, event: Event) -> None:
        """Count an event."""
        match event:
            case Attempt():
                self.retries += 1
            case Reconnect():
                self.reconnects += 1
            case Wait() | Throttle():
                self.waits += 1
            case _:
                return
