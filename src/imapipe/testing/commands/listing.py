"""LIST and LSUB: plain as Dovecot 2.3 answers them, extended as RFC 5258 says.

Invariant: an answer to an extended LIST has the attributes that were asked for and no others, so that a client
that forgets to ask misses them here too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..arguments import Arguments, BadCommand
from ..mailboxes import SEPARATOR, name_matches, parents
from ..session import Done, Entry, Session
from ..status import check_status_items, status_line
from .names import decode_name, read_words

_SELECTIONS = {
    "SUBSCRIBED": "LIST-EXTENDED",
    "REMOTE": "LIST-EXTENDED",
    "RECURSIVEMATCH": "LIST-EXTENDED",
    "SPECIAL-USE": "SPECIAL-USE",
}
_RETURNS = {"SUBSCRIBED": "", "CHILDREN": "", "SPECIAL-USE": "SPECIAL-USE", "STATUS": "LIST-STATUS"}


@dataclass(slots=True)
class _Listing:
    """A LIST as it was asked for."""

    patterns: list[str]
    matches: Callable[[str], bool]
    extended: bool = False
    selection: set[str] = field(default_factory=set)
    returns: set[str] = field(default_factory=set)
    items: list[str] = field(default_factory=list)


async def list_mailboxes(session: Session, arguments: Arguments) -> Done:
    """LIST with the selections and returns of RFC 5258, RFC 5819 and RFC 6154."""
    asked = _read(session, arguments)
    done = Done("LIST completed")
    if asked.patterns == [""]:
        session.untagged(b'LIST (\\Noselect) "' + SEPARATOR.encode("ascii") + b'" ""')
        return done
    boxes = session.server.mailboxes
    names = set(boxes.all_names)
    if "SUBSCRIBED" in asked.selection:
        names |= boxes.subscribed
        names.update(parent for name in boxes.subscribed for parent in parents(name))
    for name in sorted(filter(asked.matches, names), key=lambda name: (name != "INBOX", name)):
        below = _has_selected_below(session, asked, name, names)
        if not below and not _is_selected(session, asked, name):
            continue
        attributes = _extended(session, asked, name) if asked.extended else _plain(session, name)
        line = f'LIST ({" ".join(attributes)}) "{SEPARATOR}" '.encode("ascii") + session.write_name(name)
        if below:
            line += b' ("CHILDINFO" ("SUBSCRIBED"))'
        session.untagged(line)
        if asked.items and name in boxes:
            session.untagged(status_line(session, name, boxes[name], asked.items))
    return done


async def list_subscribed(session: Session, arguments: Arguments) -> Done:
    """LSUB: names that are subscribed to, and with ``%`` the levels above them (RFC 3501 6.3.9)."""
    reference = decode_name(session, arguments.astring())
    arguments.space()
    pattern = decode_name(session, arguments.list_mailbox())
    arguments.end()
    boxes, matches = session.server.mailboxes, name_matches(reference, pattern)
    names = dict.fromkeys(boxes.subscribed)
    if "%" in pattern:
        names.update(dict.fromkeys(parent for name in boxes.subscribed for parent in parents(name)))
    for name in sorted(filter(matches, names), key=lambda name: (name != "INBOX", name)):
        attributes = _special_use(session, name) if name in boxes.subscribed else ["\\Noselect"]
        line = f'LSUB ({" ".join(attributes)}) "{SEPARATOR}" '.encode("ascii")
        session.untagged(line + session.write_name(name))
    return Done("LSUB completed")


def _read(session: Session, arguments: Arguments) -> _Listing:
    selection: set[str] = set()
    extended = False
    if session.has("LIST-EXTENDED") and arguments.take(b"("):
        extended = True
        selection = set(read_words(arguments))
        arguments.space()
    reference = decode_name(session, arguments.astring())
    arguments.space()
    extended = extended or (session.has("LIST-EXTENDED") and arguments.peek() == b"(")
    patterns = _read_patterns(session, arguments)
    tests = [name_matches(reference, pattern) for pattern in patterns]
    asked = _Listing(patterns, lambda name: any(test(name) for test in tests), extended, selection)
    if any(session.has(name) for name in ("LIST-EXTENDED", "LIST-STATUS")) and arguments.take(b" RETURN ("):
        asked.extended = True
        _read_returns(session, arguments, asked)
    arguments.end()
    for word in selection:
        if word not in _SELECTIONS or not session.has(_SELECTIONS[word]):
            raise BadCommand("Unknown select options")
    if "RECURSIVEMATCH" in selection and selection <= {"RECURSIVEMATCH", "REMOTE"}:
        raise BadCommand("RECURSIVEMATCH must not be the only selection")
    return asked


def _read_patterns(session: Session, arguments: Arguments) -> list[str]:
    if not session.has("LIST-EXTENDED") or not arguments.take(b"("):
        return [decode_name(session, arguments.list_mailbox())]
    patterns = [decode_name(session, arguments.list_mailbox())]
    while not arguments.take(b")"):
        arguments.space()
        patterns.append(decode_name(session, arguments.list_mailbox()))
    return patterns


def _read_returns(session: Session, arguments: Arguments, asked: _Listing) -> None:
    while not arguments.take(b")"):
        if asked.returns:
            arguments.space()
        word = arguments.word()
        extension = _RETURNS.get(word)
        if extension is None or (extension and not session.has(extension)):
            raise BadCommand("Unknown return options")
        asked.returns.add(word)
        if word == "STATUS":
            arguments.expect(b" (")
            asked.items = read_words(arguments)
            check_status_items(session, asked.items)


def _is_selected(session: Session, asked: _Listing, name: str) -> bool:
    boxes = session.server.mailboxes
    if "SUBSCRIBED" in asked.selection and name not in boxes.subscribed:
        return False
    return "SPECIAL-USE" not in asked.selection or (name in boxes and bool(boxes[name].special_use))


def _has_selected_below(session: Session, asked: _Listing, name: str, names: set[str]) -> bool:
    if "RECURSIVEMATCH" not in asked.selection:
        return False
    below = name + SEPARATOR
    return any(
        other.startswith(below) and not asked.matches(other) and _is_selected(session, asked, other) for other in names
    )


def _special_use(session: Session, name: str) -> list[str]:
    box = session.server.mailboxes.get(name)
    return [box.special_use] if box is not None and box.special_use and session.has("SPECIAL-USE") else []


def _children(session: Session, name: str) -> str:
    return "\\HasChildren" if session.server.mailboxes.has_children(name) else "\\HasNoChildren"


def _plain(session: Session, name: str) -> list[str]:
    attributes = [] if name in session.server.mailboxes else ["\\Noselect"]
    if session.has("CHILDREN"):
        attributes.append(_children(session, name))
    return attributes + _special_use(session, name)


def _extended(session: Session, asked: _Listing, name: str) -> list[str]:
    boxes, wanted = session.server.mailboxes, asked.selection | asked.returns
    attributes = [] if name in boxes else ["\\NonExistent"]
    if "SUBSCRIBED" in wanted and name in boxes.subscribed:
        attributes.append("\\Subscribed")
    if "CHILDREN" in asked.returns:
        attributes.append(_children(session, name))
    return attributes + (_special_use(session, name) if "SPECIAL-USE" in wanted else [])


COMMANDS: dict[str, Entry] = {
    "LIST": Entry(list_mailboxes, "auth"),
    "LSUB": Entry(list_subscribed, "auth"),
}
