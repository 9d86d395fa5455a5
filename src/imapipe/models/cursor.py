"""How far a mailbox had come: what a server said when it was opened, to be compared with what it says later.

UIDs only rise while UIDVALIDITY stays (RFC 9051 §2.3.1.1), and UIDNEXT never falls. Where it does fall (seen at GMX),
UIDs are given to other messages: whatever is remembered by UID is as worthless as after a change of UIDVALIDITY. So is
it where MAILBOXID is another one: some servers have one UIDVALIDITY for all mailboxes, or count seconds by it.

Invariant: a field that a server does not tell, or makes up, is None, and proves nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

from imapipe.errors import UidValidityChanged
from imapipe.models.document import Document
from imapipe.models.json_value import JSON
from imapipe.wire.uid_set import MAX_UID, UidSet

# What stands where a server does not know better; as the UID of a next message both are as good as impossible.
_LARGEST_NUMBERS: Final = (2**31 - 1, MAX_UID)


@dataclass(frozen=True, slots=True)
class Cursor(Document):
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

    def to_dict(self) -> dict[str, JSON]:
        """The same: `imapipe.Cursor(**document["cursor"])` is the cursor again."""
        return {**self.told()}

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

    def is_behind(self, remembered: Cursor) -> bool:
        """Whether what the server says now proves that UIDs were reissued since `remembered`.

        Args:
            remembered: What was known of the mailbox under the same UIDVALIDITY.
        """
        return self._is_of_another(remembered) or self._is_below(remembered.lowest_uidnext())

    def leaves_open(self, remembered: Cursor) -> bool:
        """Whether the server must be asked once more before `is_behind` is believed: UIDNEXT is missing, or low."""
        lowest = remembered.lowest_uidnext()
        if lowest is None or self._is_of_another(remembered):
            return False
        return self.uidnext is None or self._is_below(lowest)

    def is_as_it_was(self, remembered: Cursor) -> bool:
        """Whether the numbers prove that nothing happened since `remembered`, as far as a server's numbers can."""
        told = self.uidnext, self.highestmodseq
        return None not in told and told == (remembered.uidnext, remembered.highestmodseq)

    def _is_of_another(self, remembered: Cursor) -> bool:
        ids = self.mailboxid, remembered.mailboxid
        return None not in ids and ids[0] != ids[1]

    def _is_below(self, lowest: int | None) -> bool:
        return self.uidnext is not None and lowest is not None and self.uidnext < lowest


def possible_uidnext(told: int | None, exists: int) -> int | None:
    """UIDNEXT as it was told, or None where it cannot be one.

    Args:
        told: What the server said.
        exists: How many messages there are: so many UIDs below it are taken.
    """
    return told if told and told > exists and told not in _LARGEST_NUMBERS else None


def reissued(
    mailbox: str, then: tuple[int, Cursor | None], now: tuple[int, Cursor], advice: str
) -> UidValidityChanged | None:
    """What to raise where UIDs that were seen at an earlier time mean other messages now, or None.

    Args:
        mailbox: The name of the mailbox.
        then: UIDVALIDITY under which they were seen, and what was known of the mailbox, if anything.
        now: What the server says.
        advice: What to do about it.
    """
    (expected, remembered), (found, cursor) = then, now
    if expected != found:
        return UidValidityChanged(mailbox, expected=expected, found=found, advice=advice)
    if remembered is None or not cursor.is_behind(remembered):
        return None
    return UidValidityChanged(
        mailbox,
        expected=expected,
        found=found,
        expected_uidnext=remembered.lowest_uidnext(),
        found_uidnext=cursor.uidnext,
        expected_mailboxid=remembered.mailboxid,
        found_mailboxid=cursor.mailboxid,
        advice=advice,
    )


def _higher(first: int | None, second: int | None) -> int | None:
    if first is None or second is None:
        return second if first is None else first
    return max(first, second)
