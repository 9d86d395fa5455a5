"""Events: what happens outside the messages themselves, for whoever wants to react or to show it.

The pool emits what servers say of connections (`Throttle`, `Refusal`, `Reconnect`), the pipeline and the
middleware what they do (`BatchEnd`, `Attempt`, `Wait`). `runtime.event_bus` carries them.
"""

from __future__ import annotations

from dataclasses import dataclass

from imapipe.models.batch import BatchResult
from imapipe.models.document import Document


@dataclass(frozen=True, slots=True)
class Throttle(Document):
    """The server asked for less. `retry_after_seconds` is its own hint, or None; `source` is OK, NO, BAD or BYE."""

    source: str
    text: str
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Refusal(Document):
    """A connection or a login was refused because there are too many; `limit` is what the pool uses now."""

    text: str
    limit: int


@dataclass(frozen=True, slots=True)
class Reconnect(Document):
    """A lane replaced its connection; `reason` says why the last one ended."""

    lane: int
    reason: str


@dataclass(frozen=True, slots=True)
class Attempt(Document):
    """A batch is asked for again: `attempt` is the number of the try that follows, after `wait_seconds`."""

    batch: int
    attempt: int
    wait_seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Wait(Document):
    """A layer waited before it let a batch go on: `layer` names it."""

    layer: str
    seconds: float


@dataclass(frozen=True, slots=True)
class LimitAwaited(Document):
    """A limit that several processes share keeps a connection or a batch waiting.

    Attributes:
        limit: Which: "connections", "rate" or "bytes".
        reason: Why: that it is reached, or that the database which keeps it does not answer.
        lasted_seconds: How long that has been so.
    """

    limit: str
    reason: str
    lasted_seconds: float


@dataclass(frozen=True, slots=True)
class ServerAwaited(Document):
    """The server, or the way to it, does not work.

    Attributes:
        reason: Why: a response code, or the name of an error.
        lasted_seconds: How long that has been so.
        wait_seconds: When it is tried again.
    """

    reason: str
    lasted_seconds: float
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class HandlersPaused(Document):
    """Handling stands still: so many calls of the handler in a row failed, the last one for this reason."""

    failures: int
    reason: str


@dataclass(frozen=True, slots=True)
class HandlersResumed(Document):
    """Handling goes on, after it stood still for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class BatchEnd(Document):
    """A batch went through all layers."""

    result: BatchResult


@dataclass(frozen=True, slots=True)
class MailboxFollowed(Document):
    """News of a mailbox comes in this way from now on: "notify", "idle" or "poll"."""

    mailbox: str
    way: str


@dataclass(frozen=True, slots=True)
class MailboxGone(Document):
    """There is no such mailbox any more; where it comes back, it is followed again."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class NewsHandled(Document):
    """A mailbox of which there was news was looked at.

    Attributes:
        mailbox: Its name.
        done: Messages that were handled.
        pending: Messages that a later look is for.
        elapsed_seconds: From the first word of the news to the end.
    """

    mailbox: str
    done: int
    pending: int
    elapsed_seconds: float


@dataclass(frozen=True, slots=True)
class FollowTrouble(Document):
    """Something does not work while mailboxes are followed, and is tried again.

    Attributes:
        mailbox: The mailbox, or "" where it is about the account.
        way: "notify" or "idle" where a connection that waited for news is concerned, else "" or "poll".
        reason: Why: a response code, or the name of an error.
        wait_seconds: When it is tried again.
    """

    mailbox: str
    way: str
    reason: str
    wait_seconds: float


Event = (
    Throttle
    | Refusal
    | Reconnect
    | Attempt
    | Wait
    | LimitAwaited
    | ServerAwaited
    | HandlersPaused
    | HandlersResumed
    | BatchEnd
    | MailboxFollowed
    | MailboxGone
    | NewsHandled
    | FollowTrouble
)
