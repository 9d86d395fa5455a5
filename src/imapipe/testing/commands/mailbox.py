"""SELECT to STATUS: commands on mailboxes, without LIST."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..arguments import Arguments, BadCommand, Refused
from ..mailbox import Mailbox
from ..mailboxes import SEPARATOR
from ..ranges import format_uids, resolve_set
from ..session import Done, Entry, Session
from ..status import check_status_items, status_line
from .names import find, read_name, read_words
from .transfer import expunged_code

_SPECIAL_USES = {
    use.upper(): use for use in ("\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Junk", "\\Sent", "\\Trash")
}


@dataclass(frozen=True, slots=True)
class _Resync:
    """The parameter QRESYNC of SELECT (RFC 7162 3.2.5)."""

    uidvalidity: int
    modseq: int
    known: bytes


async def select(session: Session, arguments: Arguments) -> Done:
    """SELECT and EXAMINE, with CONDSTORE and QRESYNC parameters (RFC 7162)."""
    name = read_name(session, arguments)
    resync: _Resync | None = None
    if arguments.take(b" ("):
        resync = _read_parameters(session, arguments)
    arguments.end()
    read_only = session.record.name == "EXAMINE"
    if session.mailbox is not None:
        session.leave_mailbox()
        if "QRESYNC" in session.enabled:
            session.untagged(b"OK [CLOSED] Previous mailbox is closed")
    # As Dovecot has it, which gives no code here.
    box = find(session, name, "")
    session.enter_mailbox(name, box, read_only or box.read_only)
    session.write_flag_names()
    session.untagged(b"%d EXISTS" % len(session.view))
    session.untagged(b"0 RECENT")
    session.untagged(b"OK [UIDVALIDITY %d] UIDs valid" % box.uidvalidity)
    session.untagged(b"OK [UIDNEXT %d] Predicted next UID" % box.uidnext)
    session.write_highest_modseq()
    if session.has("OBJECTID"):
        session.untagged(b"OK [MAILBOXID (%s)] Ok" % box.mailbox_id.encode("ascii"))
    if resync is not None and resync.uidvalidity == box.uidvalidity and box.mod_sequences:
        await _resynchronise(session, box, resync.modseq, resync.known)
    return Done(f"{session.record.name} completed", "READ-ONLY" if session.read_only else "READ-WRITE")


def _read_parameters(session: Session, arguments: Arguments) -> _Resync | None:
    resync: _Resync | None = None
    while True:
        word = arguments.word()
        if word == "CONDSTORE" and session.has("CONDSTORE"):
            session.enabled.add("CONDSTORE")
        elif word == "QRESYNC" and "QRESYNC" in session.enabled:
            arguments.expect(b" (")
            uidvalidity = arguments.number()
            arguments.space()
            modseq = arguments.number()
            known = b""
            if arguments.take(b" ") and arguments.peek() != b"(":
                known = arguments.sequence_set()
                arguments.take(b" ")
            if arguments.take(b"("):
                arguments.sequence_set()
                arguments.space()
                arguments.sequence_set()
                arguments.expect(b")")
            arguments.expect(b")")
            resync = _Resync(uidvalidity, modseq, known)
        else:
            raise BadCommand(f"Unknown parameter {word}")
        if arguments.take(b")"):
            return resync
        arguments.space()


async def _resynchronise(session: Session, box: Mailbox, modseq: int, known: bytes) -> None:
    gone: Sequence[int] = box.vanished_since(modseq)
    if known:
        gone = [gone[index] for low, high in resolve_set(known, gone, True) for index in range(low, high)]
    if gone:
        session.untagged(b"VANISHED (EARLIER) " + format_uids(gone))
    if box.highest_modseq <= modseq:
        return
    for number, uid in enumerate(session.view, 1):
        message = box.get(uid)
        if message is not None and message.modseq > modseq:
            data = b"FLAGS %s MODSEQ (%d))" % (message.flags_text, message.modseq)
            if session.uid_only:
                await session.write(b"* %d UIDFETCH (%s\r\n" % (uid, data))
            else:
                await session.write(b"* %d FETCH (UID %d %s\r\n" % (number, uid, data))


async def unselect(session: Session, arguments: Arguments) -> Done:
    """UNSELECT, and CLOSE, which expunges what is marked deleted."""
    arguments.end()
    box = session.selected
    code = ""
    if session.record.name == "CLOSE" and not session.read_only:
        gone = box.expunge([uid for uid in box.uids if "\\Deleted" in box.flags_of(uid)])
        code = expunged_code(session, len(gone))
    session.leave_mailbox()
    return Done(f"{session.record.name} completed", code)


async def create(session: Session, arguments: Arguments) -> Done:
    """CREATE, with USE (RFC 6154)."""
    name = read_name(session, arguments).removesuffix(SEPARATOR)
    special_use = ""
    if session.has("CREATE-SPECIAL-USE") and arguments.take(b" (USE ("):
        special_use = _SPECIAL_USES.get(arguments.flag().upper(), "")
        arguments.expect(b"))")
        if not special_use or any(box.special_use == special_use for box in session.server.mailboxes.values()):
            raise Refused("That special use cannot be given", "USEATTR")
    arguments.end()
    if name in session.server.mailboxes:
        raise Refused("Mailbox already exists", "ALREADYEXISTS")
    box = session.server.mailboxes.add(name, special_use=special_use, subscribed=False)
    return Done("CREATE completed", f"MAILBOXID ({box.mailbox_id})" if session.has("OBJECTID") else "")


async def delete(session: Session, arguments: Arguments) -> Done:
    """DELETE."""
    name = read_name(session, arguments)
    arguments.end()
    find(session, name)
    if name == "INBOX":
        raise Refused("INBOX cannot be deleted", "CANNOT")
    if session.mailbox is session.server.mailboxes[name]:
        session.leave_mailbox()
    session.server.mailboxes.remove(name)
    return Done("DELETE completed")


async def rename(session: Session, arguments: Arguments) -> Done:
    """RENAME."""
    old = read_name(session, arguments)
    arguments.space()
    new = read_name(session, arguments)
    arguments.end()
    if not session.server.mailboxes.has_children(old):
        find(session, old)
    if new in session.server.mailboxes:
        raise Refused("Target mailbox already exists", "ALREADYEXISTS")
    if old == "INBOX":
        target = session.server.mailboxes.add(new, subscribed=False)
        inbox = session.server.mailboxes["INBOX"]
        target.adopt(list(inbox), session.server.now())
        inbox.expunge(inbox.uids)
    else:
        session.server.mailboxes.rename(old, new)
    return Done("RENAME completed")


async def subscribe(session: Session, arguments: Arguments) -> Done:
    """SUBSCRIBE and UNSUBSCRIBE."""
    name = read_name(session, arguments)
    arguments.end()
    wanted = session.record.name == "SUBSCRIBE"
    if wanted:
        find(session, name)
    session.server.mailboxes.subscribe(name, wanted)
    return Done(f"{session.record.name} completed")


async def status(session: Session, arguments: Arguments) -> Done:
    """STATUS."""
    name = read_name(session, arguments)
    arguments.expect(b" (")
    items = read_words(arguments)
    arguments.end()
    check_status_items(session, items)
    session.untagged(status_line(session, name, find(session, name, ""), items))
    return Done("STATUS completed")


COMMANDS: dict[str, Entry] = {
    "SELECT": Entry(select, "auth"),
    "EXAMINE": Entry(select, "auth"),
    "UNSELECT": Entry(unselect, "selected", "UNSELECT"),
    "CLOSE": Entry(unselect, "selected"),
    "CREATE": Entry(create, "auth"),
    "DELETE": Entry(delete, "auth"),
    "RENAME": Entry(rename, "auth"),
    "SUBSCRIBE": Entry(subscribe, "auth"),
    "UNSUBSCRIBE": Entry(subscribe, "auth"),
    "STATUS": Entry(status, "auth"),
}
