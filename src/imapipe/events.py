"""Events: what happens beside the messages, and where to listen.

    unsubscribe = pool.events.subscribe(lambda event: print(event))

`Pool.events` tells what servers say of connections; `run.events`, which a middleware gets in `start`, tells what
happens in one run as well. A listener is called at once, in the loop of the run: it must be quick, and must not raise.
"""

from __future__ import annotations

from imapipe.models.event import (
    Attempt,
    BatchEnd,
    Event,
    FollowTrouble,
    HandlersPaused,
    HandlersResumed,
    LimitAwaited,
    MailboxFollowed,
    MailboxGone,
    NewsHandled,
    Reconnect,
    Refusal,
    ServerAwaited,
    Throttle,
    Wait,
)
from imapipe.runtime.event_bus import EventBus, Listener

__all__ = [
    "Attempt",
    "BatchEnd",
    "Event",
    "EventBus",
    "FollowTrouble",
    "HandlersPaused",
    "HandlersResumed",
    "LimitAwaited",
    "Listener",
    "MailboxFollowed",
    "MailboxGone",
    "NewsHandled",
    "Reconnect",
    "Refusal",
    "ServerAwaited",
    "Throttle",
    "Wait",
]
