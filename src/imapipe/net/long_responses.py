"""Responses that take longer to read than a turn of the event loop may: threads read them.

A message with a million keywords, an ENVELOPE with ten thousand recipients, a VANISHED of all that was deleted: what
is read of them in the event loop is how they begin. Answers that a command keeps for itself are read by its own
coroutine, long ones in a thread too (`Conversation._responses`).

Invariants:

- Nothing behind a long response is taken before it was read, so all keep their order.
- Messages with long items are handed over when a thread has read those, so that a handler finds them read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from imapipe.errors import ProtocolError
from imapipe.models.message import Message
from imapipe.net.arrivals import FETCH, Arrivals
from imapipe.net.intake import Intake
from imapipe.net.watchdog import Watchdog
from imapipe.wire.response.framing import Frame
from imapipe.wire.response.limits import LONG_BYTES
from imapipe.wire.response.literal import Literal
from imapipe.wire.response.response import Response, Unknown, parse_response
from imapipe.wire.response.salvage import Answer, read_fetch

# What was gone before counts in no state, and nobody reads it here.
_VANISHED: Final = re.compile(rb"[\0 ]*(?:\* *)?VANISHED(?! *\(EARLIER)", re.IGNORECASE)


class LongResponses:
    """The long responses of one connection.

    Args:
        intake: Waits for threads.
        arrivals: What FETCHes are in flight, and the messages that are ready.
        take: Takes responses, as it did the first time.
        watchdog: Hears that we listen again.

    Attributes:
        response: The response that is taken now, where a thread has read it; answers to FETCHes: `Arrivals.known`.
    """

    __slots__ = ("_arrivals", "_intake", "_take", "_watchdog", "response")

    def __init__(
        self, intake: Intake, arrivals: Arrivals, take: Callable[[Iterable[Frame]], None], watchdog: Watchdog
    ) -> None:
        self._intake = intake
        self._arrivals = arrivals
        self._take = take
        self._watchdog = watchdog
        self.response: Response | None = None

    def takes(self, text: bytes, literals: tuple[Literal, ...], size: int) -> bool:
        """Have a long response read before it is taken; False for one that was read, or is not to be."""
        if len(text) <= LONG_BYTES or self._arrivals.known is not None or self.response is not None:
            return False
        frame = text, literals, size
        if self._arrivals.commands and FETCH.match(text):
            self._intake.set_aside(partial(read_fetch, text, literals), partial(self._take_answer, frame))
        elif _VANISHED.match(text):
            self._intake.set_aside(partial(_read, text, literals), partial(self._take_response, frame))
        else:
            return False
        return True

    def reads_ahead(self) -> bool:
        """Have what is long in messages that are ready read before they are handed over; False where nothing is."""
        if self._arrivals.known is None:
            return False
        messages = [message for command in self._arrivals.commands for message in command.ready]
        if messages:
            self._intake.set_aside(partial(_read_ahead, messages), self._hand_over)
        return bool(messages)

    def _take_answer(self, frame: Frame, answer: Answer) -> None:
        self._arrivals.known = answer
        self._take_again(frame)
        self._arrivals.known = None

    def _take_response(self, frame: Frame, response: Response) -> None:
        self.response = response
        self._take_again(frame)
        self.response = None

    def _take_again(self, *frames: Frame) -> None:
        self._watchdog.hear()
        self._take(frames)
        self._watchdog.watch()

    def _hand_over(self, _: None) -> None:
        self._take_again()


def _read(text: bytes, literals: tuple[Literal, ...]) -> Response:
    """What cannot be read says nothing; the command that it belongs to tells so."""
    try:
        return parse_response(text, literals)
    except ProtocolError:
        return Unknown(text)


def _read_ahead(messages: Iterable[Message]) -> None:
    for message in messages:
        message.read_ahead()
