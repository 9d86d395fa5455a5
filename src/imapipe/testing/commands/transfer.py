"""COPY, MOVE and EXPUNGE."""

from __future__ import annotations

from ..arguments import Arguments, Refused
from ..mailbox import Mailbox
from ..ranges import IndexRanges, count_ranges, format_uids
from ..session import Done, Entry, Session
from .names import find, read_name
from .writable import require_writable


def _uids(session: Session, ranges: IndexRanges) -> list[int]:
    return [session.view[index] for low, high in ranges for index in range(low, high)]


async def copy(session: Session, arguments: Arguments) -> Done:
    """COPY and UID COPY."""
    ranges = session.resolve(arguments.sequence_set(), session.record.name.startswith("UID "))
    arguments.space()
    name = read_name(session, arguments)
    arguments.end()
    target = find(session, name, "TRYCREATE")
    await session.charge_messages(count_ranges(ranges))
    kept, code = session.limit_messages(ranges)
    if code:
        # COPY is all or nothing (RFC 3501 6.4.7), so above the limit nothing is copied.
        raise Refused("Too many messages", f"MESSAGELIMIT {session.server.message_limit}")
    _check_quota(session, kept)
    code = _copy(session, kept, target)[1]
    return Done(f"{session.record.name} completed", code)


def _check_quota(session: Session, ranges: IndexRanges) -> None:
    if session.server.quota is None:
        return
    sizes = [session.selected[uid].content.size for uid in _uids(session, ranges) if session.selected.contains(uid)]
    if code := session.server.quota_code(len(sizes), sum(sizes)):
        raise Refused("Quota exceeded (mailbox for user is full)", code)


def _copy(session: Session, ranges: IndexRanges, target: Mailbox) -> tuple[list[int], str]:
    box = session.selected
    found = [message for uid in _uids(session, ranges) if (message := box.get(uid)) is not None]
    added = target.adopt(found, session.server.now())
    session.record.messages = len(added)
    uids = [message.uid for message in found]
    if not added or not session.has("UIDPLUS"):
        return uids, ""
    pair = f"{format_uids(uids).decode()} {format_uids(added).decode()}"
    return uids, f"COPYUID {target.uidvalidity} {pair}"


async def move(session: Session, arguments: Arguments) -> Done:
    """MOVE and UID MOVE (RFC 6851): COPYUID comes untagged, before the EXPUNGEs."""
    ranges = session.resolve(arguments.sequence_set(), session.record.name.startswith("UID "))
    arguments.space()
    name = read_name(session, arguments)
    arguments.end()
    box = require_writable(session)
    target = find(session, name, "TRYCREATE")
    await session.charge_messages(count_ranges(ranges))
    ranges, code = session.limit_messages(ranges)
    uids, copied = _copy(session, ranges, target)
    if copied:
        session.untagged(b"OK [" + copied.encode("ascii") + b"] Moved")
    box.expunge(uids)
    return Done(f"{session.record.name} completed", code or expunged_code(session, len(uids)))


def expunged_code(session: Session, count: int) -> str:
    """After an expunge that QRESYNC clients must be able to go on from (RFC 7162 3.2.7, 3.2.8)."""
    if not count or "QRESYNC" not in session.enabled:
        return ""
    return f"HIGHESTMODSEQ {session.selected.highest_modseq}"


async def expunge(session: Session, arguments: Arguments) -> Done:
    """EXPUNGE, and UID EXPUNGE of a set (RFC 4315)."""
    box = require_writable(session)
    code = ""
    if session.record.name == "UID EXPUNGE":
        ranges = session.resolve(arguments.sequence_set(), True)
        arguments.end()
        ranges, code = session.limit_messages(ranges)
        candidates = _uids(session, ranges)
    else:
        arguments.end()
        candidates = list(session.view)
    gone = box.expunge([uid for uid in candidates if "\\Deleted" in box.flags_of(uid)])
    session.record.messages = len(gone)
    return Done(f"{session.record.name} completed", code or expunged_code(session, len(gone)))


COMMANDS: dict[str, Entry] = {
    "COPY": Entry(copy, "selected"),
    "UID COPY": Entry(copy, "selected"),
    "MOVE": Entry(move, "selected", "MOVE"),
    "UID MOVE": Entry(move, "selected", "MOVE"),
    "EXPUNGE": Entry(expunge, "selected"),
    "UID EXPUNGE": Entry(expunge, "selected", "UIDPLUS"),
}
