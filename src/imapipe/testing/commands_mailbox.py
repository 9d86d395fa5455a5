"""Commands on mailboxes: SELECT to STATUS."""

from __future__ import annotations

from .arguments import Arguments, BadCommand, Refused, format_uids, resolve_set
from .mailbox import Mailbox
from .mailboxes import SEPARATOR, canonical, decode_mailbox_name, encode_mailbox_name
from .session import Done, Entry, Session
from .structure import nstring

_STATUS_EXTENSION: dict[str, str] = {
    "MESSAGES": "",
    "RECENT": "",
    "UIDNEXT": "",
    "UIDVALIDITY": "",
    "UNSEEN": "",
    "DELETED": "",
    "SIZE": "STATUS=SIZE",
    "HIGHESTMODSEQ": "CONDSTORE",
    "MAILBOXID": "OBJECTID",
}


def read_name(session: Session, arguments: Arguments) -> str:
    """Read a mailbox name."""
    wire = arguments.astring()
    return canonical(wire.decode("utf-8", "replace") if session.utf8 else decode_mailbox_name(wire))


def write_name(session: Session, name: str) -> bytes:
    """A mailbox name as the session wants it."""
    if session.utf8:
        return nstring(name.encode("utf-8"), "quoted", utf8=True)
    return nstring(encode_mailbox_name(name), "literal" if session.server.strings == "literal" else "quoted")


def find(session: Session, name: str, code: str = "NONEXISTENT") -> Mailbox:
    """The mailbox of that name.

    Raises:
        Refused: There is none.
    """
    box = session.server.mailboxes.get(name)
    if box is None:
        raise Refused("Mailbox doesn't exist", code)
    return box


async def select(session: Session, arguments: Arguments) -> Done:
    """SELECT and EXAMINE, with CONDSTORE and QRESYNC parameters (RFC 7162)."""
    name = read_name(session, arguments)
    resync: tuple[int, int, bytes] | None = None
    if arguments.take(b" ("):
        resync = _read_parameters(session, arguments)
    arguments.end()
    read_only = session.record.name == "EXAMINE"
    if session.mailbox is not None:
        session.leave_mailbox()
        if "QRESYNC" in session.enabled:
            session.untagged(b"OK [CLOSED] Previous mailbox is closed")
    box = find(session, name)
    session.enter_mailbox(name, box, read_only or box.read_only)
    session.untagged(b"FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)")
    permanent = b"()" if session.read_only else b"(\\Answered \\Flagged \\Deleted \\Seen \\Draft \\*)"
    session.untagged(b"OK [PERMANENTFLAGS " + permanent + b"] Flags permitted")
    session.untagged(b"%d EXISTS" % len(session.view))
    session.untagged(b"0 RECENT")
    session.untagged(b"OK [UIDVALIDITY %d] UIDs valid" % box.uidvalidity)
    session.untagged(b"OK [UIDNEXT %d] Predicted next UID" % box.uidnext)
    if session.has("CONDSTORE"):
        session.untagged(b"OK [HIGHESTMODSEQ %d] Highest" % box.highest_modseq)
    if session.has("OBJECTID"):
        session.untagged(b"OK [MAILBOXID (%s)] Ok" % box.mailbox_id.encode("ascii"))
    if resync is not None and resync[0] == box.uidvalidity:
        await _resynchronise(session, box, resync[1], resync[2])
    return Done(f"{session.record.name} completed", "READ-ONLY" if session.read_only else "READ-WRITE")


def _read_parameters(session: Session, arguments: Arguments) -> tuple[int, int, bytes] | None:
    resync: tuple[int, int, bytes] | None = None
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
            resync = (uidvalidity, modseq, known)
        else:
            raise BadCommand(f"Unknown parameter {word}")
        if arguments.take(b")"):
            return resync
        arguments.space()


async def _resynchronise(session: Session, box: Mailbox, modseq: int, known: bytes) -> None:
    gone = sorted({uid for changed, uid in box.vanished if changed > modseq})
    if known:
        wanted = resolve_set(known, gone, True)
        gone = [gone[index] for low, high in wanted for index in range(low, high)]
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
    read_only = session.read_only
    session.leave_mailbox()
    if session.record.name == "CLOSE" and not read_only:
        box.expunge([uid for uid in box.uids if "\\Deleted" in box.flags_of(uid)])
    return Done(f"{session.record.name} completed")


async def create(session: Session, arguments: Arguments) -> Done:
    """CREATE."""
    name = read_name(session, arguments).removesuffix(SEPARATOR)
    if arguments.take(b" ("):
        arguments.rest()
    arguments.end()
    if name in session.server.mailboxes:
        raise Refused("Mailbox already exists", "ALREADYEXISTS")
    box = session.server.mailboxes.add(name)
    return Done("CREATE completed", f"MAILBOXID ({box.mailbox_id})" if session.has("OBJECTID") else "")


async def delete(session: Session, arguments: Arguments) -> Done:
    """DELETE."""
    name = read_name(session, arguments)
    arguments.end()
    find(session, name)
    if name == "INBOX":
        raise Refused("INBOX cannot be deleted", "CANNOT")
    if session.mailbox_name == name:
        session.leave_mailbox()
    session.server.mailboxes.remove(name)
    return Done("DELETE completed")


