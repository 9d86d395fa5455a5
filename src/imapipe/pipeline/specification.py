"""What a pipeline is, as a value: every step of the builder makes another one."""

from __future__ import annotations

from dataclasses import dataclass

from imapipe.middleware.base import Middleware
from imapipe.pipeline.batching import AdaptiveBatch, BatchPolicy
from imapipe.pipeline.search_store import SearchStore
from imapipe.search import ALL
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.search_key import SearchKey
from imapipe.wire.uid_set import UidSet

DEFAULT_BATCH = AdaptiveBatch(start=500, minimum=20, maximum=1000, target_seconds=2.0)


@dataclass(frozen=True, slots=True)
class Specification:
    """Everything a run needs to know.

    Attributes:
        mailbox: The name of the mailbox.
        search: Which messages.
        fetch: What of them.
        policy: Batches of which size.
        layers: Middleware, outermost first.
        limit: At most so many messages.
        newest: Highest UIDs first.
        uids: Instead of a search, these.
        uidvalidity: The UIDVALIDITY under which `uids` are to be read, where they come from an earlier run.
        remembered: Instead of a search, what failed in earlier runs by the checkpoint among the layers.
        depth: FETCHes in flight on a connection; None follows the round trip.
        search_store: Where answers to searches are remembered.
    """

    mailbox: str
    search: SearchKey = ALL
    fetch: Fetch = Fetch()  # noqa: RUF009  # a frozen value
    policy: BatchPolicy = DEFAULT_BATCH
    layers: tuple[Middleware, ...] = ()
    limit: int | None = None
    newest: bool = False
    uids: UidSet | None = None
    uidvalidity: int | None = None
    remembered: bool = False
    depth: int | None = None
    search_store: SearchStore | None = None

    @property
    def searches_all(self) -> bool:
        """Whether the search is for every message, so that EXISTS must agree with it."""
        return self.search == ALL and self.uids is None

    @property
    def fingerprint(self) -> str:
        """Names the job in a checkpoint: the symbolic search, so that relative dates stay relative, and the items."""
        return f"SEARCH {self.search.describe()} FETCH {self.fetch.describe()}"
