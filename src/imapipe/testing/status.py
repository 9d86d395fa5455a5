"""STATUS responses (RFC 3501 7.2.4), for STATUS, LIST-STATUS and NOTIFY."""

from __future__ import annotations

from collections.abc import Sequence

from .arguments import BadCommand
from .mailbox import Mailbox
from .view import MailboxView

_EXTENSION_OF: dict[str, str] = {
    "MESSAGES": "",
    "RECENT": "",
    "UIDNEXT": "",
    "UIDVALIDITY": "",
    "UNSEEN": "",
    "DELETED": "",
    "SIZE": "STATUS=SIZE",
    "HIGHESTMODSEQ": "CONDSTORE",
    "MAILBOXID": "OBJECTID",
    "APPENDLIMIT": "APPENDLIMIT",
}


def check_status_items(view: MailboxView, items: Sequence[str]) -> None:
    """Find every item known.

    Raises:
        BadCommand: One is not, or there is none.
    """
    if not items:
        raise BadCommand("Empty status list")
    for item in items:
        extension = _EXTENSION_OF.get(item)
        if extension is None or (extension and not view.has(extension)):
            raise BadCommand(f"Invalid status item {item}")


def status_line(view: MailboxView, name: str, box: Mailbox, items: Sequence[str]) -> bytes:
    """A STATUS response without ``*``."""
    pairs = " ".join(f"{item} {_value(view, box, item)}" for item in dict.fromkeys(items))
    return b"STATUS " + view.write_name(name) + f" ({pairs})".encode("ascii")


def _value(view: MailboxView, box: Mailbox, item: str) -> int | str:
    if item == "MESSAGES":
        return len(box)
    if item == "UIDNEXT":
        return box.uidnext
    if item == "UIDVALIDITY":
        return box.uidvalidity
    if item == "UNSEEN":
        return box.count_without("\\Seen")
    if item == "DELETED":
        return box.count_with("\\Deleted")
    if item == "SIZE":
        return box.total_size
    if item == "HIGHESTMODSEQ":
        return box.highest_modseq if box.mod_sequences else 0
    if item == "MAILBOXID":
        return f"({box.mailbox_id})"
    if item == "APPENDLIMIT":
        return "NIL" if view.server.append_limit is None else view.server.append_limit
    # Nobody is told of \Recent.
    return 0
