"""Who takes the messages of a run, and how, as a value that was checked before anything is sent.

Invariant: it keeps nothing of a run, so it serves any number of them, one after the other or side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from imapipe.models.argument import check_number, check_whole
from imapipe.pipeline.delivery.driven import Driven
from imapipe.pipeline.delivery.handler_retry import HandlerRetry
from imapipe.pipeline.delivery.handlers import Crew, Handler, check_handler
from imapipe.pipeline.delivery.processes import ProcessHandler
from imapipe.pipeline.delivery.sink import COMMIT_EVERY_MESSAGES, COMMIT_EVERY_SECONDS, Scribe, Sink, is_sink
from imapipe.pipeline.delivery.stream import OnError

DEFAULT_CONCURRENCY = 8


@dataclass(frozen=True, slots=True)
class Consumption:
    """A handler or a sink, with all that was said about it; made by `checked`.

    Attributes:
        consumer: Where the messages go.
        concurrency: How many handlers work at a time.
        raise_errors: End the run with what a handler raises.
        handler_retry: Call the handler again for messages that it failed with.
        commit_every_messages: With a sink: commit when so many messages are written.
        commit_every_seconds: With a sink: commit when the first of them was written so long ago.
    """

    consumer: Handler | Sink
    concurrency: int
    raise_errors: bool
    handler_retry: HandlerRetry | None
    commit_every_messages: int
    commit_every_seconds: float

    @classmethod
    def checked(
        cls,
        consumer: Handler | Sink,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        on_error: OnError = "record",
        handler_retry: HandlerRetry | None = None,
        commit_every_messages: int | None = None,
        commit_every_seconds: float | None = None,
    ) -> Self:
        """Look at all of it; the arguments are those of `Pipeline.run`.

        Raises:
            TypeError: A handler that cannot be awaited, or what is no `HandlerRetry`.
            ValueError: A number or a word that cannot be.
        """
        sink = consumer if is_sink(consumer) else None
        if handler_retry is not None and (sink is not None or not isinstance(handler_retry, HandlerRetry)):
            raise TypeError(
                "handler_retry= takes an imapipe.HandlerRetry(...), and goes with a handler, not with a sink"
            )
        if sink is None:
            consumer = check_handler(consumer)
        check_whole("concurrency", concurrency)
        if commit_every_messages is None:
            commit_every_messages = getattr(sink, "commit_every_messages", COMMIT_EVERY_MESSAGES)
        if commit_every_seconds is None:
            commit_every_seconds = getattr(sink, "commit_every_seconds", COMMIT_EVERY_SECONDS)
        check_whole("commit_every_messages", commit_every_messages)
        check_number("commit_every_seconds", commit_every_seconds)
        if commit_every_messages < 1 or commit_every_seconds <= 0:
            raise ValueError("commit_every_messages must be 1 or more, and commit_every_seconds above 0")
        if concurrency < 1:
            raise ValueError(f"concurrency must be 1 or more, not {concurrency}")
        raise_errors = check_on_error(on_error) == "raise"
        return cls(consumer, concurrency, raise_errors, handler_retry, commit_every_messages, commit_every_seconds)

    async def consume(self, run: Driven) -> None:
        """Drive a run to its end; raises what ends it, or what the handler or the sink raised."""
        if is_sink(self.consumer):
            await Scribe(
                run,
                self.consumer,
                concurrency=self.concurrency,
                commit_every_messages=self.commit_every_messages,
                commit_every_seconds=self.commit_every_seconds,
                raise_errors=self.raise_errors,
            ).work()
            return
        handler = check_handler(self.consumer)
        await Crew(
            run, handler, concurrency=self.concurrency, raise_errors=self.raise_errors, retry=self.handler_retry
        ).work()

    def close(self) -> None:
        """End the processes of a handler that has some."""
        if isinstance(self.consumer, ProcessHandler):
            self.consumer.close()


def check_on_error(on_error: OnError) -> OnError:
    """Raises ValueError."""
    if on_error not in ("record", "raise"):
        raise ValueError(f'on_error must be "record" or "raise", not {on_error!r}')
    return on_error
