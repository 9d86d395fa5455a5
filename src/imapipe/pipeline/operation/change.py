"""The operation that a run makes of a change of messages: flags, another mailbox, removal.

A change is done on one connection, a batch at a time: so at most one command is ever in doubt, and after a
crash it can be told what came of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from imapipe.journal.entry import Job
from imapipe.models.batch import Batch
from imapipe.pipeline.operation.acting import ActingOperation
from imapipe.pipeline.operation.base import Observe, Work, Workbench
from imapipe.pipeline.operation.changing import ChangeSession, Changing
from imapipe.pipeline.operation.flagging import FLAG_KINDS, stores
from imapipe.pipeline.operation.message_change import MessageChange
from imapipe.wire.command.encoder import uid_text_room
from imapipe.wire.uid_set import UidSet


@dataclass(frozen=True, slots=True)
class ChangeMessages(MessageChange, ActingOperation):
    """Change the messages of a run (an `Operation`).

    Attributes:
        session: What the batches of a run share; every run has its own.
    """

    session: ChangeSession | None = None

    @property
    def writes(self) -> bool:
        """See `Operation`."""
        return True

    @property
    def max_uid_text_bytes(self) -> int:
        """See `Operation`."""
        words = b"UID STORE (UNCHANGEDSINCE 9223372036854775807) " + " ".join(self.flags).encode()
        return uid_text_room(words + self.target.encode("utf-7") + b" " * 20)

    @property
    def compares_modseq(self) -> bool:
        """Whether the mailbox is to be opened with mod-sequences.

        Once asked for them a server tells one for each message that is changed, silent or not: only where needed.
        """
        return self.kind == "set"

    def describe(self) -> str:
        """See `Operation`."""
        if self.kind in FLAG_KINDS:
            return f"STORE {' '.join(self._stored())}"
        return f"{self.kind.upper()} {self.target!r}" if self.target else f"{self.kind.upper()} for good"

    def job(self, account: str, mailbox: str, uidvalidity: int, target: str) -> Job:
        """What a journal of it says at its beginning."""
        return Job(account, mailbox, uidvalidity, self.kind, target, self.flags)

    def commands(self, uids: UidSet, target: str, *, moves: bool, expunges: bool) -> list[str]:
        """What is sent for some messages, for people to read."""
        text = uids.text()
        if self.kind in FLAG_KINDS:
            return [f"UID STORE {text} {words}" for words in self._stored()]
        removal = [f"UID STORE {text} +FLAGS.SILENT (\\Deleted)", *([f"UID EXPUNGE {text}"] if expunges else [])]
        if self.kind == "delete":
            return removal
        if self.kind == "move" and moves:
            return [f"UID MOVE {text} {target!r}"]
        copied = f"UID COPY {text} {target!r}"
        return [copied, *removal] if self.kind == "move" else [copied]

    def _stored(self) -> list[str]:
        return [f"{change.value}.SILENT ({' '.join(flags)})" for change, flags in stores(self.kind, self.flags)]

    def begin(self, batch: Batch, bench: Workbench, observe: Observe) -> Work:
        """See `Operation`."""
        assert self.session is not None
        return Changing(self.session, batch, bench)
