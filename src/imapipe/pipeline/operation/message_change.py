r"""Changes of messages as values: flags, another mailbox, removal. Making one does no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from imapipe.wire.command.encoder import flag_list

TRASH = "\\Trash"


@dataclass(frozen=True, slots=True)
class MessageChange:
    r"""A change of messages. Made by `imapipe.move_to`, `copy_to`, `add_flags`, `remove_flags`, `set_flags`, `delete`.

    Attributes:
        kind: `move`, `copy`, `delete` (for good), `add`, `remove` or `set` (flags).
        target: The other mailbox; `\Trash` is the one with that special use.
        flags: The flags.
    """

    kind: str
    target: str = ""
    flags: tuple[str, ...] = ()


def add_flags(*flags: str) -> MessageChange:
    r"""Give messages flags, such as `\Seen` or `$Work`. Raises ValueError for what cannot be one."""
    return _flags("add", flags)


def remove_flags(*flags: str) -> MessageChange:
    """Take flags away from messages; raises as `add_flags` does."""
    return _flags("remove", flags)


def set_flags(*flags: str) -> MessageChange:
    """Give messages these flags instead of all that they have, maybe none; raises as `add_flags` does."""
    return _flags("set", flags)


def move_to(mailbox: str) -> MessageChange:
    """Move messages into another mailbox of the account. Raises TypeError, ValueError for what cannot be its name."""
    return MessageChange("move", _name(mailbox))


def copy_to(mailbox: str) -> MessageChange:
    """Copy messages into another mailbox of the account; raises as `move_to` does."""
    return MessageChange("copy", _name(mailbox))


def delete(*, permanently: bool = False) -> MessageChange:
    r"""Move messages to the mailbox with the use `\Trash`, or remove them for good."""
    return MessageChange("delete") if permanently else MessageChange("move", TRASH)


def _flags(kind: str, flags: tuple[str, ...]) -> MessageChange:
    flag_list(flags)
    if kind != "set" and not flags:
        raise ValueError("name at least one flag")
    return MessageChange(kind, flags=tuple(dict.fromkeys(flags)))


def _name(mailbox: str) -> str:
    if not isinstance(mailbox, str):
        raise TypeError(f"a mailbox is named by a text, not by {mailbox!r}")
    if not mailbox or any(character in mailbox for character in "\r\n\0"):
        raise ValueError(f"{mailbox!r} cannot be the name of a mailbox")
    return "INBOX" if mailbox.upper() == "INBOX" else mailbox
