"""Mailboxes and messages: what they are not any more, what was not fetched, and more than was allowed."""

from __future__ import annotations

from imapipe.errors.base import ImapipeError


class UidValidityChanged(ImapipeError):
    """The UIDs kept name other messages now: another UIDVALIDITY, or UIDNEXT fell (RFC 9051 §2.3.1.1).

    Or the mailbox of that name is another one under the same UIDVALIDITY, as MAILBOXID shows (RFC 8474).

    Attributes:
        mailbox: The mailbox.
        expected: The UIDVALIDITY that is remembered.
        found: The UIDVALIDITY that the server tells; the same where something else shows it.
        expected_uidnext: What UIDNEXT cannot be below, where that is known; None where UIDVALIDITY shows it.
        found_uidnext: UIDNEXT as the server tells it; None where UIDVALIDITY shows it.
        expected_mailboxid: The MAILBOXID (RFC 8474) that is remembered; None where UIDVALIDITY shows it.
        found_mailboxid: The MAILBOXID that the server tells; None where UIDVALIDITY shows it.
        advice: What to do about it, which depends on what had kept the UIDs.
    """

    def __init__(
        self,
        mailbox: str,
        *,
        expected: int,
        found: int,
        expected_uidnext: int | None = None,
        found_uidnext: int | None = None,
        expected_mailboxid: str | None = None,
        found_mailboxid: str | None = None,
        advice: str = "search again",
    ) -> None:
        self.mailbox = mailbox
        self.expected = expected
        self.found = found
        self.expected_uidnext = expected_uidnext
        self.found_uidnext = found_uidnext
        self.expected_mailboxid = expected_mailboxid
        self.found_mailboxid = found_mailboxid
        self.advice = advice
        if expected != found:
            what = f"UIDVALIDITY of {mailbox!r} changed from {expected} to {found}"
        elif expected_mailboxid and found_mailboxid and expected_mailboxid != found_mailboxid:
            what = (
                f"{mailbox!r} is another mailbox with the same UIDVALIDITY {found}: MAILBOXID changed from "
                f"{expected_mailboxid} to {found_mailboxid}"
            )
        else:
            what = (
                f"UIDNEXT of {mailbox!r} fell from {expected_uidnext} to {found_uidnext} under the same UIDVALIDITY "
                f"{found}"
            )
        super().__init__(f"{what}: kept UIDs mean other messages now; {advice}")


class MessageVanished(ImapipeError, LookupError):
    """A message is no longer in its mailbox.

    Attributes:
        mailbox: The mailbox.
        uid: The UID that it had.
    """

    def __init__(self, mailbox: str, uid: int) -> None:
        self.mailbox = mailbox
        self.uid = uid
        super().__init__(f"message {uid} is no longer in {mailbox!r}")


class NotFetched(ImapipeError, LookupError):
    """A field of a message was read that was not asked for in `fetch(...)`."""

    def __init__(self, field: str, advice: str = "") -> None:
        self.field = field
        super().__init__(f"{field!r} was not fetched" + (f"; {advice}" if advice else ""))


class DeletionsRefused(ImapipeError):
    """More messages are gone from a mailbox than may be removed from its mirror; none was.

    Attributes:
        mailbox: The mailbox.
        deletions: How many are gone.
        held: How many messages of it the mirror has.
        allowed: The bound, as it was given.
    """

    def __init__(self, mailbox: str, *, deletions: int, held: int, allowed: str) -> None:
        self.mailbox = mailbox
        self.deletions = deletions
        self.held = held
        self.allowed = allowed
        super().__init__(
            f"{deletions:,} of {held:,} messages are gone from {mailbox!r} or have other UIDs, and no more than "
            f"{allowed} may be removed, so none was; where that is right, allow it once with max_deletions={deletions}"
        )


class TooManyMessages(ImapipeError):
    """A change is for more messages than `max_messages=` allows; nothing was sent.

    Attributes:
        found: How many the search found.
        max_messages: How many there may be.
    """

    def __init__(self, found: int, max_messages: int) -> None:
        self.found = found
        self.max_messages = max_messages
        super().__init__(
            f"the search finds {found:,} messages and max_messages={max_messages} allows fewer: "
            "narrow the search, or raise it"
        )
