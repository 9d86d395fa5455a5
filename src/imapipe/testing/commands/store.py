"""STORE and UID STORE."""

from __future__ import annotations

from ..arguments import Arguments, BadCommand
from ..fetch_items import write_label
from ..mailbox import Mailbox
from ..mailboxes import decode_mailbox_name
from ..ranges import count_ranges, format_uids
from ..session import Done, Entry, Session
from ..stored import SYSTEM_FLAGS, StoredMessage, normal_flags
from .writable import permitted_flags, require_writable


async def store(session: Session, arguments: Arguments) -> Done:
    """STORE and UID STORE, with UNCHANGEDSINCE (RFC 7162) and Gmail labels."""
    name = session.record.name
    by_uid = name == "UID STORE"
    ranges = session.resolve(arguments.sequence_set(), by_uid)
    arguments.space()
    since: int | None = None
    if session.has("CONDSTORE") and arguments.take(b"(UNCHANGEDSINCE "):
        session.require_mod_sequences()
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
        words = _check_flags(arguments.flag_list())
    else:
        raise BadCommand(f"Unknown STORE item {item}")
    arguments.end()
    box = require_writable(session)
    await session.charge_messages(count_ranges(ranges))
    ranges, code = session.limit_messages(ranges)
    if item == "FLAGS" and sign != "-":
        words = permitted_flags(box, words)
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
            changed = _change(session, box, uid, sign, item, words)
            session.record.messages += 1
            if changed or session.server.tell_unchanged:
                await _tell(session, box[uid], index, item, silent, by_uid)
    if modified:
        code = "MODIFIED " + format_uids(modified).decode("ascii")
    return Done(f"{name} completed", code)


def _check_flags(flags: list[str]) -> list[str]:
    for flag in flags:
        if flag.startswith("\\") and not normal_flags([flag]) <= set(SYSTEM_FLAGS):
            raise BadCommand(f"Invalid system flag {flag}")
    return flags


def _read_labels(arguments: Arguments) -> list[str]:
    arguments.expect(b"(")
    labels: list[str] = []
    while not arguments.take(b")"):
        if labels:
            arguments.space()
        quoted = arguments.peek() in (b'"', b"{")
        labels.append(decode_mailbox_name(arguments.string()) if quoted else arguments.flag())
    return labels


def _change(session: Session, box: Mailbox, uid: int, sign: str, item: str, words: list[str]) -> bool:
    message = box.writable(uid)
    old: frozenset[str] = message.flags if item == "FLAGS" else frozenset(message.labels)
    given = normal_flags(words)
    new = old | given if sign == "+" else old - given if sign == "-" else given
    if item == "FLAGS":
        box.set_flags(uid, new, but=session)
    else:
        box.set_labels(uid, new, but=session)
    return new != old


async def _tell(session: Session, message: StoredMessage, index: int, item: str, silent: bool, by_uid: bool) -> None:
    if not silent:
        session.write_new_keywords()
        session.flags_told(message.uid)
    parts: list[bytes] = []
    if (by_uid or "QRESYNC" in session.enabled) and not session.uid_only:
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


COMMANDS: dict[str, Entry] = {
    "STORE": Entry(store, "selected", expunges=False),
    "UID STORE": Entry(store, "selected"),
}
