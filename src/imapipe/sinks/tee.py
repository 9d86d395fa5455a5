"""Several sinks as one.

Invariant: a message is done when all of them have committed it; it has failed when one of them could not take it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from imapipe.errors import SinkError
from imapipe.middleware.base import Run
from imapipe.models.message import Message
from imapipe.pipeline.delivery.sink import Sink, is_sink, sink_for


class Tee:
    """Writes every message to all of some sinks.

    Args:
        sinks: Where to, in this order.

    Raises:
        TypeError: One of them is no sink.
    """

    def __init__(self, *sinks: Sink) -> None:
        for sink in sinks:
            if not is_sink(sink):
                raise TypeError(f"Tee() takes sinks such as sinks.Maildir(...), not {sink!r}")
        if not sinks:
            raise TypeError("Tee() takes at least one sink")
        self._sinks = sinks
        self._opened = AsyncExitStack()
        self._runs = 0

    def __repr__(self) -> str:
        return f"<Tee of {', '.join(map(repr, self._sinks))}>"

    @property
    def parts(self) -> Sequence[Sink]:
        """The sinks; in a mirror each of them follows changes by itself."""
        return self._sinks

    def for_mailbox(self, name: str, delimiter: str | None) -> Tee | None:
        """The same for one mailbox of a whole account, where all of them can be divided."""
        divided = [sink_for(sink, name, delimiter) for sink in self._sinks]
        whole = [sink for sink in divided if sink is not None]
        return Tee(*whole) if len(whole) == len(divided) else None

    async def open(self, run: Run) -> None:
        """See `Sink`. Raises SinkError where another run has it."""
        self._runs += 1
        if self._runs > 1:
            raise SinkError("another run has this sink; give each run one of its own", path=repr(self))
        for sink in self._sinks:
            # Before it is opened: close follows a failed open, too.
            self._opened.push_async_callback(sink.close)
            await sink.open(run)

    async def write(self, messages: Sequence[Message]) -> Mapping[int, Exception]:
        """See `Sink`: what one of them could not take has failed."""
        failed: dict[int, Exception] = {}
        for sink in self._sinks:
            failed |= await sink.write(messages)
        return failed

    async def commit(self) -> None:
        """See `Sink`."""
        for sink in self._sinks:
            await sink.commit()

    async def close(self) -> None:
        """See `Sink`: all of them are closed, also where one of them raises."""
        self._runs -= 1
        if not self._runs:
            await self._opened.aclose()
