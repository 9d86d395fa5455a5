"""Several faults at random moments, drawn by a number: a failure names it, and it can be drawn again.

Some storms run in the suite, as many as are asked for in `nox -s proof`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from typing import Final

from imapipe.testing import Bye, CutAfterBytes, CutInput, Reply
from imapipe.testing.faults.base import Fault

STORMS: Final = int(os.environ.get("IMAPIPE_PROOF_MESSAGES", "200")) // 10
READING: Final = ("LOGIN", "EXAMINE", "SELECT", "UID SEARCH", "UID FETCH")
"""Commands of every job."""

_CODES: Final = ("", "UNAVAILABLE", "INUSE", "LIMIT", "EXPUNGEISSUED", "THROTTLED")


class Storm:
    """What is drawn for one try.

    Attributes:
        chosen: Where everything comes from.
    """

    def __init__(self, number: int) -> None:
        self.chosen = random.Random(number)

    def faults(self, commands: Sequence[str], most: int) -> list[Fault]:
        """Faults of some commands."""
        return [self._fault(self.chosen.choice(commands)) for _ in range(self.chosen.randint(1, most))]

    def _fault(self, command: str) -> Fault:
        draw, nth = self.chosen, self.chosen.randint(1, 5)
        makers: list[Callable[[], Fault]] = [
            lambda: CutAfterBytes(draw.choice((0, 5, 30, 100, 700, 5_000)), command=command, nth=nth),
            lambda: CutInput(draw.choice((0, 10, 500)), command=command, nth=nth),
            lambda: Bye(after_response=draw.random() < 0.5, command=command, nth=nth),
            lambda: Reply(
                draw.choice(("NO", "BAD")),
                "Not now",
                draw.choice(_CODES),
                # What was appended and refused is a lie, and the message has failed.
                after_response=command != "APPEND" and draw.random() < 0.4,
                command=command,
                nth=nth,
            ),
        ]
        return draw.choice(makers)()

    def some_of(self, *extensions: str) -> list[str]:
        """Extensions that a server has not."""
        return [name for name in extensions if self.chosen.random() < 0.3]
