"""How far a mailbox had come: what a server said when it was opened, to be compared with what it says later.

UIDs only rise while UIDVALIDITY stays (RFC 9051 §2.3.1.1), and UIDNEXT never falls. Where it does fall (seen at GMX),
UIDs are given to other messages: whatever is remembered by UID is as worthless as after a change of UIDVALIDITY.

Invariant: a field that a server does not tell is None, and proves nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from imapipe.wire.uid_set import UidSet


@dataclass(frozen=True, slots=True)
class Cursor:
    """What is known of how far a mailbox had come.

    Attributes:
        uidnext: UIDNEXT: the UID that the next message will have.
        highest_uid: The highest UID of a message that was really met; a search may have found higher ones.
        highestmodseq: HIGHESTMODSEQ (RFC 7162).
        mailboxid: MAILBOXID (RFC 8474): the same under every name that the mailbox gets.
        exists: How many messages there were.
    """

    uidnext: int | None = None
    highest_uid: int | None = None
    highestmodseq: int | None = None
    mailboxid: str | None = None
    exists: int | None = None

    def told(self) -> dict[str, int | str]:
        """What is known, by the name of its field; the way back is `Cursor(**told)`."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def advanced(self, newer: Cursor) -> Cursor:
        """What is known when `newer` was learned after this one, of the same mailbox and UIDVALIDITY."""
        return Cursor(
            uidnext=self.uidnext if newer.uidnext is None else newer.uidnext,
            highest_uid=_higher(self.highest_uid, newer.highest_uid),
            highestmodseq=self.highestmodseq if newer.highestmodseq is None else newer.highestmodseq,
            mailboxid=self.mailboxid if newer.mailboxid is None else newer.mailboxid,
            exists=self.exists if newer.exists is None else newer.exists,
        )

    def met(self, uids: UidSet) -> Cursor:
        """The same after these messages were met."""
        if not uids or (self.highest_uid is not None and uids.max <= self.highest_uid):
            return self
        return Cursor(self.uidnext, uids.max, self.highestmodseq, self.mailboxid, self.exists)

    def lowest_uidnext(self) -> int | None:
        """What UIDNEXT can never be below again while UIDVALIDITY stays, or None where nothing is known."""
        return _higher(self.uidnext, None if self.highest_uid is None else self.highest_uid + 1)

    def is_behind(self, remembered: Cursor, found: UidSet | None = None) -> bool:
        """Whether what the server says now proves that UIDs were reissued since `remembered`.

        Args:
            remembered: What was known of the mailbox under the same UIDVALIDITY.
            found: UIDs that the server itself gave in this session. Where one of them is not below its UIDNEXT, that
                number is no proof against messages met earlier: it comes late, or is made up.
        """
        if not self.uidnext:
            return False
        if remembered.uidnext is not None and self.uidnext < remembered.uidnext:
            return True
        if remembered.highest_uid is None or self.uidnext > remembered.highest_uid:
            return False
        return not found or found.max < self.uidnext


def _higher(first: int | None, second: int | None) -> int | None:
    if first is None or second is None:
        return second if first is None else first
    return max(first, second)
