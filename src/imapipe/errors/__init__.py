"""The exceptions of imapipe, one tree.

::

    ImapipeError
    ├ ProtocolError                          the server broke the grammar
    │  ├ ResponseTooLarge                    a line, literal or response past a limit
    │  └ NestedTooDeeply                     a value is well formed, and too deep to be taken apart
    ├ ConnectionFailed (ConnectionError)     no usable connection could be made
    │  └ ConnectionLost                      one that was made ended too early
    ├ CommandTimeout (TimeoutError)          no answer in time
    ├ PoolTimeout (TimeoutError)             no connection was free in time
    ├ PoolClosed                             the pool is closed or closing
    ├ LeaseEnded                             a leased connection was used after it was given back
    ├ CommandError                           the server answered, not with OK
    │  ├ CommandNo
    │  ├ CommandBad
    │  ├ ServerBye
    │  ├ AuthenticationFailed
    │  │  └ TokenRefused                     an OAuth server gives no access token
    │  └ Throttled
    ├ CapabilityMissing                      the server does not offer what is needed
    ├ UidValidityChanged                     the UIDs of the mailbox mean something else now
    ├ NotFetched (LookupError)               a field was read that was not asked for
    ├ Incomplete                             a run ended with messages that failed
    ├ BatchInterrupted                       a batch ended early; the cause is chained
    ├ WorkerDied                             a worker process ended without an answer
    ├ SpoolError (OSError)                   the temporary file of a large body failed
    ├ SinkError (OSError)                    what a sink writes to cannot be written
    ├ DeletionsRefused                       more is gone from a mailbox than may be removed from its mirror
    ├ InvalidURL (ValueError)
    ├ AccountsError (ValueError)             a file of accounts cannot be used
    ├ AutodiscoverFailed                     nobody says where the mailbox of an address is
    ├ InvalidSearch (ValueError)
    ├ MessageIndexError                      the file of a local index cannot be used
    ├ JournalError                           the journal of a change cannot be used
    ├ TooManyMessages                        a change would touch more messages than it may
    ├ DatabaseError                          the database that processes share cannot be used
    └ CheckpointError
       ├ CheckpointCorrupt
       ├ CheckpointVersion
       ├ CheckpointMismatch
       ├ CheckpointLocked
       └ CheckpointLost

`Incomplete` and `BatchInterrupted` carry values and stand beside them: in `models.report` and `models.batch`.

Every fact is an attribute as well as text, so a program never parses a message. No message holds a
credential or the content of a mail: excerpts of what a server sent are redacted by whoever makes them.
"""

from __future__ import annotations

from imapipe.errors.base import ImapipeError
from imapipe.errors.commands import (
    AuthenticationFailed,
    CapabilityMissing,
    CommandBad,
    CommandError,
    CommandNo,
    ServerBye,
    Throttled,
    TokenRefused,
)
from imapipe.errors.connecting import (
    CommandTimeout,
    ConnectionFailed,
    ConnectionLost,
    LeaseEnded,
    NestedTooDeeply,
    PoolClosed,
    PoolTimeout,
    ProtocolError,
    ResponseTooLarge,
)
from imapipe.errors.keeping import (
    CheckpointCorrupt,
    CheckpointError,
    CheckpointLocked,
    CheckpointLost,
    CheckpointMismatch,
    CheckpointVersion,
    DatabaseError,
    JournalError,
    MessageIndexError,
    SinkError,
    SpoolError,
    WorkerDied,
)
from imapipe.errors.mailboxes import (
    DeletionsRefused,
    MessageVanished,
    NotFetched,
    TooManyMessages,
    UidValidityChanged,
)
from imapipe.errors.said import MAX_TEXT
from imapipe.errors.settings import (
    AccountsError,
    AutodiscoverFailed,
    InvalidSearch,
    InvalidURL,
)

__all__ = [
    "MAX_TEXT",
    "AccountsError",
    "AuthenticationFailed",
    "AutodiscoverFailed",
    "CapabilityMissing",
    "CheckpointCorrupt",
    "CheckpointError",
    "CheckpointLocked",
    "CheckpointLost",
    "CheckpointMismatch",
    "CheckpointVersion",
    "CommandBad",
    "CommandError",
    "CommandNo",
    "CommandTimeout",
    "ConnectionFailed",
    "ConnectionLost",
    "DatabaseError",
    "DeletionsRefused",
    "ImapipeError",
    "InvalidSearch",
    "InvalidURL",
    "JournalError",
    "LeaseEnded",
    "MessageIndexError",
    "MessageVanished",
    "NestedTooDeeply",
    "NotFetched",
    "PoolClosed",
    "PoolTimeout",
    "ProtocolError",
    "ResponseTooLarge",
    "ServerBye",
    "SinkError",
    "SpoolError",
    "Throttled",
    "TokenRefused",
    "TooManyMessages",
    "UidValidityChanged",
    "WorkerDied",
]
