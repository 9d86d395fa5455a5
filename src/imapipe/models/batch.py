"""A batch of UIDs and what became of it.

Both are immutable: a middleware that wants another batch makes one (`narrow`), and results are joined with
`merge`. Every UID of a batch ends in exactly one of the four sets of its result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from imapipe.errors import ImapipeError
from imapipe.models.document import Document
from imapipe.models.json_value import JSON
from imapipe.wire.uid_set import UidSet

NO_UIDS = UidSet()


@dataclass(frozen=True, slots=True)
class Failure(Document):
    """Why one message failed.

    Attributes:
        uid: The UID of the message.
        reason: A short stable word for counting and for the checkpoint: a response code of the
            server, the name of an exception class, `no-data`, `malformed`, `worker-died` …
        detail: One sentence for people. It never holds mail content.
        excerpt: At most 1 KiB of a malformed response as it came, or b"".
    """

    uid: int
    reason: str
    detail: str = ""
    excerpt: bytes = b""

    def to_dict(self) -> dict[str, JSON]:
        """As it stands in a document, where its UID is the key; `excerpt` only where there is one."""
        told = Document.to_dict(self)
        del told["uid"]
        if not self.excerpt:
            del told["excerpt"]
        return told


@dataclass(frozen=True, slots=True)
class Batch(Document):
    """What one call through the middleware asks for.

    Attributes:
        number: Counts from 1 in the order in which batches are planned in a run.
        uids: The UIDs to fetch.
        lane: The lane (and so the connection) that took the batch, from 0.
        attempt: 1 the first time; a retry raises it.
        size_bytes: The bytes its messages are known to hold, or None where no size pass was made.
        tier: Which class of a `PriorityBatch` it belongs to, from 0; 0 without one.
    """

    number: int
    uids: UidSet
    lane: int = 0
    attempt: int = 1
    size_bytes: int | None = None
    tier: int = 0

    def __len__(self) -> int:
        return len(self.uids)

    def narrow(self, uids: UidSet, *, attempt: int | None = None) -> Batch:
        """The same batch with fewer UIDs; its known size no longer holds and is dropped."""
        return replace(self, uids=uids, size_bytes=None, attempt=self.attempt if attempt is None else attempt)


@dataclass(frozen=True, slots=True)
class BatchResult(Document):
    """What became of a batch.

    Attributes:
        batch: The batch that was asked for.
        done: Messages whose handler returned.
        vanished: Messages that no longer exist on the server.
        failed: Messages that will not be tried again in this run, with the reason.
        missing: Messages never delivered: what a retry asks for again.
        elapsed_seconds: How long the server worked on it: from its command, or from the end of the answer before it on
            the same connection, to its tagged reply, without our own pauses.
        bytes_received: Bytes of the responses, after decompression.
        kept_bytes: Bytes of missing messages that came and are kept: the next try asks for what is behind them.
        reply_seconds: How long the server took to begin an answer, at most; None where nothing was asked.
    """

    batch: Batch
    done: UidSet = NO_UIDS
    vanished: UidSet = NO_UIDS
    failed: Mapping[int, Failure] = field(default_factory=dict)
    missing: UidSet = NO_UIDS
    elapsed_seconds: float = 0.0
    bytes_received: int = 0
    kept_bytes: int = 0
    reply_seconds: float | None = None

    def merge(self, other: BatchResult) -> BatchResult:
        """Join the result of a later call for some of the same UIDs.

        The UIDs settled by `other` are no longer missing here; times and bytes add up.
        """
        failed = {**self.failed, **other.failed}
        done = self.done | other.done
        vanished = self.vanished | other.vanished
        settled = done | vanished | UidSet.from_numbers(failed)
        return BatchResult(
            batch=self.batch,
            done=done,
            vanished=vanished,
            failed=failed,
            missing=(self.missing | other.missing) - settled,
            elapsed_seconds=self.elapsed_seconds + other.elapsed_seconds,
            bytes_received=self.bytes_received + other.bytes_received,
            kept_bytes=self.kept_bytes + other.kept_bytes,
            reply_seconds=max((s for s in (self.reply_seconds, other.reply_seconds) if s is not None), default=None),
        )


class BatchInterrupted(ImapipeError):
    """A batch ended before every message of it was delivered; `__cause__` says why.

    Attributes:
        batch: What was asked for.
        result: What was reached: the outcomes of the messages that were delivered before.
    """

    def __init__(self, batch: Batch, result: BatchResult) -> None:
        self.batch = batch
        self.result = result
        super().__init__(f"batch {batch.number} was interrupted with {len(result.missing)} messages not delivered")
