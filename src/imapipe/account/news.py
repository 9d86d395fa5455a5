"""What has to be done in a mailbox, by what the server says of it and what is remembered. Pure.

Invariants:

- A mailbox is passed over only where all numbers prove that it holds what it held when a run began on it that left
  nothing undone: for the same job, and for a search whose result no change of flags and no passing of time alters.
- Only messages above the cursor are searched only under the same conditions, but for the numbers.
"""

from __future__ import annotations

from enum import Enum, auto

from imapipe.models.cursor import Cursor
from imapipe.models.mailbox import MailboxStatus
from imapipe.pipeline.memory import Remembered
from imapipe.wire.search_key import SearchKey


class News(Enum):
    """How much of a mailbox has to be looked at."""

    NOTHING = auto()
    NEWER = auto()
    ALL = auto()


def news_in(status: MailboxStatus | None, remembered: Remembered | None, search: SearchKey, fingerprint: str) -> News:
    """How much of a mailbox has to be looked at.

    Args:
        status: What the server says of it, where it does.
        remembered: What is known of earlier runs.
        search: Which messages are looked for.
        fingerprint: The job.
    """
    finished = remembered.finished if remembered is not None else None
    if remembered is None or finished is None or finished.uidnext is None or remembered.fingerprint != fingerprint:
        return News.ALL
    if search.uses_clock or search.uses_modseq or search.uses_flags:
        return News.ALL
    if status is None or status.uidvalidity is None or status.uidnext is None:
        return News.NEWER
    now = Cursor(status.uidnext, mailboxid=status.mailbox_id)
    if status.uidvalidity != remembered.uidvalidity or now.is_behind(finished):
        return News.ALL
    return News.NOTHING if _is_as_it_was(status, finished) else News.NEWER


def _is_as_it_was(status: MailboxStatus, finished: Cursor) -> bool:
    if status.uidnext != finished.uidnext or status.messages is None or finished.exists is None:
        return False
    # Fewer of the same are none that is new; more cannot be without a higher UIDNEXT, unless the server errs.
    return status.messages <= finished.exists
