"""NOTIFY (RFC 5465): reads the event groups; what they bring is in ``watch``."""

from __future__ import annotations

from collections.abc import Callable

from ..arguments import Arguments, BadCommand, Refused
from ..fetch_items import FetchItem, parse_items
from ..mailboxes import SEPARATOR
from ..session import Done, Entry, Session
from ..watch import MESSAGE_EVENTS, NAME_EVENTS, Rule
from .names import read_parenthesised_names

_EVENTS = {event.upper(): event for event in MESSAGE_EVENTS | NAME_EVENTS}
# Known to the RFC, not to us: refused with BADEVENT.
_OTHER_EVENTS = {"ANNOTATIONCHANGE", "MAILBOXMETADATACHANGE", "SERVERMETADATACHANGE"}


async def notify(session: Session, arguments: Arguments) -> Done:
    """NOTIFY SET [STATUS] groups, and NOTIFY NONE."""
    done = Done("NOTIFY completed")
    word = arguments.word()
    if word == "NONE":
        arguments.end()
        session.unwatch()
        return done
    if word != "SET":
        raise BadCommand("Expected SET or NONE")
    selected: Rule | None = None
    rules: list[Rule] = []
    with_status = arguments.take(b" STATUS")
    while not arguments.at_end:
        arguments.expect(b" (")
        kind = arguments.word()
        if kind in ("SELECTED", "SELECTED-DELAYED"):
            if selected is not None:
                raise BadCommand("The selected mailbox is named twice")
            events, items = _read_events(session, arguments)
            selected = Rule(lambda name: False, events, tuple(items), kind == "SELECTED")
            if events & NAME_EVENTS:
                raise BadCommand("Only message events are told of the selected mailbox")
        else:
            applies = _read_filter(session, arguments, kind)
            events, items = _read_events(session, arguments)
            if items:
                raise BadCommand("Only of the selected mailbox messages are fetched")
            rules.append(Rule(applies, events))
    if selected is None and not rules:
        raise BadCommand("Expected an event group")
    session.watch(selected if selected is None or selected.events else None, rules)
    if with_status:
        session.write_status_of_watched()
    return done


def _read_filter(session: Session, arguments: Arguments, kind: str) -> Callable[[str], bool]:
    subscribed = session.server.mailboxes.subscribed
    if kind == "PERSONAL":
        return lambda name: True
    if kind == "INBOXES":
        return lambda name: name == "INBOX"
    if kind == "SUBSCRIBED":
        return lambda name: name in subscribed
    if kind not in ("SUBTREE", "MAILBOXES"):
        raise BadCommand(f"Unknown mailbox filter {kind}")
    arguments.space()
    names = set(read_parenthesised_names(session, arguments))
    if kind == "MAILBOXES":
        return lambda name: name in names
    return lambda name: name in names or any(name.startswith(top + SEPARATOR) for top in names)


def _read_events(session: Session, arguments: Arguments) -> tuple[frozenset[str], list[FetchItem]]:
    arguments.space()
    events: set[str] = set()
    items: list[FetchItem] = []
    if arguments.take(b"NONE"):
        arguments.expect(b")")
        return frozenset(), items
    arguments.expect(b"(")
    while not arguments.take(b")"):
        if events:
            arguments.space()
        word = arguments.word()
        if word in _OTHER_EVENTS:
            raise Refused("Unsupported event", f"BADEVENT ({' '.join(sorted(_EVENTS.values()))})")
        if word not in _EVENTS:
            raise BadCommand("Invalid arguments")
        events.add(_EVENTS[word])
        if word == "MESSAGENEW" and arguments.peek() == b" " and arguments.text[arguments.at + 1 :].startswith(b"("):
            arguments.space()
            items = parse_items(arguments, session.server.extensions)
    arguments.expect(b")")
    if ("MessageNew" in events) is not ("MessageExpunge" in events):
        raise BadCommand("MessageNew and MessageExpunge must be together")
    if "FlagChange" in events and "MessageNew" not in events:
        raise BadCommand("FlagChange requires MessageNew and MessageExpunge")
    return frozenset(events), items


COMMANDS: dict[str, Entry] = {"NOTIFY": Entry(notify, "auth", "NOTIFY")}
