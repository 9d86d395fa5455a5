"""What a search found, and how to narrow it.

Invariant: a result is a value of one moment. Its UIDs mean something under its UIDVALIDITY only, which whatever
uses them checks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imapipe.wire.search_key import SearchKey
from imapipe.wire.uid_set import UidSet

if TYPE_CHECKING:
    from imapipe.pipeline.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class Reduction:
    """One step of narrowing.

    Attributes:
        criteria: The search of this step, as text.
        before: How many messages there were.
        after: How many of them it left.
    """

    criteria: str
    before: int
    after: int

    @property
    def percent(self) -> float:
        """How much of what was there the step took away."""
        return 100 * (self.before - self.after) / self.before if self.before else 0.0


class SearchResult:
    """The UIDs that a search found. Made by `Pipeline.uids`; `len`, `in`, `==` and iteration are those of `uids`.

    ::

        everything = await pool.mailbox("INBOX").search(q.ALL).uids()
        recent = await everything.refine(q.since(days=30))
        flagged = await (await recent.refine(q.UNSEEN)).refine(q.FLAGGED)
        async for message in flagged.pipeline().fetch("envelope"):
            ...

    Attributes:
        account: `user@host:port`.
        mailbox: The name of the mailbox.
        uidvalidity: Its UIDVALIDITY.
        criteria: What the messages match: the searches of all steps.
        uids: The UIDs.
        reduction: What each step left, beginning with how many messages the mailbox held.
        unaccounted: Messages that a search for all did not find although the mailbox holds them: the server caps
            its answers.
    """

    __slots__ = (
        "_pipeline",
        "account",
        "criteria",
        "mailbox",
        "reduction",
        "uids",
        "uidvalidity",
        "unaccounted",
    )

    def __init__(
        self,
        pipeline: Pipeline,
        account: str,
        mailbox: str,
        uidvalidity: int,
        criteria: SearchKey,
        uids: UidSet,
        reduction: tuple[Reduction, ...],
        unaccounted: int = 0,
    ) -> None:
        self._pipeline = pipeline
        self.account = account
        self.mailbox = mailbox
        self.uidvalidity = uidvalidity
        self.criteria = criteria
        self.uids = uids
        self.reduction = reduction
        self.unaccounted = unaccounted

    def __len__(self) -> int:
        return len(self.uids)

    def __bool__(self) -> bool:
        return bool(self.uids)

    def __iter__(self) -> Iterator[int]:
        return iter(self.uids)

    def __contains__(self, uid: object) -> bool:
        return uid in self.uids

    def __eq__(self, other: object) -> bool:
        if isinstance(other, UidSet):
            return self.uids == other
        if not isinstance(other, SearchResult):
            return NotImplemented
        return self._place == other._place and self.uids == other.uids

    def __hash__(self) -> int:
        return hash(self.uids)

    @property
    def _place(self) -> tuple[str, str, int]:
        """Where the UIDs mean something."""
        return self.account, self.mailbox, self.uidvalidity

    def __repr__(self) -> str:
        return f"<SearchResult of {len(self)} in {self.mailbox!r} for {self.criteria.describe()}>"

    async def refine(self, criteria: SearchKey) -> SearchResult:
        """Those of these messages that also match: the server looks at them only, not at the whole mailbox.

        They are sent as a set of UIDs, or as `$` where the connection and the server still know them (RFC 5182).
        Messages that are gone drop out, once the server has told this connection of it. No message costs no command.

        Args:
            criteria: Search keys of `imapipe.search`.

        Raises:
            UidValidityChanged: The UIDs mean other messages now.
            CapabilityMissing: The search needs what the server does not offer.
            CommandNo, CommandBad, Throttled: The server refused the search.
            AuthenticationFailed, ConnectionFailed, PoolTimeout: No connection could be had.
        """
        uids = await self._pipeline.find_within(self.uids, criteria, uidvalidity=self.uidvalidity)
        step = Reduction(criteria.describe(), len(self.uids), len(uids))
        return SearchResult(
            self._pipeline.search(criteria),
            self.account,
            self.mailbox,
            self.uidvalidity,
            self.criteria & criteria,
            uids,
            (*self.reduction, step),
        )

    def pipeline(self, uids: UidSet | None = None) -> Pipeline:
        """A job on these messages; running it raises UidValidityChanged where the UIDs mean others by now.

        Args:
            uids: Only on these of them.
        """
        chosen = self.uids if uids is None else self.uids & uids
        return self._pipeline.only(chosen, uidvalidity=self.uidvalidity)
