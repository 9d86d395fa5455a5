r"""Changes of messages as values: flags, another mailbox, removal; and the operation that a run makes of one.

A change is done on one connection, a batch at a time: so at most one command is ever in doubt, and after a
crash it can be told what came of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from imapipe.journal.entry import Job
from imapipe.models.batch import Batch
from imapipe.pipeline.operation.base import Observe, Work, Workbench
from imapipe.pipeline.operation.changing import ChangeSession, Changing
from imapipe.wire.command.encoder import flag_list, uid_text_room
from imapipe.wire.uid_set import UidSet

TRASH = "\\Trash"

_WORDS = {"add": "+FLAGS.SILENT", "remove": "-FLAGS.SILENT", "set": "FLAGS.SILENT"}


@dataclass(frozen=True, slots=True)
class ChangeMessages:
    r"""Change the messages of a run (an `Operation`).

    Attributes:
        kind: `move`, `copy`, `delete` (for good), `add`, `remove` or `set` (flags).
        target: The other mailbox; `\Trash` is the one with that special use.
        flags: The flags.
        session: What the batches of a run share; every run has its own.
    """

    kind: str
    target: str = ""
    flags: tuple[str, ...] = ()
    session: ChangeSession | None = None

    @property
    def writes(self) -> bool:
        """See `Operation`."""
        return True

    @property
    def needs(self) -> frozenset[str]:
        """See `Operation`."""
        return frozenset()

    @property
    def items(self) -> frozenset[str]:
        """See `Operation`."""
        return frozenset()

    @property
    def max_uid_text_bytes(self) -> int:
        """See `Operation`."""
        words = b"UID STORE (UNCHANGEDSINCE 9223372036854775807) " + " ".join(self.flags).encode()
        return uid_text_room(words + self.target.encode("utf-7") + b" " * 20)

    def describe(self) -> str:
        """See `Operation`."""
        if self.kind in _WORDS:
            return f"STORE {_WORDS[self.kind]} ({' '.join(self.flags)})"
        return f"{self.kind.upper()} {self.target!r}" if self.target else f"{self.kind.upper()} for good"

    def job(self, account: str, mailbox: str, uidvalidity: int, target: str) -> Job:
        """What a journal of it says at its beginning."""
        return Job(account, mailbox, uidvalidity, self.kind, target, self.flags)

    def commands(self, uids: UidSet, target: str, *, moves: bool, expunges: bool) -> list[str]:
        """What is sent for some messages, for people to read."""
        text = uids.text()
        if self.kind in _WORDS:
            return [f"UID STORE {text} {_WORDS[self.kind]} ({' '.join(self.flags)})"]
        removal = [f"UID STORE {text} +FLAGS.SILENT (\\Deleted)", *([f"UID EXPUNGE {text}"] if expunges else [])]
        if self.kind == "delete":
            return removal
        if self.kind == "move" and moves:
            return [f"UID MOVE {text} {target!r}"]
        copied = f"UID COPY {text} {target!r}"
        return [copied, *removal] if self.kind == "move" else [copied]

    def begin(self, batch: Batch, bench: Workbench, observe: Observe) -> Work:
        """See `Operation`."""
        assert self.session is not None
        return Changing(self.session, batch, bench)


def add_flags(*flags: str) -> ChangeMessages:
    r"""Give messages flags, such as `\Seen` or `$Work`. Raises ValueError for what cannot be one."""
    return _flags("add", flags)


def remove_flags(*flags: str) -> ChangeMessages:
    """Take flags away from messages; raises as `add_flags` does."""
    return _flags("remove", flags)


def set_flags(*flags: str) -> ChangeMessages:
    """Give messages these flags instead of all that they have, maybe none; raises as `add_flags` does."""
    return _flags("set", flags)


def move_to(mailbox: str) -> ChangeMessages:
    """Move messages into another mailbox of the account. Raises TypeError, ValueError for what cannot be its name."""
    return ChangeMessages("move", _name(mailbox))


def copy_to(mailbox: str) -> ChangeMessages:
    """Copy messages into another mailbox of the account; raises as `move_to` does."""
    return ChangeMessages("copy", _name(mailbox))


def delete(*, permanently: bool = False) -> ChangeMessages:
    r"""Move messages to the mailbox with the use `\Trash`, or remove them for good."""
    return ChangeMessages("delete") if permanently else ChangeMessages("move", TRASH)


def _flags(kind: str, flags: tuple[str, ...]) -> ChangeMessages:
    flag_list(flags)
    if kind != "set" and not flags:
        raise ValueError("name at least one flag")
    return ChangeMessages(kind, flags=tuple(dict.fromkeys(flags)))


def _name(mailbox: str) -> str:
    if not isinstance(mailbox, str):
        raise TypeError(f"a mailbox is named by a text, not by {mailbox!r}")
    if not mailbox or any(character in mailbox for character in "\r\n\0"):
        raise ValueError(f"{mailbox!r} cannot be the name of a mailbox")
    return "INBOX" if mailbox.upper() == "INBOX" else mailbox
