"""Messages of a copy that the other server does not take: by what it says, or because it hangs up at them.

Invariants:

- What was refused stays refused, however often the rest is begun anew with another connection.
- A message at which the server hangs up is sent last from then on, by itself. When that has happened too often, and it
  is not there after all, it has failed, and the others have not.
"""

from __future__ import annotations

from typing import Final

from imapipe.errors import ImapipeError, SinkError
from imapipe.sinks.outgoing import Outgoing

_MOST_DEATHS: Final = 4
# A command of many messages tells nothing of one of them: once, the connection may just have ended.
_MOST_DEATHS_TOGETHER: Final = 2
# A server that hangs up at so many one after the other does not work.
_MOST_GIVEN_UP: Final = 10


class Rejected:
    """What became of messages that are not taken.

    Attributes:
        failed: Why, by UID.
    """

    __slots__ = ("_deaths", "_deaths_together", "_given_up", "_has_outcome", "failed")

    def __init__(self) -> None:
        self.failed: dict[int, Exception] = {}
        self._deaths: dict[int, int] = {}
        self._deaths_together = 0
        # In a row.
        self._given_up = 0
        # Since `take_progress` was called.
        self._has_outcome = False

    @property
    def may_go_together(self) -> bool:
        """Whether messages may go into one command."""
        return not self._deaths and self._deaths_together < _MOST_DEATHS_TOGETHER

    def died_together(self) -> None:
        """The connection ended with several of them in one command."""
        self._deaths_together += 1

    def died_at(self, new: Outgoing, error: ImapipeError) -> None:
        """The connection ended while a message was sent."""
        deaths = self._deaths[new.message.uid] = self._deaths.get(new.message.uid, 0) + 1
        if deaths >= _MOST_DEATHS:
            self.failed[new.message.uid] = error
            self._given_up += 1
            self._has_outcome = self._has_outcome or self._given_up <= _MOST_GIVEN_UP

    def refuse(self, new: Outgoing, error: Exception) -> None:
        """It is not taken, as the server says."""
        self.failed[new.message.uid] = error
        self.answered()

    def answered(self) -> None:
        """The server has taken one, or said that it does not."""
        self._given_up = 0
        self._has_outcome = True

    def take_progress(self) -> bool:
        """Whether one of them has an outcome since this was asked last: then the server works."""
        has_outcome, self._has_outcome = self._has_outcome, False
        return has_outcome

    def leave_out(self, group: list[Outgoing], limit: int | None, target: str) -> None:
        """Refuse what need not be sent: messages without a byte, and those with more than the server takes."""
        for new in list(group):
            size = new.likeness.size
            if not size:
                why = "no bytes, and APPEND is cancelled by such a message (RFC 3502)"
            elif limit is not None and size > limit:
                why = f"{size} bytes, and the server takes {limit}"
            else:
                continue
            self.refuse(new, SinkError(f"message {new.message.uid} has {why}", path=target))
            group.remove(new)

    def sort_out(self, group: list[Outgoing]) -> None:
        """Leave those that have failed out of a group, and put last those at which the connection ended.

        Of these the first is the one at which it did so most often: it has an outcome soonest.
        """
        group[:] = sorted(
            (new for new in group if new.message.uid not in self.failed),
            key=lambda new: (self.is_suspect(new), -self._deaths.get(new.message.uid, 0)),
        )

    def is_suspect(self, new: Outgoing) -> bool:
        """Whether the connection ended while it was sent."""
        return new.message.uid in self._deaths

    def is_there(self, new: Outgoing) -> None:
        """It was taken after all."""
        self.failed.pop(new.message.uid, None)
        self.answered()
