"""Which errors end following, and which are waited out."""

from __future__ import annotations

from imapipe.errors import (
    AuthenticationFailed,
    CapabilityMissing,
    CheckpointError,
    CommandBad,
    CommandNo,
    ConnectionFailed,
    ImapipeError,
    PoolClosed,
    SinkError,
    SpoolError,
    UidValidityChanged,
)
from imapipe.net.transient import is_transient

_FINAL = (PoolClosed, CheckpointError, SinkError, SpoolError, CapabilityMissing)
_OF_THE_MAILBOX = (CommandNo, CommandBad, UidValidityChanged)


def is_final(error: ImapipeError, *, alone: bool, worked_before: bool) -> bool:
    """Whether an error ends following.

    What is of the account, or of where things are kept, does: credentials that were looked at and refused, a
    certificate, a checkpoint or a sink that cannot be written. What is of one mailbox does where that is all there is:
    one that never could be opened or searched, or UIDs that mean other messages now and that somebody has to decide
    about. All else passes.

    Args:
        error: The error.
        alone: One mailbox is followed, and no other.
        worked_before: It was looked at before, so the same commands were taken; or this is the first error of a kind
            that may come of a change in the middle of a run.
    """
    if isinstance(error, _FINAL):
        return True
    if isinstance(error, AuthenticationFailed | ConnectionFailed):
        return not is_transient(error, fetching=False).transient
    if isinstance(error, _OF_THE_MAILBOX):
        return alone and not worked_before and not is_transient(error, fetching=False).transient
    return not isinstance(error, ImapipeError)
