"""What a pipeline is, as a value: every step of the builder makes another one."""

from __future__ import annotations

from dataclasses import dataclass

from imapipe.middleware.base import Limit, Middleware
from imapipe.pipeline.batching import AdaptiveBatch, BatchPolicy
from imapipe.pipeline.operation.base import Operation
from imapipe.pipeline.operation.fetch import FetchMessages
from imapipe.pipeline.source.base import Source
from imapipe.pipeline.source.search_store import SearchStore
from imapipe.pipeline.source.searched import Searched
from imapipe.search import ALL
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.search_key import SearchKey

DEFAULT_BATCH = AdaptiveBatch(start=500, minimum=20, maximum=1000, target_seconds=2.0)


@dataclass(frozen=True, slots=True)
class Specification:
    """Everything a run needs to know.

    Attributes:
        mailbox: The name of the mailbox.
        search: Which messages, as far as the source searches.
        source: Where the messages of a run come from: a search, or an earlier time.
        operation: What is done with them.
        policy: Batches of which size.
        middleware: Outermost first.
        limit: At most so many messages.
        newest: Highest UIDs first.
        depth: Commands in flight on a connection; None follows the round trip.
        search_store: Where answers to searches are remembered.
        with_modseq: Have the server tell HIGHESTMODSEQ.
    """

    mailbox: str
    search: SearchKey = ALL
    source: Source = Searched()  # noqa: RUF009  # a frozen value, like the others
    operation: Operation = FetchMessages()  # noqa: RUF009
    policy: BatchPolicy = DEFAULT_BATCH
    middleware: tuple[Middleware, ...] = ()
    limit: int | None = None
    newest: bool = False
    depth: int | None = None
    search_store: SearchStore | None = None
    with_modseq: bool = False

    @property
    def asks_ahead(self) -> Fetch | None:
        """What may be asked of messages before a run has begun: nothing where a limit has to be asked first."""
        is_limited = self.limit is not None or any(isinstance(one, Limit) for one in self.middleware)
        return None if is_limited else self.operation.asks_ahead

    @property
    def fingerprint(self) -> str:
        """Names the job in a checkpoint: the symbolic search (relative dates stay relative), and the operation."""
        return f"SEARCH {self.search.describe()} {self.operation.describe()}"
