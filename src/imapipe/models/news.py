"""What a server tells of mailboxes without being asked, while a connection waits for it (IDLE, NOTIFY)."""

from __future__ import annotations

from dataclasses import dataclass

from imapipe.models.mailbox import MailboxStatus


@dataclass(frozen=True, slots=True)
class News:
    """One piece of news; what it is not about is None or False.

    Attributes:
        exists: The open mailbox holds so many messages now; fewer than before where some were expunged.
        status: What another mailbox holds now (NOTIFY).
        has_new_names: Mailboxes came, went or were renamed (NOTIFY).
        has_gaps: The server had more to tell than it could: anything may have happened (NOTIFICATIONOVERFLOW).
    """

    exists: int | None = None
    status: MailboxStatus | None = None
    has_new_names: bool = False
    has_gaps: bool = False
