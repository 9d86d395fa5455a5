"""A message that is asked for in windows: its place, and what has come of each window.

Invariant: it is put together only of windows that fit to each other, each of which was answered as it was asked for.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from imapipe.models.message import Message
from imapipe.net.spool import SpoolFile
from imapipe.net.unfinished import Part, Unfinished
from imapipe.pipeline.operation.remainder import Remainder
from imapipe.wire.command.fetch import Fetch

_BODY: Final = "BODY[]"
_ONLY_BODY: Final = Fetch(section="")
# Asked for behind the end: nothing may come, or the size was wrong.
_SLACK_BYTES: Final = 1024


class Windowed:
    """A message that is asked for in windows: its place, and the windows as remainders of it.

    Args:
        uid: Its UID.
        size: Its RFC822.SIZE.
        place: Where it goes.
        fetch: What is asked for; the first window is asked for together with all that is no body.
        window_bytes: How large a window is.

    Attributes:
        windows: All windows, in order.
        left: Those that are to be asked for.
        answer: The answer to the first one.
        size: The RFC822.SIZE.
    """

    __slots__ = ("answer", "left", "size", "windows")

    def __init__(self, uid: int, size: int, place: bytearray | SpoolFile, fetch: Fetch, window_bytes: int) -> None:
        self.size = size
        self.windows: list[Remainder] = []
        for start in range(0, size, window_bytes):
            part = Part(place, 0, min(window_bytes, size - start), start)
            self.windows.append(
                Remainder(
                    Unfinished(uid, size, {}, _BODY, part),
                    _ONLY_BODY if start else fetch,
                    slack=_SLACK_BYTES if start + window_bytes >= size else 0,
                )
            )
        self.left = deque(self.windows)
        self.answer: Message | None = None

    @property
    def received(self) -> int:
        """How many bytes of it there are."""
        return sum([window.received for window in self.windows])

    def accept(self, window: Remainder, answer: Message) -> bool:
        """Take the answer to a window; False where it does not fit. Raises SpoolError."""
        if window.literals(answer) is None:
            return False
        if window is self.windows[0]:
            self.answer = answer
        return True

    def join(self) -> Message | None:
        """The whole message, once all windows are there; None where they do not fit together. Raises SpoolError."""
        first, answer = self.windows[0].part, self.answer
        if first is None or answer is None:
            return None
        if not all(window.part is not None and window.part.follows for window in self.windows):
            return None
        literal = first.finish()
        wire_size = answer.wire_size + len(literal) - first.size
        return answer.completed(self.windows[0].fetch, {_BODY: literal}, wire_size)

    def discard(self) -> None:
        """It will not be put together."""
        for window in self.windows:
            window.discard()
