"""What a checkpoint knows of one job on one mailbox, and the changes that make it grow.

Invariants:

- States and changes are immutable; `apply` returns a new state.
- Changes and states of one series are numbered by `sequence`, which only rises. A state with sequence *n* contains
  every change up to *n*, so a change is applied exactly when its number is higher: applying one twice, or one that
  a saved state already holds, does nothing.
- A *series* is one unbroken history. A fresh start (another UIDVALIDITY, a deleted checkpoint) begins another one,
  and changes of the old one never reach it.
- No UID is in `done` and in `failed`, nor under two reasons in `failed`.
- The cursor's `highest_uid` is not below any UID in `done`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

import orjson

from imapipe.models.batch import NO_UIDS
from imapipe.models.cursor import Cursor
from imapipe.models.document import printable
from imapipe.models.json_value import JSON
from imapipe.store.job_key import JobKey
from imapipe.store.last_word import last_failures
from imapipe.wire.uid_set import UidSet

FORMAT_VERSION: Final = 2
"""The version of the layout that `CheckpointState.to_json` writes."""

_SERIES_BYTES: Final = 8
# One more, and more again, is still a number that can be written.
_MOST_COUNTED: Final = 2**63
_MOST_SECONDS: Final = 1e12
# We tell some dozens, however many a server makes up.
_MOST_REASONS: Final = 10_000


def new_series() -> str:
    """Name a history that no other has had."""
    return secrets.token_hex(_SERIES_BYTES)


@dataclass(frozen=True, slots=True)
class Counters:
    """Sums over all runs of a series.

    Attributes:
        runs: Runs begun.
        done: Messages whose handler returned.
        failed: Messages that failed, counted again each time they were tried.
        vanished: Messages that were gone.
        bytes_received: Bytes of FETCH responses, after decompression.
        elapsed_seconds: Time the runs took.
    """

    runs: int = 0
    done: int = 0
    failed: int = 0
    vanished: int = 0
    bytes_received: int = 0
    elapsed_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointChange:
    """What became of a group of messages.

    Attributes:
        series: The history it belongs to.
        sequence: Its number there.
        done: Messages now done.
        failed: Messages now failed, by reason.
        vanished: Messages found to be gone.
        bytes_received: Bytes received for them.
        extra: New values for some keys of the state's `extra`.
    """

    series: str
    sequence: int
    done: UidSet = NO_UIDS
    failed: Mapping[str, UidSet] = field(default_factory=dict)
    vanished: UidSet = NO_UIDS
    bytes_received: int = 0
    extra: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many messages are done or failed by it."""
        return len(self.done) + sum(map(len, self.failed.values()))

    def to_json(self) -> bytes:
        """Write the change as one JSON object, without line ends."""
        fields: dict[str, JSON] = {"series": self.series, "sequence": self.sequence, "done": self.done.text()}
        if self.failed:
            fields["failed"] = _failed_text(self.failed)
        if self.vanished:
            fields["vanished"] = self.vanished.text()
        if self.bytes_received:
            fields["bytes_received"] = self.bytes_received
        if self.extra:
            fields["extra"] = dict(self.extra)
        return orjson.dumps(fields)

    @classmethod
    def from_json(cls, data: bytes | str) -> CheckpointChange:
        """Read what `to_json` wrote.

        Raises:
            ValueError: It is something else.
        """
        return cls.from_fields(orjson.loads(data))

    @classmethod
    def from_fields(cls, value: object) -> CheckpointChange:
        """Read what a JSON parser made of `to_json`.

        Raises:
            ValueError: It is something else.
        """
        fields = _mapping(value)
        return cls(
            series=_text(fields, "series"),
            sequence=_count(fields, "sequence"),
            done=_uids(fields, "done"),
            failed=_reasons(fields.get("failed", {})),
            vanished=_uids(fields, "vanished") if "vanished" in fields else NO_UIDS,
            bytes_received=_count(fields, "bytes_received") if "bytes_received" in fields else 0,
            extra=writable(fields.get("extra", {})),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointState:
    """Everything kept for one job on one mailbox.

    Attributes:
        account: `user@host:port`.
        mailbox: The name of the mailbox.
        uidvalidity: The UIDVALIDITY under which the UIDs were seen.
        fingerprint: Names the job: symbolic search and fetch.
        name: The name that the caller gave to the job, or "".
        shard: Names the part of the mailbox, or "".
        series: The history this state belongs to.
        sequence: The number of the last change it contains.
        done: Messages whose handler returned, in any run.
        failed: Messages whose last try failed, by reason.
        cursor: How far the mailbox had come when the last run began. Which of the messages below it are done, `done`
            says.
        finished: How far the mailbox had come when the last run began that left nothing undone of what its search can
            find; None where none did.
        counters: Sums over all runs.
        started_at: When the series began.
        saved_at: When this state was made.
        extra: JSON values that other parts keep here between runs.
    """

    account: str
    mailbox: str
    uidvalidity: int
    fingerprint: str
    name: str = ""
    shard: str = ""
    series: str = field(default_factory=new_series)
    sequence: int = 0
    done: UidSet = NO_UIDS
    failed: Mapping[str, UidSet] = field(default_factory=dict)
    cursor: Cursor = field(default_factory=Cursor)
    finished: Cursor | None = None
    counters: Counters = field(default_factory=Counters)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    saved_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    extra: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def version(self) -> int:
        """The version of the layout."""
        return FORMAT_VERSION

    @property
    def key(self) -> JobKey:
        """What it is the state of."""
        return JobKey(self.account, self.mailbox, self.name, self.shard)

    @property
    def failed_uids(self) -> UidSet:
        """The failed messages of every reason."""
        return UidSet.union([*self.failed.values()])

    def apply(self, changes: Iterable[CheckpointChange]) -> CheckpointState:
        """Return the state after these changes; those of another series, or contained already, do nothing.

        Takes time in proportion to the ranges of the state and of the changes, however many changes there are.
        """
        news = sorted(
            (change for change in changes if change.series == self.series and change.sequence > self.sequence),
            key=lambda change: change.sequence,
        )
        if not news:
            return self
        newly_failed = last_failures([(change.failed, change.vanished) for change in news])
        done = UidSet.union([change.done for change in news])
        vanished = UidSet.union([change.vanished for change in news])
        # Done outlives everything: a message that was handled once is handled.
        handled = self.done | done
        failed = {reason: uids - handled for reason, uids in newly_failed.items()}
        settled = handled | UidSet.union((vanished, *newly_failed.values()))
        for reason, uids in self.failed.items():
            failed[reason] = failed.get(reason, NO_UIDS) | (uids - settled)
        return replace(
            self,
            sequence=news[-1].sequence,
            done=self.done | done,
            failed={reason: uids for reason, uids in failed.items() if uids},
            cursor=self.cursor.met(done),
            counters=replace(
                self.counters,
                done=self.counters.done + sum(len(change.done) for change in news),
                failed=self.counters.failed + sum(len(uids) for change in news for uids in change.failed.values()),
                vanished=self.counters.vanished + sum(len(change.vanished) for change in news),
                bytes_received=self.counters.bytes_received + sum(change.bytes_received for change in news),
            ),
            extra={**self.extra, **{key: value for change in news for key, value in change.extra.items()}},
        )

    def to_json(self) -> bytes:
        """Write the state as one JSON object."""
        return orjson.dumps(
            {
                "account": printable(self.account),
                "mailbox": printable(self.mailbox),
                "uidvalidity": self.uidvalidity,
                "fingerprint": printable(self.fingerprint),
                "name": printable(self.name),
                "shard": printable(self.shard),
                "series": self.series,
                "sequence": self.sequence,
                "done": self.done.text(),
                "failed": _failed_text(self.failed),
                "cursor": dict(self.cursor.told()),
                "finished": None if self.finished is None else dict(self.finished.told()),
                "counters": asdict(self.counters),
                "started_at": self.started_at.isoformat(),
                "saved_at": self.saved_at.isoformat(),
                "extra": dict(self.extra),
            }
        )

    @classmethod
    def from_json(cls, data: bytes | str) -> CheckpointState:
        """Read what `to_json` wrote.

        Raises:
            ValueError: It is something else.
        """
        return cls.from_fields(orjson.loads(data))

    @classmethod
    def from_fields(cls, value: object) -> CheckpointState:
        """Read what a JSON parser made of `to_json`.

        Raises:
            ValueError: It is something else.
        """
        fields = _mapping(value)
        done = _uids(fields, "done")
        failed = _reasons(fields.get("failed"))
        if sum(map(len, failed.values())) != len(UidSet.union([*failed.values()]) - done):
            raise ValueError("a message has two outcomes")
        return cls(
            account=_text(fields, "account"),
            mailbox=_text(fields, "mailbox"),
            uidvalidity=_count(fields, "uidvalidity"),
            fingerprint=_text(fields, "fingerprint"),
            name=_text(fields, "name"),
            shard=_text(fields, "shard"),
            series=_text(fields, "series"),
            sequence=_count(fields, "sequence"),
            done=done,
            failed=failed,
            cursor=_cursor(fields.get("cursor")),
            finished=None if fields.get("finished") is None else _cursor(fields["finished"]),
            counters=_counters(fields.get("counters")),
            started_at=_time(fields, "started_at"),
            saved_at=_time(fields, "saved_at"),
            extra=writable(fields.get("extra")),
        )


def _failed_text(failed: Mapping[str, UidSet]) -> dict[str, JSON]:
    return {printable(reason): uids.text() for reason, uids in failed.items()}


def _mapping(value: object) -> dict[str, JSON]:
    if not isinstance(value, dict):
        raise ValueError("an object is missing")
    return value


def writable(value: object) -> dict[str, JSON]:
    """An object that was read, and can be written where it is kept.

    Raises:
        ValueError: It is none, or it cannot: a JSON parser reads what is nested deeper than it writes.
    """
    fields = _mapping(value)
    try:
        orjson.dumps([[[[fields]]]])
    except TypeError:
        raise ValueError("it is nested too deeply") from None
    return fields


def _text(fields: Mapping[str, JSON], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} is not text")
    return value


def _count(fields: Mapping[str, JSON], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MOST_COUNTED:
        raise ValueError(f"{name} is not a count")
    return value


def _uids(fields: Mapping[str, JSON], name: str) -> UidSet:
    return UidSet.parse(_text(fields, name))


def _time(fields: Mapping[str, JSON], name: str) -> datetime:
    value = datetime.fromisoformat(_text(fields, name))
    if value.tzinfo is None:
        raise ValueError(f"{name} has no time zone")
    return value


def _reasons(value: object) -> dict[str, UidSet]:
    fields = _mapping(value)
    if len(fields) > _MOST_REASONS:
        raise ValueError("there are too many reasons")
    failed = {reason: _uids(fields, reason) for reason in fields}
    if sum(map(len, failed.values())) != len(UidSet.union([*failed.values()])):
        raise ValueError("a message failed for two reasons")
    return failed


def _cursor(value: object) -> Cursor:
    fields = _mapping(value)

    def number(name: str) -> int | None:
        return _count(fields, name) if name in fields else None

    return Cursor(
        uidnext=number("uidnext"),
        highest_uid=number("highest_uid"),
        highestmodseq=number("highestmodseq"),
        mailboxid=_text(fields, "mailboxid") if "mailboxid" in fields else None,
        exists=number("exists"),
    )


def _counters(value: object) -> Counters:
    fields = _mapping(value)
    seconds = fields.get("elapsed_seconds")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds < _MOST_SECONDS:
        raise ValueError("elapsed_seconds is not a time")
    names = ("runs", "done", "failed", "vanished", "bytes_received")
    return Counters(**{name: _count(fields, name) for name in names}, elapsed_seconds=float(seconds))
