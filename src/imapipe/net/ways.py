"""Which ways of asking are open on a connection: what its server offers, less what it has refused.

Whatever may be left out has a plain way beside it. A way is named by the capability that it needs, or, where the
capability is good for more, by the form of the command: a server that opens no mailbox with CONDSTORE may tell MODSEQ
all the same.

Invariants:

- A way is closed for good when the server refused it and took the plain one: where it refuses both, the way was not
  the reason, and its refusal of the plain one is raised.
- What asks for time or for less (`net.transient`), or speaks of the mailbox, closes no way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from imapipe.errors import CommandBad, CommandError, CommandNo, ProtocolError
from imapipe.net.session import Session
from imapipe.net.transient import is_transient

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
        refused: What was refused: capabilities, and forms of commands.
    """

    __slots__ = ("_session", "refused")

    def __init__(self, session: Session) -> None:
        self._session = session
        self.refused: set[str] = set()

    def may(self, capability: str, form: str = "") -> bool:
        """Whether the server offers a capability, by name or with another one that holds it, and has refused neither.

        Args:
            capability: Its name.
            form: The command that would use it, where that may be refused by itself.
        """
        offered = self._session.capabilities
        return not self.refused & {capability, form} and (
            capability in offered
            or _IMPLIED_BY.get(capability) in offered
            or (capability in _IN_REV2 and "IMAP4REV2" in offered)
        )

    async def first(
        self, ways: dict[str, Callable[[], Awaitable[_Answer]]], plain: Callable[[], Awaitable[_Answer]]
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
                answer = await ask()
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
    code = error.code.upper().partition(" ")[0]
    return code not in _NOT_THE_WAY and not is_transient(error, fetching=False).transient
