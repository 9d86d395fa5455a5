"""Commands that change messages: STORE, COPY, MOVE, EXPUNGE, APPEND."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from .arguments import Arguments, BadCommand, IndexRanges, Refused, count_ranges, format_uids
from .commands_fetch import limit_ranges
from .commands_mailbox import find, read_name
from .fetch_items import write_label
from .mailbox import Mailbox, StoredMessage, normal_flags
from .mailboxes import decode_mailbox_name
from .session import Done, Entry, Session

_DATE_TIME = re.compile(rb'"([ \d]?\d)-([A-Za-z]{3})-(\d{4}) (\d{2}):(\d{2}):(\d{2}) ([+-])(\d{2})(\d{2})"')
_MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()


def _uids(session: Session, ranges: IndexRanges) -> list[int]:
    return [session.view[index] for low, high in ranges for index in range(low, high)]


def _require_writable(session: Session) -> Mailbox:
    box = session.selected
    if session.read_only:
        raise Refused("Mailbox is read-only", "READ-ONLY")
    return box


async def store(session: Session, arguments: Arguments) -> Done:
    """STORE and UID STORE, with UNCHANGEDSINCE (RFC 7162) and Gmail labels."""
    name = session.record.name
    by_uid = name == "UID STORE"
    ranges = session.resolve(arguments.sequence_set(), by_uid)
    arguments.space()
    since: int | None = None
    if session.has("CONDSTORE") and arguments.take(b"(UNCHANGEDSINCE "):
        since = arguments.number()
        arguments.expect(b") ")
        session.enabled.add("CONDSTORE")
    sign = arguments.peek().decode("latin-1") if arguments.peek() in (b"+", b"-") else ""
    arguments.at += len(sign)
    item = arguments.word()
    silent = item.endswith(".SILENT")
    item = item.removesuffix(".SILENT")
    arguments.space()
    if item == "X-GM-LABELS" and session.has("X-GM-EXT-1"):
        words = _read_labels(arguments)
    elif item == "FLAGS":
        words = arguments.flag_list()
    else:
        raise BadCommand(f"Unknown STORE item {item}")
    arguments.end()
    box = _require_writable(session)
    await session.charge_messages(count_ranges(ranges))
    ranges, code = limit_ranges(session, ranges)
    modified: list[int] = []
    for low, high in ranges:
        for index in range(low, high):
            uid = session.view[index]
            message = box.get(uid)
            if message is None:
                continue
            if since is not None and message.modseq > since:
                modified.append(uid if by_uid else index + 1)
                continue
            _change(session, box, uid, sign, item, words)
            session.record.messages += 1
            await _tell(session, box[uid], index, item, silent, by_uid)
    if modified:
        code = "MODIFIED " + format_uids(modified).decode("ascii")
    return Done(f"{name} completed", code)


def _read_labels(arguments: Arguments) -> list[str]:
    arguments.expect(b"(")
    labels: list[str] = []
    while not arguments.take(b")"):
        if labels:
            arguments.space()
        quoted = arguments.peek() in (b'"', b"{")
        labels.append(decode_mailbox_name(arguments.string()) if quoted else arguments.flag())
    return labels


def _change(session: Session, box: Mailbox, uid: int, sign: str, item: str, words: list[str]) -> None:
    message = box.writable(uid)
    old: frozenset[str] = message.flags if item == "FLAGS" else frozenset(message.labels)
    given = normal_flags(words)
    new = old | given if sign == "+" else old - given if sign == "-" else given
    if item == "FLAGS":
        box.set_flags(uid, new, but=session)
    elif new != old:
        message.labels = tuple(sorted(new))
        box.touch(message, but=session)


async def _tell(session: Session, message: StoredMessage, index: int, item: str, silent: bool, by_uid: bool) -> None:
    parts: list[bytes] = []
    if by_uid and not session.uid_only:
        parts.append(b"UID %d" % message.uid)
    if not silent and item == "FLAGS":
        parts.append(b"FLAGS " + message.flags_text)
    elif not silent:
        labels = b" ".join(write_label(label, session.server.strings) for label in message.labels)
        parts.append(b"X-GM-LABELS (" + labels + b")")
    if "CONDSTORE" in session.enabled:
        parts.append(b"MODSEQ (%d)" % message.modseq)
    elif silent:
        return
    body = b" ".join(parts)
    if session.uid_only:
        await session.write(b"* %d UIDFETCH (%s)\r\n" % (message.uid, body))
    else:
        await session.write(b"* %d FETCH (%s)\r\n" % (index + 1, body))


async def copy(session: Session, arguments: Arguments) -> Done:
    """COPY and UID COPY."""
    ranges = session.resolve(arguments.sequence_set(), session.record.name.startswith("UID "))
    arguments.space()
    name = read_name(session, arguments)
    arguments.end()
    target = find(session, name, "TRYCREATE")
    await session.charge_messages(count_ranges(ranges))
    kept, code = limit_ranges(session, ranges)
    if code:
        # COPY is all or nothing (RFC 3501 6.4.7), so above the limit nothing is copied.
        raise Refused("Too many messages", f"MESSAGELIMIT {session.server.message_limit}")
    code = _copy(session, kept, target)[1]
    return Done(f"{session.record.name} completed", code)


def _copy(session: Session, ranges: IndexRanges, target: Mailbox) -> tuple[list[int], str]:
    box = session.selected
    found = [message for uid in _uids(session, ranges) if (message := box.get(uid)) is not None]
    added = target.adopt(found)
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
    box = _require_writable(session)
    target = find(session, name, "TRYCREATE")
    await session.charge_messages(count_ranges(ranges))
    ranges, code = limit_ranges(session, ranges)
    uids, copied = _copy(session, ranges, target)
    if copied:
        session.untagged(b"OK [" + copied.encode("ascii") + b"] Moved")
    box.expunge(uids)
    return Done(f"{session.record.name} completed", code)


async def expunge(session: Session, arguments: Arguments) -> Done:
    """EXPUNGE, and UID EXPUNGE of a set (RFC 4315)."""
    box = _require_writable(session)
    code = ""
    if session.record.name == "UID EXPUNGE":
        ranges = session.resolve(arguments.sequence_set(), True)
        arguments.end()
        ranges, code = limit_ranges(session, ranges)
        candidates = _uids(session, ranges)
    else:
        arguments.end()
        candidates = list(session.view)
    gone = box.expunge([uid for uid in candidates if "\\Deleted" in box.flags_of(uid)])
    session.record.messages = len(gone)
    return Done(f"{session.record.name} completed", code)


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
            when = _read_date_time(arguments)
            arguments.space()
        if arguments.take(b"UTF8 (") and session.utf8:
            new.append((arguments.literal(), flags, when))
            arguments.expect(b")")
        else:
            new.append((arguments.literal(), flags, when))
    arguments.end()
    box = find(session, name, "TRYCREATE")
    limit = session.server.message_limit
    if limit is not None and session.has("MESSAGELIMIT") and len(new) > limit:
        raise Refused("Too many messages", f"MESSAGELIMIT {limit}")
    uids = [box.append(raw, flags, when or datetime.now(UTC)) for raw, flags, when in new]
    session.record.messages = len(uids)
    code = f"APPENDUID {box.uidvalidity} {format_uids(uids).decode('ascii')}" if session.has("UIDPLUS") else ""
    return Done("APPEND completed", code)


def _read_date_time(arguments: Arguments) -> datetime:
    match = _DATE_TIME.match(arguments.text, arguments.at)
    if match is None or match.group(2).decode("ascii").upper() not in _MONTHS:
        raise BadCommand("Expected a date")
    arguments.at = match.end()
    day, year, hour, minute, second = (int(match.group(group)) for group in (1, 3, 4, 5, 6))
    offset = timedelta(hours=int(match.group(8)), minutes=int(match.group(9)))
    month = _MONTHS.index(match.group(2).decode("ascii").upper()) + 1
    try:
        zone = timezone(-offset if match.group(7) == b"-" else offset)
        return datetime(year, month, day, hour, minute, second, tzinfo=zone)
    except ValueError:
        raise BadCommand("No such date") from None


COMMANDS: dict[str, Entry] = {
    "STORE": Entry(store, "selected", expunges=False),
    "UID STORE": Entry(store, "selected"),
    "COPY": Entry(copy, "selected"),
    "UID COPY": Entry(copy, "selected"),
    "MOVE": Entry(move, "selected", "MOVE"),
    "UID MOVE": Entry(move, "selected", "MOVE"),
    "EXPUNGE": Entry(expunge, "selected"),
    "UID EXPUNGE": Entry(expunge, "selected", "UIDPLUS"),
    "APPEND": Entry(append, "auth"),
}
