"""How many FETCHes a lane keeps in flight: as many as the round trip wants, found out from answers.

Invariants:

- The depth follows the round trip: it is doubled as long as an answer begins a large part of a round trip after the
  end of the one before it, and about a round trip after its command: then the server had nothing to do meanwhile.
- It never falls: a lane whose connection is replaced by a nearer one has commands in flight that wait, nothing worse.
- One that the user gave stays as it is.
"""

from __future__ import annotations

from imapipe.net.command import FetchCommand
from imapipe.net.connection import Connection

MAX_DEPTH = 32
MIN_DEPTH = 2
# One more FETCH in flight for each of these of a round trip: about what a batch takes.
_SECONDS_PER_BATCH = 0.005
_GAP_OF_ROUND_TRIP = 0.25
_ARRIVING_ROUND_TRIPS = 1.5
_SHORTEST_GAP_SECONDS = 0.001


class Depth:
    """The depth of one lane.

    Args:
        fixed: What the user said; None follows the round trip.

    Attributes:
        value: How many batches are to be worked on at a time.
    """

    __slots__ = ("_is_fixed", "_last_finished", "value")

    def __init__(self, fixed: int | None) -> None:
        self._is_fixed = fixed is not None
        self._last_finished = 0.0
        self.value = fixed or MIN_DEPTH

    def begin(self, connection: Connection) -> None:
        """The lane begins to use a connection."""
        self._last_finished = 0.0
        if self._is_fixed:
            return
        round_trip = connection.round_trip_seconds
        wanted = MIN_DEPTH + int(round_trip / _SECONDS_PER_BATCH) if round_trip < 10 else MIN_DEPTH
        self.value = max(self.value, min(MAX_DEPTH, wanted))

    def observe(self, connection: Connection, command: FetchCommand) -> float:
        """Learn from a FETCH that ended; gives the seconds that the server worked on it.

        While the answers before it came, the command only waited: that is our depth, and no slowness of the server.
        """
        before, self._last_finished = self._last_finished, command.finished_at
        begun = max(before, command.started_at)
        seconds = max(0.0, command.finished_at - begun - command.paused_seconds)
        waited_for_others = command.started_at < before
        if self._is_fixed or not waited_for_others or not command.first_byte_at or command.paused_seconds:
            return seconds
        round_trip = connection.round_trip_seconds
        idle = command.first_byte_at - begun
        # Where the command had been with the server for longer than its way takes, the server was thinking.
        came_too_late = command.first_byte_at - command.started_at < round_trip * _ARRIVING_ROUND_TRIPS
        if came_too_late and idle > max(round_trip * _GAP_OF_ROUND_TRIP, _SHORTEST_GAP_SECONDS):
            self.value = min(MAX_DEPTH, self.value * 2)
        return seconds
