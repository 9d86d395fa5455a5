"""What is refused before a change begins: what the mailbox, its server or its account cannot do without harm."""

from __future__ import annotations

from imapipe.errors import CapabilityMissing, CommandNo
from imapipe.net.connection import Connection
from imapipe.pipeline.operation.message_change import TRASH, MessageChange, added_and_removed
from imapipe.pipeline.operation.step import DELETED, target_numbers

# The kinds of changes for which messages may have to be marked.
_BY_MARKING = frozenset(("move", "delete"))


async def check_change(connection: Connection, operation: MessageChange, mailbox: str) -> str:
    """Refuse what cannot be done safely; gives the name of the target, or "".

    Args:
        connection: A connection with the mailbox open for writing.
        operation: The change.
        mailbox: The name of the mailbox.

    Raises:
        CommandNo: No such mailbox, or it keeps no such flags.
        CapabilityMissing: The server cannot do it without harm.
    """
    selected = connection.selected
    if selected is not None and selected.permanent_flags is not None:
        kept = {flag.lower() for flag in selected.permanent_flags}
        refused = [flag for flag in _stored(connection, operation) if not _is_kept(flag, kept)]
        if refused:
            reason = f"{mailbox!r} does not keep the flag {refused[0]}: choose one of those it keeps"
            if operation.kind in _BY_MARKING:
                reason = f"{mailbox!r} does not keep {DELETED}, so no message of it can be removed: ask for more rights"
            raise CommandNo("STORE", "PERMANENTFLAGS", reason)
    if operation.kind == "delete" and connection.offers("X-GM-EXT-1"):
        await _check_gmail(connection, mailbox)
    if not operation.target:
        return ""
    target = operation.target
    if target == TRASH:
        target = await _trash(connection)
        if target == mailbox:
            reason = f"{mailbox!r} is the Trash itself: to remove messages for good say delete(permanently=True)"
            raise CommandNo("MOVE", "TRASH", reason)
    if target == mailbox:
        raise CommandNo(operation.kind.upper(), "SAME", f"the messages are in {mailbox!r} already: name another")
    await target_numbers(connection, target)
    return target


async def _check_gmail(connection: Connection, mailbox: str) -> None:
    """On Gmail an EXPUNGE removes a label; only in Trash and Spam does it remove the message."""
    roles = {entry.name: (entry.special_use or "").lower() for entry in await connection.list()}
    if roles.get(mailbox) not in ("\\trash", "\\junk"):
        raise CapabilityMissing(
            "EXPUNGE of messages outside of Trash: Gmail only takes the label away; use delete(), "
            "and delete(permanently=True) in its Trash"
        )


async def _trash(connection: Connection) -> str:
    for entry in await connection.list():
        if entry.is_selectable and (entry.special_use or "").lower() == TRASH.lower():
            return str(entry.name)
    reason = "the account has no mailbox with the use \\Trash: name one with move_to(), or say delete(permanently=True)"
    raise CommandNo("LIST", "TRASH", reason)


def _stored(connection: Connection, operation: MessageChange) -> tuple[str, ...]:
    """The flags that are changed here."""
    if operation.kind == "delete" or (operation.kind == "move" and not connection.offers("MOVE")):
        return (DELETED,)
    added, removed = added_and_removed(operation.kind, operation.flags)
    # A keyword that is taken away need not be one that the mailbox has.
    return added + tuple(flag for flag in removed if flag.startswith("\\"))


def _is_kept(flag: str, kept: set[str]) -> bool:
    """Whether the mailbox keeps a flag, or takes it for a new keyword."""
    return flag.lower() in kept or (not flag.startswith("\\") and "\\*" in kept)
