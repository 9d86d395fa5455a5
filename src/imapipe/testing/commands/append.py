"""APPEND of one message or several (RFC 3502), with limits of size (RFC 7889) and quota (RFC 9208)."""

from __future__ import annotations

from datetime import datetime

from ..arguments import Arguments, Refused
from ..ranges import format_uids
from ..session import Done, Entry, Session
from .names import find, read_name
from .writable import permitted_flags


async def append(session: Session, arguments: Arguments) -> Done:
    """APPEND of one message, or of several (RFC 3502)."""
    name = read_name(session, arguments)
    new: list[tuple[bytes, list[str], datetime | None]] = []
    while not new or (session.has("MULTIAPPEND") and not arguments.at_end):
        arguments.space()
        flags: list[str] = []
        when: datetime | None = None
        if arguments.peek() == b"(":
            flags = arguments.flag_list()
            arguments.space()
        if arguments.peek() == b'"':
            when = arguments.date_time()
            arguments.space()
        if arguments.take(b"UTF8 (") and session.utf8:
            new.append((arguments.literal(), flags, when))
            arguments.expect(b")")
        else:
            new.append((arguments.literal(), flags, when))
    arguments.end()
    box = find(session, name, "TRYCREATE")
    for raw, flags, _ in new:
        _check_size(session, len(raw))
        permitted_flags(box, flags)
    if code := session.server.quota_code(len(new), sum(len(raw) for raw, _, _ in new)):
        raise Refused("Quota exceeded (mailbox for user is full)", code)
    limit = session.server.message_limit
    if limit is not None and session.has("MESSAGELIMIT") and len(new) > limit:
        raise Refused("Too many messages", f"MESSAGELIMIT {limit}")
    now = session.server.now()
    uids = [box.append(raw, permitted_flags(box, flags), when or now) for raw, flags, when in new]
    session.record.messages = len(uids)
    code = f"APPENDUID {box.uidvalidity} {format_uids(uids).decode('ascii')}" if session.has("UIDPLUS") else ""
    return Done("APPEND completed", code)


def _check_size(session: Session, size: int) -> None:
    limit = session.server.append_limit
    if limit is not None and size > limit:
        raise Refused(f"Message is larger than {limit} bytes", "TOOBIG")


def refuse_early(session: Session, arguments: Arguments, size: int) -> None:
    """Before a synchronising literal is taken: the mailbox is not there, or the message is too large."""
    find(session, read_name(session, arguments), "TRYCREATE")
    _check_size(session, size)
    if code := session.server.quota_code(1, size):
        raise Refused("Quota exceeded (mailbox for user is full)", code)


COMMANDS: dict[str, Entry] = {"APPEND": Entry(append, "auth", early=refuse_early)}
