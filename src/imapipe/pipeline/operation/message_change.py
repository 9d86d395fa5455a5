r"""Changes of messages as values: flags, another mailbox, removal. Making one does no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from imapipe.models.argument import check_consent
from imapipe.wire.command.encoder import flag_list
from imapipe.wire.mailbox_name import can_be_mailbox_name

TRASH = "\\Trash"


@dataclass(frozen=True, slots=True)
class MessageChange:
    r"""A change of messages. Made by `imapipe.move_to`, `copy_to`, `delete`, `add_flags`, `set_flags` and their like.

    Attributes:
        kind: `move`, `copy`, `delete` (for good), `add`, `remove`, `set` or `change` (flags).
        target: The other mailbox; `\Trash` is the one with that special use.
        flags: The flags; of a `change` each with its sign.
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


def change_flags(*words: str) -> MessageChange:
    r"""Give messages some flags and take others away, such as `+\Seen` and `-$Junk`.

    Raises:
        ValueError: A word without `+` or `-`, what cannot be a flag, or a flag that is to be given and taken away.
    """
    unsigned = [word for word in words if word[:1] not in ("+", "-")]
    if unsigned:
        raise ValueError(f"put + or - before each flag: {unsigned[0]!r} has none")
    added, removed = added_and_removed("change", words)
    if both := {flag.lower() for flag in added} & {flag.lower() for flag in removed}:
        raise ValueError(f"{min(both)} is to be given and taken away: choose one of the two")
    if not removed:
        return add_flags(*added)
    if not added:
        return remove_flags(*removed)
    flag_list((*added, *removed))
    return MessageChange("change", flags=tuple(dict.fromkeys(words)))


def added_and_removed(kind: str, flags: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The flags that a change of a kind gives, and those that it takes away; those that `set` takes are not known."""
    if kind == "change":
        return tuple(flag[1:] for flag in flags if flag[0] == "+"), tuple(flag[1:] for flag in flags if flag[0] == "-")
    return ((), tuple(flags)) if kind == "remove" else (tuple(flags), ())


def move_to(mailbox: str) -> MessageChange:
    """Move messages into another mailbox of the account. Raises TypeError, ValueError for what cannot be its name."""
    return MessageChange("move", _name(mailbox))


def copy_to(mailbox: str) -> MessageChange:
    """Copy messages into another mailbox of the account; raises as `move_to` does."""
    return MessageChange("copy", _name(mailbox))


def delete(*, permanently: bool = False) -> MessageChange:
    r"""Move messages to the mailbox with the use `\Trash`, or remove them for good.

    Raises:
        TypeError: `permanently` is neither True nor False.
    """
    check_consent("permanently", permanently)
    return MessageChange("delete") if permanently else MessageChange("move", TRASH)


def _flags(kind: str, flags: tuple[str, ...]) -> MessageChange:
    flag_list(flags)
    if kind != "set" and not flags:
        raise ValueError("name at least one flag")
    return MessageChange(kind, flags=tuple(dict.fromkeys(flags)))


def _name(mailbox: str) -> str:
    if not isinstance(mailbox, str):
        raise TypeError(f"a mailbox is named by a text, not by {mailbox!r}")
    if not can_be_mailbox_name(mailbox):
        raise ValueError(f"{mailbox!r} cannot be the name of a mailbox")
    return "INBOX" if mailbox.upper() == "INBOX" else mailbox
