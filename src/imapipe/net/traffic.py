"""What a pool hears of its connections: how many bytes came, how fast, and when the server asks for less."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from imapipe.errors import MAX_TEXT
from imapipe.models.event import Throttle
from imapipe.net.dataplane import Dataplane
from imapipe.net.signals import backoff_seconds, is_throttle_text
from imapipe.runtime.event_bus import EventBus
from imapipe.wire.response.response import Code

# A link is slow when so many bytes took longer than this many bytes a second would: then inflating costs less
# time than it saves.
MEASURED_BYTES = 4 * 1024 * 1024
SLOW_BYTES_PER_SECOND = 2 * 1024 * 1024


class Traffic:
    """The counters of all connections of a pool, those that are gone included.

    Args:
        current: Gives the data planes of the connections that are there.
    """

    __slots__ = ("_current", "_past_fetch_seconds", "_past_wire_bytes")

    def __init__(self, current: Callable[[], Iterable[Dataplane]]) -> None:
        self._current = current
        self._past_wire_bytes = 0
        self._past_fetch_seconds = 0.0

    def leave(self, plane: Dataplane) -> None:
        """A connection is about to go: keep what its counters say."""
        self._past_wire_bytes += plane.wire_bytes
        self._past_fetch_seconds += plane.fetch_seconds

    @property
    def wire_bytes(self) -> int:
        """Bytes received on the wire."""
        return self._past_wire_bytes + sum(plane.wire_bytes for plane in self._current())

    @property
    def is_link_slow(self) -> bool:
        """Whether bandwidth was measured to be the bottleneck, so that compressing is worth it."""
        seconds = self._past_fetch_seconds + sum(plane.fetch_seconds for plane in self._current())
        received = self.wire_bytes
        return received >= MEASURED_BYTES and received < SLOW_BYTES_PER_SECOND * seconds


def throttle_listener(events: EventBus) -> Callable[[str, Code | None, str], None]:
    """A listener for the statuses of one connection that tells of throttles, once where a server says it twice."""
    said_goodbye = False

    def listen(kind: str, code: Code | None, text: str) -> None:
        nonlocal said_goodbye
        if is_throttle_text(text) or (code is not None and code.is_throttled):
            # Yahoo says BYE first and then NO to the command.
            if not said_goodbye:
                events.emit(Throttle(kind, text[:MAX_TEXT], backoff_seconds(text)))
            said_goodbye = said_goodbye or kind == "BYE"

    return listen
