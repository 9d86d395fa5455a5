"""The part of a job that goes on after what is there: `follow`, for one mailbox and for many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, overload

from imapipe.net.pool.pool import ConnectionPool
from imapipe.pipeline.delivery.consumption import DEFAULT_CONCURRENCY, Consumption
from imapipe.pipeline.delivery.handler_retry import HandlerRetry
from imapipe.pipeline.delivery.handlers import Handler
from imapipe.pipeline.delivery.sink import Sink
from imapipe.pipeline.delivery.stream import OnError, Runs
from imapipe.pipeline.follow.follower import Territory
from imapipe.pipeline.follow.following import DEFAULT_POLL_SECONDS, Follow, FollowOptions, FollowStream, following
from imapipe.pipeline.follow.watch import Way
from imapipe.pipeline.operation.message_change import MessageChange


class FollowedJob(NamedTuple):
    """What a job follows, and with what.

    Attributes:
        territory: The mailboxes.
        pool: The connections of their account.
        account: Its name.
        runs: The runs of its pool that are driven by tasks of their own.
    """

    territory: Territory
    pool: ConnectionPool
    account: str
    runs: Runs


class Followable(ABC):
    """A job that can be followed."""

    __slots__ = ()

    @abstractmethod
    def _to_follow(self, on_done: MessageChange | None, on_failed: MessageChange | None) -> FollowedJob:
        """What is followed, with the changes that follow its messages. Raises TypeError, ValueError."""

    @overload
    def follow(
        self,
        handler: None = None,
        *,
        poll_seconds: float = DEFAULT_POLL_SECONDS,
        idle_seconds: float | None = None,
        way: Way = "notify",
        on_done: MessageChange | None = None,
        on_failed: MessageChange | None = None,
    ) -> FollowStream: ...

    @overload
    def follow(
        self,
        handler: Handler | Sink,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        on_error: OnError = "record",
        handler_retry: HandlerRetry | None = None,
        commit_every_messages: int | None = None,
        commit_every_seconds: float | None = None,
        poll_seconds: float = DEFAULT_POLL_SECONDS,
        idle_seconds: float | None = None,
        way: Way = "notify",
        on_done: MessageChange | None = None,
        on_failed: MessageChange | None = None,
    ) -> Follow: ...

    def follow(
        self,
        handler: Handler | Sink | None = None,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        on_error: OnError = "record",
        handler_retry: HandlerRetry | None = None,
        commit_every_messages: int | None = None,
        commit_every_seconds: float | None = None,
        poll_seconds: float = DEFAULT_POLL_SECONDS,
        idle_seconds: float | None = None,
        way: Way = "notify",
        on_done: MessageChange | None = None,
        on_failed: MessageChange | None = None,
    ) -> Follow | FollowStream:
        """Handle what the search finds, in one mailbox or in each of many, and then what arrives, until it is ended.

        ::

            report = await job.follow(handle)               # until it is cancelled

            async with job.follow() as messages:
                async for message in messages: ...

        Each message is handled once; once more where its connection, or this process without a checkpoint, died in
        the middle. News comes by NOTIFY where the server has it, else by IDLE on all connections but one, else by
        asking for counts. Connections that end are replaced for ever; events of the pool and `health` tell of it. What
        comes to match the search later on, by a change of flags, is no arrival.

        Of many mailboxes those that come are followed too, where they fit the words that choose; one that goes ends
        nothing. An error of one mailbox is told by an event, and in `health` and `report`, and the others go on.

        Args:
            handler: A handler or a sink, as in `run`; without one what is returned is to be iterated over.
            concurrency: As in `run`.
            on_error: As in `run`: "raise" ends it with what a handler raises.
            handler_retry: As in `run`.
            commit_every_messages: As in `run`.
            commit_every_seconds: As in `run`.
            poll_seconds: How often to ask for the counts of mailboxes of which the server does not tell by itself.
            idle_seconds: When IDLE is ended and begun anew, and a dead connection is noticed; unless said what suits
                the provider, 240.
            way: The best way to use: "notify", "idle" or "poll".
            on_done: As in `Pipeline.run`: a change of each message after it was done.
            on_failed: As in `Pipeline.run`.

        Returns:
            Something to await, which gives a report, with a handler; else something to iterate over. Both have
            `health`, `report` and `stop()`.

        Raises:
            TypeError, ValueError: An argument that cannot be.
            AuthenticationFailed, ConnectionFailed, PoolClosed, CheckpointError, SinkError, SpoolError: When it is
                awaited: what no patience helps against. ConnectionFailed is a certificate that is not trusted.
            CapabilityMissing: The server does not offer what the search needs.
            CommandNo, CommandBad, UidValidityChanged: What no patience helps against of a single mailbox: it does not
                exist, its search is not understood, or its UIDs mean other messages than those of the checkpoint.

        Cancelling it ends runs as in `run`: what is done is saved, and `report` tells what it was.
        """
        consumption = None
        if handler is not None:
            consumption = Consumption.checked(
                handler,
                concurrency=concurrency,
                on_error=on_error,
                handler_retry=handler_retry,
                commit_every_messages=commit_every_messages,
                commit_every_seconds=commit_every_seconds,
            )
        options = FollowOptions(poll_seconds, idle_seconds, way)
        return following(*self._to_follow(on_done, on_failed), consumption, options)
