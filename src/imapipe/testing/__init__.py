"""An IMAP server for tests: in process, scripted faults, rare extensions, a log of what clients did.

``Server`` is all a test needs; ``SyntheticMailbox`` gives it a million messages for nothing, the classes of
``imapipe.testing.faults`` make things go wrong, ``Throttle`` hides a rate limit. Nothing here imports the
rest of imapipe, so that a mistake in a client is not repeated in the server it is tested with.

The one exception has nothing to do with the server and is imported when it is asked for: ``check_store`` puts a
checkpoint store of your own through the rules that ``imapipe.Checkpoint`` relies on.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .content import Content, Section
from .extensions import ALL_EXTENSIONS, PROFILES
from .faults import (
    Act,
    Bandwidth,
    Bye,
    CutAfterBytes,
    CutConnection,
    CutInput,
    Delay,
    Drip,
    Fault,
    Faults,
    FiredFaults,
    Flood,
    Inject,
    InProgress,
    LieAboutLength,
    NilBodies,
    OmitItems,
    OmitUids,
    PoisonUids,
    RefuseConnection,
    RefuseCredentials,
    RefuseLogin,
    ReplaceResponses,
    Reply,
    Rewrite,
    SearchCap,
    Stall,
    WrongPartial,
    exponential_bytes,
)
from .fetch_items import FetchItem
from .gmail import GmailMailboxes
from .mailbox import Listener, Mailbox
from .mailboxes import Mailboxes, Watcher
from .messages import make_messages
from .mime import Part
from .providers import PROVIDERS, ServerProfile, provider_server
from .quota import Quota
from .records import CommandLog, CommandRecord, Counters
from .server import Server
from .session import Session
from .stored import StoredMessage
from .synthetic import SyntheticMailbox
from .throttle import Throttle
from .watch import Rule

if TYPE_CHECKING:
    from imapipe.store.conformance import STORE_RULES, StorePlace, check_store

__all__ = [
    "ALL_EXTENSIONS",
    "PROFILES",
    "PROVIDERS",
    "STORE_RULES",
    "Act",
    "Bandwidth",
    "Bye",
    "CommandLog",
    "CommandRecord",
    "Content",
    "Counters",
    "CutAfterBytes",
    "CutConnection",
    "CutInput",
    "Delay",
    "Drip",
    "Fault",
    "Faults",
    "FetchItem",
    "FiredFaults",
    "Flood",
    "GmailMailboxes",
    "InProgress",
    "Inject",
    "LieAboutLength",
    "Listener",
    "Mailbox",
    "Mailboxes",
    "NilBodies",
    "OmitItems",
    "OmitUids",
    "Part",
    "PoisonUids",
    "Quota",
    "RefuseConnection",
    "RefuseCredentials",
    "RefuseLogin",
    "ReplaceResponses",
    "Reply",
    "Rewrite",
    "Rule",
    "SearchCap",
    "Section",
    "Server",
    "ServerProfile",
    "Session",
    "Stall",
    "StorePlace",
    "StoredMessage",
    "SyntheticMailbox",
    "Throttle",
    "Watcher",
    "WrongPartial",
    "check_store",
    "exponential_bytes",
    "make_messages",
    "provider_server",
]

if not TYPE_CHECKING:

    def __getattr__(name):
        """Import what knows the rest of imapipe when it is first asked for."""
        if name not in {"STORE_RULES", "StorePlace", "check_store"}:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module("imapipe.store.conformance"), name)
        globals()[name] = value
        return value
