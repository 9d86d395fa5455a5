"""imapipe: bulk work on IMAP mailboxes with asyncio.

    async with imapipe.create_pool("imaps://ann@imap.example.org", password=secret) as pool:
        async for message in pool.mailbox("INBOX").search(q.UNSEEN).fetch("envelope"):
            print(message.uid, message.envelope.subject)

This module is the only public door, with `imapipe.search` for search keys and `imapipe.testing` for a server to
test against.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from imapipe import search
from imapipe.catalog.search_cache import SearchCache, SearchCacheStats
from imapipe.client import Mailbox, Pool, create_pool
from imapipe.errors import (
    AuthenticationFailed,
    BatchInterrupted,
    CapabilityMissing,
    CheckpointCorrupt,
    CheckpointError,
    CheckpointLocked,
    CheckpointMismatch,
    CheckpointVersion,
    CommandBad,
    CommandError,
    CommandNo,
    CommandTimeout,
    ConnectionFailed,
    ConnectionLost,
    ImapipeError,
    Incomplete,
    InvalidSearch,
    InvalidURL,
    MessageIndexError,
    NotFetched,
    PoolClosed,
    PoolTimeout,
    ProtocolError,
    ResponseTooLarge,
    ServerBye,
    SpoolError,
    Throttled,
    UidValidityChanged,
    WorkerDied,
)
from imapipe.middleware import Checkpoint, Metrics, Middleware, Progress, ProgressSnapshot, RateLimit, Retry
from imapipe.models.batch import Batch, BatchResult, Failure
from imapipe.models.mailbox import MailboxEntry, MailboxStatus
from imapipe.models.message import Gmail, Message
from imapipe.models.report import RunReport
from imapipe.net.connection import Connection
from imapipe.net.pool import PoolStats
from imapipe.pipeline.batching import AdaptiveBatch, BatchPolicy, FixedBatch
from imapipe.pipeline.handlers import in_threads
from imapipe.pipeline.pipeline import JobPlan, Pipeline
from imapipe.pipeline.priority import PriorityBatch, PriorityClass
from imapipe.pipeline.processes import in_processes
from imapipe.pipeline.search_result import Reduction, SearchResult
from imapipe.pipeline.search_store import MailboxState, SearchQuestion, SearchStore
from imapipe.store import CheckpointStore, JsonCheckpointStore
from imapipe.wire.body_structure import BodyStructure
from imapipe.wire.envelope import Address, Envelope
from imapipe.wire.fetch_request import Fetch
from imapipe.wire.framing import Limits
from imapipe.wire.search_key import SearchKey
from imapipe.wire.uid_set import UidSet

if TYPE_CHECKING:
    from imapipe.catalog.index import IndexEntry, IndexReport, MessageIndex, SizeClass

__version__ = "0.1.0"

__all__ = [
    "AdaptiveBatch",
    "Address",
    "AuthenticationFailed",
    "Batch",
    "BatchInterrupted",
    "BatchPolicy",
    "BatchResult",
    "BodyStructure",
    "CapabilityMissing",
    "Checkpoint",
    "CheckpointCorrupt",
    "CheckpointError",
    "CheckpointLocked",
    "CheckpointMismatch",
    "CheckpointStore",
    "CheckpointVersion",
    "CommandBad",
    "CommandError",
    "CommandNo",
    "CommandTimeout",
    "Connection",
    "ConnectionFailed",
    "ConnectionLost",
    "Envelope",
    "Failure",
    "Fetch",
    "FixedBatch",
    "Gmail",
    "ImapipeError",
    "Incomplete",
    "IndexEntry",
    "IndexReport",
    "InvalidSearch",
    "InvalidURL",
    "JobPlan",
    "JsonCheckpointStore",
    "Limits",
    "Mailbox",
    "MailboxEntry",
    "MailboxState",
    "MailboxStatus",
    "Message",
    "MessageIndex",
    "MessageIndexError",
    "Metrics",
    "Middleware",
    "NotFetched",
    "Pipeline",
    "Pool",
    "PoolClosed",
    "PoolStats",
    "PoolTimeout",
    "PriorityBatch",
    "PriorityClass",
    "Progress",
    "ProgressSnapshot",
    "ProtocolError",
    "RateLimit",
    "Reduction",
    "ResponseTooLarge",
    "Retry",
    "RunReport",
    "SearchCache",
    "SearchCacheStats",
    "SearchKey",
    "SearchQuestion",
    "SearchResult",
    "SearchStore",
    "ServerBye",
    "SizeClass",
    "SpoolError",
    "Throttled",
    "UidSet",
    "UidValidityChanged",
    "WorkerDied",
    "create_pool",
    "in_processes",
    "in_threads",
    "search",
]

_LAZY = dict.fromkeys(("IndexEntry", "IndexReport", "MessageIndex", "SizeClass"), "imapipe.catalog.index")

if not TYPE_CHECKING:

    def __getattr__(name):
        """What needs sqlite3, imported when it is first asked for."""
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_LAZY[name]), name)
        return value
