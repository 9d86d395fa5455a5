"""The event bus: whoever wants to react to what happens beside the messages, or to show it, listens here.

Listeners are called at once, in the order in which they came; a listener must be quick.

Invariant: what a listener raises is told to the event loop, and changes nothing: not for those who listen after it, and
not for whoever emits, who may be in the middle of an answer.
"""

from __future__ import annotations

from collections.abc import Callable

from imapipe.models.event import Event
from imapipe.runtime.defect import DEFECTS, tell_defect

Listener = Callable[[Event], None]


class EventBus:
    """Calls every listener for every event, synchronously."""

    __slots__ = ("_listeners",)

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Add a listener; the function returned removes it again."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def emit(self, event: Event) -> None:
        """Tell all listeners; never raises what they raise."""
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except DEFECTS as error:
                tell_defect(f"a listener to events failed at {type(event).__name__}", error)
