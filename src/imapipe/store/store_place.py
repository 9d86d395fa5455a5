"""What the rules for stores are tried on (`store.conformance`).

Invariant: every account has a name that nobody else has, so nothing that was there before is met.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from imapipe.errors import CheckpointLost
from imapipe.store.base import BlockingCheckpointStore, CheckpointHolding, CheckpointStore
from imapipe.store.checkpoint_state import CheckpointChange, CheckpointState
from imapipe.store.job_key import JobKey
from imapipe.store.threaded import as_async
from imapipe.wire.uid_set import UidSet


class StorePlace:
    """Where a store keeps things, and how to get at it.

    Args:
        make: Gives a store for that place; another object each time, where two objects can share a place.
        crash: Makes it as if the process had died in which a store object was used: what it holds is free, and it has
            written nothing since. Without it the rules about crashes are passed over.
        lose: Takes a held key away, as another machine does when a lease has run out: the next `open` gets it. Without
            it the rule about lost keys is passed over.
    """

    def __init__(
        self,
        make: Callable[[], CheckpointStore | BlockingCheckpointStore],
        *,
        crash: Callable[[CheckpointStore | BlockingCheckpointStore], Awaitable[None]] | None = None,
        lose: Callable[[JobKey], Awaitable[None]] | None = None,
    ) -> None:
        self._make = make
        self.crash = crash
        self.lose = lose
        self.account = ""
        self.losses: list[CheckpointLost] = []
        self.renew()

    def renew(self) -> None:
        """Work on another account, with another store object."""
        self.made = self._make()
        self.account = f"{secrets.token_hex(6)}@imap.example.org:993"
        self.losses = []

    def key(self, mailbox: str = "INBOX", *, name: str = "", shard: str = "") -> JobKey:
        """A key of the account."""
        return JobKey(self.account, mailbox, name, shard)

    @property
    def store(self) -> CheckpointStore:
        """The store object in use."""
        return as_async(self.made)

    def another_store(self) -> CheckpointStore:
        """The place as somebody else sees it."""
        return as_async(self._make())

    async def open(self, key: JobKey) -> CheckpointHolding:
        """Take a key."""
        return await self.store.open(key, self.losses.append)


def state_of(key: JobKey, done: str) -> CheckpointState:
    """A state of a series of its own, with these messages done."""
    return CheckpointState(
        account=key.account,
        mailbox=key.mailbox,
        name=key.name,
        shard=key.shard,
        uidvalidity=7,
        fingerprint="ALL full",
        done=UidSet.parse(done),
        saved_at=datetime(2026, 3, 1, 12, 30, 15, 999_999, tzinfo=UTC),
    )


def change_of(state: CheckpointState, sequence: int, done: str) -> CheckpointChange:
    """A change to a state."""
    return CheckpointChange(series=state.series, sequence=sequence, done=UidSet.parse(done))


def expect(holds: bool, rule: str) -> None:
    """Raise AssertionError where a rule does not hold."""
    if not holds:
        raise AssertionError(broken(rule))


def broken(rule: str) -> str:
    """How it is told."""
    return f"the store breaks a rule: {rule}"