async def rename(session: Session, arguments: Arguments) -> Done:
    """RENAME."""
    old = read_name(session, arguments)
    arguments.space()
    new = read_name(session, arguments)
    arguments.end()
    find(session, old)
    if new in session.server.mailboxes:
        raise Refused("Mailbox already exists", "ALREADYEXISTS")
    if old == "INBOX":
        target = session.server.mailboxes.add(new)
        inbox = session.server.mailboxes["INBOX"]
        target.adopt(list(inbox))
        inbox.expunge(inbox.uids)
    else:
        session.server.mailboxes.rename(old, new)
    return Done("RENAME completed")


async def subscribe(session: Session, arguments: Arguments) -> Done:
    """SUBSCRIBE and UNSUBSCRIBE."""
    name = read_name(session, arguments)
    arguments.end()
    find(session, name).subscribed = session.record.name == "SUBSCRIBE"
    return Done(f"{session.record.name} completed")


async def list_mailboxes(session: Session, arguments: Arguments) -> Done:
    """LIST and LSUB, with the selections and returns of RFC 5258, RFC 5819 and RFC 6154."""
    selection: set[str] = set()
    if session.has("LIST-EXTENDED") and arguments.take(b"("):
        selection = set(_read_words(arguments))
        arguments.space()
    reference = decode_mailbox_name(arguments.astring())
    arguments.space()
    patterns = _read_patterns(session, arguments)
    returns: set[str] = set()
    items: list[str] = []
    if arguments.take(b" RETURN ("):
        returns, items = _read_returns(session, arguments)
    arguments.end()
    command = session.record.name.encode("ascii")
    if patterns == [""]:
        session.untagged(command + b' (\\Noselect) "/" ""')
        return Done(f"{session.record.name} completed")
    boxes = session.server.mailboxes
    names = dict.fromkeys(name for pattern in patterns for name in boxes.matching(reference, pattern))
    for name in names:
        box = boxes[name]
        if (command == b"LSUB" or "SUBSCRIBED" in selection) and not box.subscribed:
            continue
        if "SPECIAL-USE" in selection and not box.special_use:
            continue
        attributes = ["\\HasChildren" if boxes.has_children(name) else "\\HasNoChildren"]
        if box.special_use and (session.has("SPECIAL-USE") or "SPECIAL-USE" in returns):
            attributes.append(box.special_use)
        if box.subscribed and ("SUBSCRIBED" in returns or "SUBSCRIBED" in selection):
            attributes.append("\\Subscribed")
        session.untagged(command + f' ({" ".join(attributes)}) "{SEPARATOR}" '.encode() + write_name(session, name))
        if items:
            session.untagged(status_line(session, name, box, items))
    return Done(f"{session.record.name} completed")


def _read_words(arguments: Arguments) -> list[str]:
    words: list[str] = []
    while not arguments.take(b")"):
        if words:
            arguments.space()
        words.append(arguments.word())
    return words


def _read_patterns(session: Session, arguments: Arguments) -> list[str]:
    def decode(wire: bytes) -> str:
        return wire.decode("utf-8", "replace") if session.utf8 else decode_mailbox_name(wire)

    if session.has("LIST-EXTENDED") and arguments.take(b"("):
        patterns = [decode(arguments.list_mailbox())]
        while not arguments.take(b")"):
            arguments.space()
            patterns.append(decode(arguments.list_mailbox()))
        return patterns
    return [decode(arguments.list_mailbox())]


def _read_returns(session: Session, arguments: Arguments) -> tuple[set[str], list[str]]:
    returns: set[str] = set()
    items: list[str] = []
    while not arguments.take(b")"):
        if returns:
            arguments.space()
        word = arguments.word()
        returns.add(word)
        if word == "STATUS":
            if not session.has("LIST-STATUS"):
                raise BadCommand("Unknown return option STATUS")
            arguments.expect(b" (")
            items = _read_words(arguments)
            _check_status_items(session, items)
    return returns, items


def _check_status_items(session: Session, items: list[str]) -> None:
    for item in items:
        extension = _STATUS_EXTENSION.get(item)
        if extension is None or (extension and not session.has(extension)):
            raise BadCommand(f"Unknown STATUS item {item}")


def status_line(session: Session, name: str, box: Mailbox, items: list[str]) -> bytes:
    """A STATUS response without ``*``."""
    values: dict[str, object] = {}
    for item in items:
        if item == "MESSAGES":
            values[item] = len(box)
        elif item == "RECENT":
            values[item] = 0
        elif item == "UIDNEXT":
            values[item] = box.uidnext
        elif item == "UIDVALIDITY":
            values[item] = box.uidvalidity
        elif item == "UNSEEN":
            values[item] = box.count_without("\\Seen")
        elif item == "DELETED":
            values[item] = box.count_with("\\Deleted")
        elif item == "SIZE":
            values[item] = box.total_size
        elif item == "HIGHESTMODSEQ":
            values[item] = box.highest_modseq
        else:
            values[item] = f"({box.mailbox_id})"
    pairs = " ".join(f"{item} {value}" for item, value in values.items())
    return b"STATUS " + write_name(session, name) + f" ({pairs})".encode("ascii")


async def status(session: Session, arguments: Arguments) -> Done:
    """STATUS."""
    name = read_name(session, arguments)
    arguments.expect(b" (")
    items = _read_words(arguments)
    arguments.end()
    _check_status_items(session, items)
    session.untagged(status_line(session, name, find(session, name), items))
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
    "LIST": Entry(list_mailboxes, "auth"),
    "LSUB": Entry(list_mailboxes, "auth"),
    "STATUS": Entry(status, "auth"),
}
