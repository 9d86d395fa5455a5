"""Which ways of asking are open on a connection: what its server offers, less what it has refused.

Whatever may be left out has a plain way beside it. A way is named by the capability that it needs, or, where the
capability is good for more, by the form of the command: a server that opens no mailbox with CONDSTORE may tell MODSEQ
all the same.

Invariants:

- A way is closed for good when the server refused it and took the plain one: where it refuses both, the way was not
  the reason, and its refusal of the plain one is raised.
- What asks for time or for less (`net.transient`), or speaks of the mailbox or of length, closes no way.
- A way in which two connections of a pool ended, and that the server never answered, is closed for all of them: else
  none would ever come through. One that was answered once is not suspected any more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

from imapipe.errors import (
    CommandBad,
    CommandError,
    CommandNo,
    CommandTimeout,
    ConnectionLost,
    ProtocolError,
    ServerBye,
)
from imapipe.net.learned import Learned
from imapipe.net.session import Session
from imapipe.net.transient import is_about_length, is_transient

# What IMAP4rev2 holds without saying so (RFC 9051 appendix E).
_IN_REV2: Final = frozenset(
    """BINARY ENABLE ESEARCH IDLE LIST-EXTENDED LIST-STATUS LITERAL- MOVE NAMESPACE SASL-IR SEARCHRES SPECIAL-USE
    STATUS=SIZE UIDPLUS UNSELECT""".split()
)
_IMPLIED_BY: Final = {"CONDSTORE": "QRESYNC", "LITERAL-": "LITERAL+"}

# NO with one of these speaks of the mailbox or of the account, however it was asked (RFC 5530).
_NOT_THE_WAY: Final = frozenset(
    """AUTHENTICATIONFAILED AUTHORIZATIONFAILED BADCHARSET CONTACTADMIN EXPIRED NONEXISTENT NOPERM NOTSAVED
    PRIVACYREQUIRED TRYCREATE""".split()
)

_Answer = TypeVar("_Answer")


class Ways:
    """The ways of one connection.

    Args:
        session: What its server offers.

    Attributes:
        learned: What is known of the server by experience; the connections of a pool share it.
        refused: What was refused: capabilities, and forms of commands.
    """

    __slots__ = ("_session", "learned", "refused")

    def __init__(self, session: Session) -> None:
        self._session = session
        self.learned = Learned()
        self.refused: set[str] = set()

    def may(self, capability: str, form: str = "") -> bool:
        """Whether the server offers a capability, by name or with another one that holds it, and has refused neither.

        Args:
            capability: Its name.
            form: The command that would use it, where that may be refused by itself.
        """
        for way in (capability, form):
            if way in self.refused or self.learned.is_deadly(way):
                return False
        offered = self._session.capabilities
        return (
            capability in offered
            or _IMPLIED_BY.get(capability) in offered
            or (capability in _IN_REV2 and "IMAP4REV2" in offered)
        )

    async def ask(self, way: str, ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Ask in one way, and raise what that raises; where the connection ends meanwhile, that is remembered."""
        room = self.learned.max_command_bytes
        try:
            answer = await ask()
        except (ConnectionLost, CommandTimeout, ServerBye) as error:
            if self.learned.max_command_bytes == room:
                # Else it may have been the length.
                self.learned.ended_in(way, error)
            raise
        except (CommandError, ProtocolError):
            self.learned.harmless_ways.add(way)
            raise
        self.learned.harmless_ways.add(way)
        return answer

    async def first(
        self, ways: Mapping[str, Callable[[], Awaitable[_Answer]]], plain: Callable[[], Awaitable[_Answer]]
    ) -> _Answer:
        """Ask in the first way that is taken.

        Args:
            ways: The ways that are open, the best one first, and what asks in each.
            plain: The way that every server knows.

        Raises:
            CommandNo, CommandBad: The plain way was refused, too.
        """
        refused: list[str] = []
        for way, ask in ways.items():
            try:
                answer = await self.ask(way, ask)
            except (CommandNo, CommandBad, ProtocolError) as error:
                if self._session.error is not None or not may_be_the_way(error):
                    raise
                refused.append(way)
            else:
                break
        else:
            answer = await plain()
        self.refused.update(refused)
        return answer


def may_be_the_way(error: CommandError | ProtocolError) -> bool:
    """Whether a command may have been refused for the way in which it asked; an answer nobody can read is the same."""
    if isinstance(error, ProtocolError):
        return True
    if is_about_length(error) or is_transient(error, fetching=False).transient:
        return False
    return error.code.upper().partition(" ")[0] not in _NOT_THE_WAY
