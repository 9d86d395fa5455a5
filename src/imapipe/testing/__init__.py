"""An IMAP server for tests: in process, scripted faults, rare extensions, a log of what clients did.

``Server`` is all a test needs; ``SyntheticMailbox`` gives it a million messages for nothing, the classes of
``imapipe.testing.faults`` make things go wrong, ``Throttle`` hides a rate limit. Nothing here imports the
rest of imapipe, so that a mistake in a client is not repeated in the server it is tested with.
"""

from __future__ import annotations

from .extensions import ALL_EXTENSIONS, PROFILES
from .faults import (
    Bandwidth,
    Bye,
    CutAfterBytes,
    CutConnection,
    Delay,
    Fault,
    Faults,
    Inject,
    InProgress,
    LieAboutLength,
    NilBodies,
    OmitUids,
    PoisonUids,
    RefuseConnection,
    RefuseLogin,
    ReplaceResponses,
    Reply,
    SearchCap,
    Stall,
)
from .mailbox import Mailbox, StoredMessage
from .messages import make_messages
from .records import CommandLog, CommandRecord, Counters
from .server import Server
from .synthetic import SyntheticMailbox
from .throttle import Throttle

__all__ = [
    "ALL_EXTENSIONS",
    "PROFILES",
    "Bandwidth",
    "Bye",
    "CommandLog",
    "CommandRecord",
    "Counters",
    "CutAfterBytes",
    "CutConnection",
    "Delay",
    "Fault",
    "Faults",
    "InProgress",
    "Inject",
    "LieAboutLength",
    "Mailbox",
    "NilBodies",
    "OmitUids",
    "PoisonUids",
    "RefuseConnection",
    "RefuseLogin",
    "ReplaceResponses",
    "Reply",
    "SearchCap",
    "Server",
    "Stall",
    "StoredMessage",
    "SyntheticMailbox",
    "Throttle",
    "make_messages",
]
