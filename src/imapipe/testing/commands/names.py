"""Mailbox names in arguments."""

from __future__ import annotations

from ..arguments import Arguments, BadCommand, Refused
from ..mailbox import Mailbox
from ..mailboxes import canonical, decode_mailbox_name
from ..session import Session


def decode_name(session: Session, wire: bytes) -> str:
    """A name or pattern as it came."""
    return wire.decode("utf-8", "replace") if session.utf8 else decode_mailbox_name(wire)


def read_name(session: Session, arguments: Arguments) -> str:
    """Read a mailbox name."""
    return canonical(decode_name(session, arguments.astring()))


def find(session: Session, name: str, code: str = "NONEXISTENT") -> Mailbox:
    """The mailbox of that name.

    Raises:
        Refused: There is none.
    """
    box = session.server.mailboxes.get(name)
    if box is None:
        raise Refused(f"Mailbox doesn't exist: {name}", code)
    return box


def read_words(arguments: Arguments) -> list[str]:
    """Read atoms up to a closing parenthesis, in upper case."""
    words: list[str] = []
    while not arguments.take(b")"):
        if words:
            arguments.space()
        words.append(arguments.word())
    return words


def read_parenthesised_names(session: Session, arguments: Arguments) -> list[str]:
    """Read one name, or several in parentheses.

    Raises:
        BadCommand: There is none.
    """
    if not arguments.take(b"("):
        return [read_name(session, arguments)]
    names: list[str] = []
    while not arguments.take(b")"):
        if names:
            arguments.space()
        names.append(read_name(session, arguments))
    if not names:
        raise BadCommand("Expected a mailbox name")
    return names
