"""UID EXPUNGE (RFC 4315 §2.1): remove messages that have `\\Deleted`, and of them only those that are named.

EXPUNGE without UIDs cannot be written: it removes what somebody else has marked, too.
"""

from __future__ import annotations

from imapipe.wire.command.encoder import Request, sequence_set
from imapipe.wire.uid_set import UidSet


def uid_expunge(uids: UidSet) -> Request:
    """UID EXPUNGE; the server must offer UIDPLUS.

    Raises:
        ValueError: An empty set.
    """
    return Request("UID EXPUNGE", sequence_set(uids))
