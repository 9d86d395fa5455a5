"""imapipe: bulk work on IMAP mailboxes with asyncio.

::

    async with imapipe.create_pool("imaps://ann@imap.example.org", password=secret) as pool:
        async for message in pool.mailbox("INBOX").search(q.UNSEEN).fetch("envelope"):
            print(message.uid, message.envelope.subject)

Public beside this module: `imapipe.search` (search keys), `imapipe.sinks` (Maildir, mbox, tables and others to write
to), `imapipe.oauth` (access tokens), `imapipe.doctor` (a look at an account), `imapipe.middleware` (the contract for
layers of your own), `imapipe.events` (what happens beside the messages), `imapipe.store` (where checkpoints are kept),
`imapipe.connection` (what single commands take and give), `imapipe.errors`, and `imapipe.testing` (a server to test
against). All else may change without a word.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imapipe import doctor, oauth, search, sinks
    from imapipe.account.group import MailboxGroup
    from imapipe.account.mirror import AccountMirrorReport
    from imapipe.account.pipeline import AccountPipeline
    from imapipe.account.plan import AccountPlan, Estimate
    from imapipe.account.report import AccountReport
    from imapipe.accounts import AccountSettings, load_accounts
    from imapipe.catalog.index import IndexEntry, MessageIndex, Searchable, SizeClass
    from imapipe.catalog.index_report import IndexReport
    from imapipe.catalog.search_cache import SearchCache, SearchCacheStats
    from imapipe.changes.feed import Changes, ChangeStream
    from imapipe.changes.mirror import DeletionBound, Held, Mirror, MirrorReport
    from imapipe.client import Pool, create_pool
    from imapipe.discovery import Discovered, autodiscover
    from imapipe.errors import (
        AccountsError,
        AuthenticationFailed,
        AutodiscoverFailed,
        CapabilityMissing,
        CheckpointCorrupt,
        CheckpointError,
        CheckpointLocked,
        CheckpointLost,
        CheckpointMismatch,
        CheckpointVersion,
        CommandBad,
        CommandError,
        CommandNo,
        CommandTimeout,
        ConnectionFailed,
        ConnectionLost,
        DatabaseError,
        DeletionsRefused,
        ImapipeError,
        InvalidSearch,
        InvalidURL,
        JournalError,
        LeaseEnded,
        MessageIndexError,
        MessageVanished,
        NotFetched,
        PoolClosed,
        PoolTimeout,
        ProtocolError,
        ResponseTooLarge,
        ServerBye,
        SinkError,
        SpoolError,
        Throttled,
        TokenRefused,
        TooManyMessages,
        UidValidityChanged,
        WorkerDied,
    )
    from imapipe.limits.adaptive_rate_limit import AdaptiveRateLimit
    from imapipe.limits.byte_budget import ByteBudget
    from imapipe.limits.rate_limit import RateLimit
    from imapipe.mailbox import Mailbox
    from imapipe.middleware.base import Middleware
    from imapipe.middleware.checkpoint import Checkpoint
    from imapipe.middleware.metrics import Metrics, MetricsSnapshot
    from imapipe.middleware.open_telemetry import OpenTelemetry
    from imapipe.middleware.progress import Progress, ProgressSnapshot
    from imapipe.middleware.retry import Retry
    from imapipe.models.batch import Batch, BatchInterrupted, BatchResult, Failure
    from imapipe.models.change import Arrived, Change, FlagsChanged, Vanished
    from imapipe.models.cursor import Cursor
    from imapipe.models.distribution import Distribution
    from imapipe.models.headers import Headers
    from imapipe.models.mailbox import MailboxEntry, MailboxStatus
    from imapipe.models.message import Attachment, Gmail, Message
    from imapipe.models.report import Incomplete, RunReport
    from imapipe.net.connection import Connection
    from imapipe.net.pool.leased_connection import Lease
    from imapipe.net.pool.pool import PoolStats
    from imapipe.pipeline.append.report import Appended, AppendReport
    from imapipe.pipeline.batching import AdaptiveBatch, BatchPolicy, FixedBatch, MessageClass, Sizer
    from imapipe.pipeline.change_pipeline import ChangePipeline, ChangePlan
    from imapipe.pipeline.delivery.handler_retry import HandlerRetry
    from imapipe.pipeline.delivery.handlers import in_threads
    from imapipe.pipeline.delivery.processes import ProcessHandler, in_processes
    from imapipe.pipeline.delivery.sink import Sink
    from imapipe.pipeline.delivery.stream import BatchStream, Stream
    from imapipe.pipeline.findings import JobPlan, Reduction
    from imapipe.pipeline.follow.following import Follow, FollowStream
    from imapipe.pipeline.follow.report import FollowedReport, FollowHealth, FollowReport, MailboxHealth
    from imapipe.pipeline.operation.message_change import (
        MessageChange,
        add_flags,
        copy_to,
        delete,
        move_to,
        remove_flags,
        set_flags,
    )
    from imapipe.pipeline.pipeline import Pipeline, SearchResult
    from imapipe.pipeline.priority import PriorityBatch, PriorityClass
    from imapipe.pipeline.source.search_store import MailboxState, SearchQuestion, SearchStore
    from imapipe.providers import OAuthEndpoints, Provider, provider_of_account
    from imapipe.secret_source import ask_program, read_secret
    from imapipe.store import (
        BlockingCheckpointHolding,
        BlockingCheckpointStore,
        CheckpointChange,
        CheckpointHolding,
        CheckpointState,
        CheckpointStore,
        JobKey,
        JsonCheckpointStore,
        MemoryCheckpointStore,
        SimpleCheckpointStore,
    )
    from imapipe.undoing import UndoReport, plan_undo, undo
    from imapipe.wire.command.fetch import Fetch
    from imapipe.wire.response.body_structure import BodyStructure
    from imapipe.wire.response.envelope import Address, Envelope
    from imapipe.wire.response.limits import Limits
    from imapipe.wire.response.note import Note
    from imapipe.wire.search_key import SearchKey
    from imapipe.wire.uid_set import UidSet

__version__ = "0.1.0"

__all__ = [
    "AccountMirrorReport",
    "AccountPipeline",
    "AccountPlan",
    "AccountReport",
    "AccountSettings",
    "AccountsError",
    "AdaptiveBatch",
    "AdaptiveRateLimit",
    "Address",
    "AppendReport",
    "Appended",
    "Arrived",
    "Attachment",
    "AuthenticationFailed",
    "AutodiscoverFailed",
    "Batch",
    "BatchInterrupted",
    "BatchPolicy",
    "BatchResult",
    "BatchStream",
    "BlockingCheckpointHolding",
    "BlockingCheckpointStore",
    "BodyStructure",
    "ByteBudget",
    "CapabilityMissing",
    "Change",
    "ChangePipeline",
    "ChangePlan",
    "ChangeStream",
    "Changes",
    "Checkpoint",
    "CheckpointChange",
    "CheckpointCorrupt",
    "CheckpointError",
    "CheckpointHolding",
    "CheckpointLocked",
    "CheckpointLost",
    "CheckpointMismatch",
    "CheckpointState",
    "CheckpointStore",
    "CheckpointVersion",
    "CommandBad",
    "CommandError",
    "CommandNo",
    "CommandTimeout",
    "Connection",
    "ConnectionFailed",
    "ConnectionLost",
    "Cursor",
    "DatabaseError",
    "DeletionBound",
    "DeletionsRefused",
    "Discovered",
    "Distribution",
    "Envelope",
    "Estimate",
    "Failure",
    "Fetch",
    "FixedBatch",
    "FlagsChanged",
    "Follow",
    "FollowHealth",
    "FollowReport",
    "FollowStream",
    "FollowedReport",
    "Gmail",
    "HandlerRetry",
    "Headers",
    "Held",
    "ImapipeError",
    "Incomplete",
    "IndexEntry",
    "IndexReport",
    "InvalidSearch",
    "InvalidURL",
    "JobKey",
    "JobPlan",
    "JournalError",
    "JsonCheckpointStore",
    "Lease",
    "LeaseEnded",
    "Limits",
    "Mailbox",
    "MailboxEntry",
    "MailboxGroup",
    "MailboxHealth",
    "MailboxState",
    "MailboxStatus",
    "MemoryCheckpointStore",
    "Message",
    "MessageChange",
    "MessageClass",
    "MessageIndex",
    "MessageIndexError",
    "MessageVanished",
    "Metrics",
    "MetricsSnapshot",
    "Middleware",
    "Mirror",
    "MirrorReport",
    "NotFetched",
    "Note",
    "OAuthEndpoints",
    "OpenTelemetry",
    "Pipeline",
    "Pool",
    "PoolClosed",
    "PoolStats",
    "PoolTimeout",
    "PriorityBatch",
    "PriorityClass",
    "ProcessHandler",
    "Progress",
    "ProgressSnapshot",
    "ProtocolError",
    "Provider",
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
    "Searchable",
    "ServerBye",
    "SimpleCheckpointStore",
    "Sink",
    "SinkError",
    "SizeClass",
    "Sizer",
    "SpoolError",
    "Stream",
    "Throttled",
    "TokenRefused",
    "TooManyMessages",
    "UidSet",
    "UidValidityChanged",
    "UndoReport",
    "Vanished",
    "WorkerDied",
    "add_flags",
    "ask_program",
    "autodiscover",
    "copy_to",
    "create_pool",
    "delete",
    "doctor",
    "in_processes",
    "in_threads",
    "load_accounts",
    "move_to",
    "oauth",
    "plan_undo",
    "provider_of_account",
    "read_secret",
    "remove_flags",
    "search",
    "set_flags",
    "sinks",
    "undo",
]

# What is in none of them is an error.
_HOMES = {
    "imapipe": ("doctor", "oauth", "search", "sinks"),
    "imapipe.account.group": ("MailboxGroup",),
    "imapipe.account.mirror": ("AccountMirrorReport",),
    "imapipe.account.pipeline": ("AccountPipeline",),
    "imapipe.account.plan": ("AccountPlan", "Estimate"),
    "imapipe.account.report": ("AccountReport",),
    "imapipe.accounts": ("AccountSettings", "load_accounts"),
    "imapipe.discovery": ("Discovered", "autodiscover"),
    "imapipe.catalog.index": ("IndexEntry", "MessageIndex", "Searchable", "SizeClass"),
    "imapipe.catalog.index_report": ("IndexReport",),
    "imapipe.catalog.search_cache": ("SearchCache", "SearchCacheStats"),
    "imapipe.client": ("Pool", "create_pool"),
    "imapipe.errors": (
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
    ),
    "imapipe.limits.adaptive_rate_limit": ("AdaptiveRateLimit",),
    "imapipe.middleware.base": ("Middleware",),
    "imapipe.limits.byte_budget": ("ByteBudget",),
    "imapipe.middleware.checkpoint": ("Checkpoint",),
    "imapipe.middleware.metrics": ("Metrics", "MetricsSnapshot"),
    "imapipe.middleware.open_telemetry": ("OpenTelemetry",),
    "imapipe.middleware.progress": ("Progress", "ProgressSnapshot"),
    "imapipe.limits.rate_limit": ("RateLimit",),
    "imapipe.mailbox": ("Mailbox",),
    "imapipe.middleware.retry": ("Retry",),
    "imapipe.models.batch": ("Batch", "BatchInterrupted", "BatchResult", "Failure"),
    "imapipe.changes.feed": ("ChangeStream", "Changes"),
    "imapipe.changes.mirror": ("DeletionBound", "Held", "Mirror", "MirrorReport"),
    "imapipe.models.change": ("Arrived", "Change", "FlagsChanged", "Vanished"),
    "imapipe.models.cursor": ("Cursor",),
    "imapipe.models.mailbox": ("MailboxEntry", "MailboxStatus"),
    "imapipe.models.message": ("Attachment", "Gmail", "Message"),
    "imapipe.models.report": ("Incomplete", "RunReport"),
    "imapipe.net.connection": ("Connection",),
    "imapipe.net.pool.leased_connection": ("Lease",),
    "imapipe.net.pool.pool": ("PoolStats",),
    "imapipe.pipeline.append.report": ("AppendReport", "Appended"),
    "imapipe.pipeline.batching": ("AdaptiveBatch", "BatchPolicy", "FixedBatch", "MessageClass", "Sizer"),
    "imapipe.pipeline.change_pipeline": ("ChangePipeline", "ChangePlan"),
    "imapipe.pipeline.delivery.handler_retry": ("HandlerRetry",),
    "imapipe.pipeline.delivery.handlers": ("in_threads",),
    "imapipe.pipeline.findings": ("JobPlan", "Reduction"),
    "imapipe.pipeline.priority": ("PriorityBatch", "PriorityClass"),
    "imapipe.pipeline.delivery.processes": ("ProcessHandler", "in_processes"),
    "imapipe.pipeline.delivery.sink": ("Sink",),
    "imapipe.pipeline.follow.following": ("Follow", "FollowStream"),
    "imapipe.pipeline.follow.report": ("FollowHealth", "FollowReport", "FollowedReport", "MailboxHealth"),
    "imapipe.pipeline.operation.message_change": (
        "MessageChange",
        "add_flags",
        "copy_to",
        "delete",
        "move_to",
        "remove_flags",
        "set_flags",
    ),
    "imapipe.pipeline.pipeline": ("Pipeline", "SearchResult"),
    "imapipe.pipeline.source.search_store": ("MailboxState", "SearchQuestion", "SearchStore"),
    "imapipe.store": (
        "BlockingCheckpointHolding",
        "BlockingCheckpointStore",
        "CheckpointChange",
        "CheckpointHolding",
        "CheckpointState",
        "CheckpointStore",
        "JobKey",
        "JsonCheckpointStore",
        "MemoryCheckpointStore",
        "SimpleCheckpointStore",
    ),
    "imapipe.models.headers": ("Headers",),
    "imapipe.models.distribution": ("Distribution",),
    "imapipe.pipeline.delivery.stream": ("BatchStream", "Stream"),
    "imapipe.wire.response.body_structure": ("BodyStructure",),
    "imapipe.wire.response.envelope": ("Address", "Envelope"),
    "imapipe.providers": ("OAuthEndpoints", "Provider", "provider_of_account"),
    "imapipe.secret_source": ("ask_program", "read_secret"),
    "imapipe.undoing": ("UndoReport", "plan_undo", "undo"),
    "imapipe.wire.command.fetch": ("Fetch",),
    "imapipe.wire.response.note": ("Note",),
    "imapipe.wire.response.limits": ("Limits",),
    "imapipe.wire.search_key": ("SearchKey",),
    "imapipe.wire.uid_set": ("UidSet",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:

    def __getattr__(name):
        """Import a public name when it is first asked for: a program pays at start-up for what it uses."""
        module = _HOME_OF.get(name, "imapipe.errors")
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = import_module(f"{module}.{name}") if module == __name__ else getattr(import_module(module), name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
