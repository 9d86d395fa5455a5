"""The tables of checkpoints, and all that is asked of them. Blocking; each function is a whole transaction.

What a run waits for (to take a key, to write, to prolong) is one message to the database and its answer.

::

    imapipe_checkpoint_leases    who has a key, until when, by the clock of the database; small rows, often changed
    imapipe_checkpoint_states    a whole state for each key, as JSON
    imapipe_checkpoint_changes   what came after it: a row for each write, its changes a line each
    imapipe_checkpoint_notes     the notes of the accounts

Invariants:

- A token is given out once: it rises with each take of its key, and where the row had been removed it begins above all
  that were given out before, since it is not below the time in milliseconds.
- Whatever writes looks for its token in the same transaction, and has it locked (KEY SHARE) until the end; a take locks
  the row (UPDATE), so nothing of the old holder is written after it. A renewal stands in the way of neither.
- Keys are locked in their order, so two writers never wait for each other.
- A row of changes that a saved state contains is removed with the save, and ignored until then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import orjson

from imapipe.database import Connection, Parameters, Row, Statement, Step
from imapipe.errors import CheckpointCorrupt, CheckpointVersion
from imapipe.models.json_value import JSON
from imapipe.store.checkpoint_state import FORMAT_VERSION, CheckpointChange, CheckpointState
from imapipe.store.job_key import JobKey

COMPONENT: Final = "checkpoints"
_LEASES: Final = """
CREATE TABLE imapipe_checkpoint_leases (
    key BYTEA PRIMARY KEY, account TEXT NOT NULL, job TEXT NOT NULL, token BIGINT NOT NULL, holder TEXT,
    held_by TEXT NOT NULL, ends_ms BIGINT NOT NULL, touched_ms BIGINT NOT NULL
)
"""
_STATES: Final = """
CREATE TABLE imapipe_checkpoint_states (
    key BYTEA PRIMARY KEY, version BIGINT NOT NULL, series TEXT NOT NULL, sequence BIGINT NOT NULL, state BYTEA NOT NULL
)
"""
_CHANGES: Final = """
CREATE TABLE imapipe_checkpoint_changes (
    key BYTEA NOT NULL, series TEXT NOT NULL, sequence BIGINT NOT NULL, changes BYTEA NOT NULL,
    PRIMARY KEY (key, series, sequence)
)
"""
_NOTES: Final = """
CREATE TABLE imapipe_checkpoint_notes (
    account TEXT NOT NULL, name TEXT NOT NULL, value BYTEA NOT NULL, touched_ms BIGINT NOT NULL,
    PRIMARY KEY (account, name)
)
"""
_ACCOUNTS: Final = "CREATE INDEX imapipe_checkpoint_accounts ON imapipe_checkpoint_leases (account)"
STEPS: Final = (
    Step(
        (_LEASES, _STATES, _CHANGES, _NOTES, _ACCOUNTS),
        postgres=(
            # A renewal changes no column that an index has, so with room in the page no index is touched (HOT).
            "ALTER TABLE imapipe_checkpoint_leases SET (fillfactor = 50)",
            "ALTER TABLE imapipe_checkpoint_states SET (fillfactor = 80)",
        ),
    ),
)

_DIGEST_BYTES: Final = 16
_KEYS_AT_ONCE: Final = 500
_OF_CHANGES: Final = -1

_MAKE_LEASE: Final = """
INSERT INTO imapipe_checkpoint_leases (key, account, job, token, held_by, ends_ms, touched_ms)
VALUES (:key, :account, :job, 0, '', 0, 0) ON CONFLICT (key) DO NOTHING
"""
_LOOK: Final = "SELECT held_by, ends_ms, ends_ms - now_ms() FROM imapipe_checkpoint_leases WHERE key = :key"
# A row that is locked is being written to by its holder, or taken by another, at this moment.
_TAKE: Final = """
UPDATE imapipe_checkpoint_leases
SET token = CASE WHEN token < now_ms() THEN now_ms() ELSE token + 1 END, holder = :holder, held_by = :held_by,
    ends_ms = now_ms() + :lease_ms, touched_ms = now_ms()
WHERE key IN (
    SELECT key FROM imapipe_checkpoint_leases
    WHERE key = :key AND (ends_ms <= now_ms() OR holder = :holder OR held_by = :dead) FOR UPDATE SKIP LOCKED)
RETURNING token
"""
_RENEW: Final = """
UPDATE imapipe_checkpoint_leases SET ends_ms = now_ms() + :lease_ms
WHERE key IN ({}) AND holder = :holder RETURNING key, token
"""
_FENCE: Final = "SELECT key, token FROM imapipe_checkpoint_leases WHERE key IN ({}) ORDER BY key FOR KEY SHARE"
_RELEASE: Final = """
UPDATE imapipe_checkpoint_leases SET holder = NULL, held_by = '', ends_ms = 0, touched_ms = now_ms()
WHERE key = :key AND token = :token
"""
_TOUCH: Final = "UPDATE imapipe_checkpoint_leases SET touched_ms = now_ms() WHERE key = :key AND token = :token"
_MINE: Final = "FROM imapipe_checkpoint_leases WHERE key = :key AND token = :token"
_SAVE: Final = f"""
INSERT INTO imapipe_checkpoint_states (key, version, series, sequence, state)
SELECT :key, {FORMAT_VERSION}, :series, :sequence, :data {_MINE}
ON CONFLICT (key) DO UPDATE SET version = excluded.version, series = excluded.series, sequence = excluded.sequence,
    state = excluded.state
WHERE imapipe_checkpoint_states.series <> excluded.series OR imapipe_checkpoint_states.sequence < excluded.sequence
"""
_FORGET_CONTAINED: Final = f"""
DELETE FROM imapipe_checkpoint_changes
WHERE key = :key AND (series <> :series OR sequence <= :sequence) AND EXISTS (SELECT 1 {_MINE})
"""
_APPEND: Final = f"""
INSERT INTO imapipe_checkpoint_changes (key, series, sequence, changes)
SELECT :key, :series, :sequence, :data {_MINE} FOR KEY SHARE
ON CONFLICT (key, series, sequence) DO NOTHING
"""
_NOTE: Final = f"""
INSERT INTO imapipe_checkpoint_notes (account, name, value, touched_ms)
SELECT :account, :name, :data, now_ms() {_MINE}
ON CONFLICT (account, name) DO UPDATE SET value = excluded.value, touched_ms = excluded.touched_ms
"""
_DELETE: Final = tuple(
    f"DELETE FROM imapipe_checkpoint_{table} WHERE key = :key AND EXISTS (SELECT 1 {_MINE})"
    for table in ("states", "changes")
)
# One statement, so what it sees is of one moment.
_READ: Final = """
SELECT key, version, state FROM imapipe_checkpoint_states WHERE key IN ({0})
UNION ALL SELECT key, -1, changes FROM imapipe_checkpoint_changes WHERE key IN ({0})
"""
_OLD: Final = """
SELECT key FROM imapipe_checkpoint_leases WHERE touched_ms < now_ms() - :age_ms AND ends_ms < now_ms() - :age_ms
ORDER BY key LIMIT :most FOR UPDATE SKIP LOCKED
"""
_OLD_NOTES: Final = """
DELETE FROM imapipe_checkpoint_notes WHERE touched_ms < now_ms() - :age_ms
AND NOT EXISTS (SELECT 1 FROM imapipe_checkpoint_leases WHERE account = imapipe_checkpoint_notes.account)
"""


class Lease(NamedTuple):
    """A key as somebody has it.

    Attributes:
        held_by: Who has it.
        ends_ms: Until when, by the clock of the database, in milliseconds since 1970.
        left_ms: How long that is from now.
    """

    held_by: str
    ends_ms: int
    left_ms: int


class Taken(NamedTuple):
    """A key as we have it.

    Attributes:
        token: The token.
        rows: Its state and its changes, for `put_together`.
    """

    token: int
    rows: Sequence[Row]


@dataclass(slots=True, kw_only=True)
class Write:
    """What is to be written for one key, in this order.

    Attributes:
        key: The key.
        token: The token with which it was taken.
        account: Whose notes they are.
        is_deletion: Whether the state and its changes are to go.
        state: A state to be saved: its series, its sequence, and itself.
        changes: Changes to be kept, all of one series.
        notes: Notes, by name.
        is_touch: Whether something is to be written in any case, so that what was written before becomes durable.
        is_release: Whether the key is to be given back.
    """

    key: bytes
    token: int
    account: str
    is_deletion: bool = False
    state: tuple[str, int, bytes] | None = None
    changes: Sequence[CheckpointChange] = ()
    notes: Mapping[str, bytes] = field(default_factory=dict)
    is_touch: bool = False
    is_release: bool = False

    @property
    def is_changes_only(self) -> bool:
        """Whether it has changes and nothing else."""
        others = self.is_deletion or self.state is not None or self.notes or self.is_touch or self.is_release
        return bool(self.changes) and not others

    @property
    def mine(self) -> Parameters:
        """What each of its statements is fenced with."""
        return {"key": self.key, "token": self.token}


def key_of(key: JobKey) -> bytes:
    """The short name of a key in the tables."""
    return hashlib.sha256(_job(key).encode()).digest()[:_DIGEST_BYTES]


def take(
    connection: Connection, key: JobKey, *, holder: str, held_by: str, lease_ms: int, is_dead: Callable[[str], bool]
) -> Taken | Lease:
    """Take a key that is free, and read what is kept for it; or tell who has it.

    Args:
        connection: To the database.
        key: The key.
        holder: Names the holder to us; what is its own already counts as free.
        held_by: Names it to people.
        lease_ms: For how long.
        is_dead: Says of the `held_by` of somebody whether that is certainly no more.

    Raises:
        DatabaseError: It could not be taken.
    """
    digest = key_of(key)
    made: Parameters = {"key": digest, "account": key.account, "job": _job(key)}
    dead: str | None = None
    while True:
        taking: Parameters = {
            "key": digest,
            "holder": holder,
            "held_by": held_by,
            "lease_ms": lease_ms,
            "dead": dead,
        }
        statements: list[Statement] = [(_MAKE_LEASE, made), (_TAKE, taking), (_READ.format(":key"), {"key": digest})]
        # It becomes durable with the first save, before which nobody does anything with it. Should a database that
        # crashes have forgotten it by then, another token than this one is in the row, and the save is refused.
        _, taken, kept, looked = connection.transact([*statements, (_LOOK, {"key": digest})], durable=False)
        for (token,) in taken.rows:
            return Taken(int(token), kept.rows)
        for other, ends_ms, left_ms in looked.rows:
            if other == dead or not is_dead(other):
                return Lease(other, ends_ms, left_ms)
            dead = other
        # Else a clean-up has removed the row between the first statement and the second.


def renew(connection: Connection, keys: Sequence[bytes], *, holder: str, lease_ms: int) -> dict[bytes, int]:
    """Prolong the leases of those keys that a holder still has; gives their tokens. Raises DatabaseError."""
    named = {f"key{number}": key for number, key in enumerate(keys)}
    (renewed,) = connection.transact(
        [(_RENEW.format(_names(named)), {**named, "holder": holder, "lease_ms": lease_ms})]
    )
    return dict(renewed.rows)


def write(connection: Connection, writes: Iterable[Write], *, durable: bool = True) -> set[bytes]:
    """Write for several keys; gives those that are another's now, for which nothing was written.

    Writing the same again does nothing.

    Args:
        connection: To the database.
        writes: One for each key.
        durable: See `Connection.transaction`.

    Raises:
        DatabaseError: Nothing was written; or all, where the connection was lost.
    """
    by_key = {each.key: each for each in sorted(writes, key=lambda each: each.key)}
    several = [*by_key.values()]
    if len(several) == 1 and several[0].is_changes_only:
        # What is most often to be done. Where it does nothing, the fence tells why.
        (appended,) = connection.transact([_appended(several[0])], durable=durable)
        if appended.touched == 1:
            return set()
    named = {f"key{number}": key for number, key in enumerate(by_key)}
    # Each of the others looks for the token, too, so they do nothing for a key that is another's.
    statements: list[Statement] = [(_FENCE.format(_names(named)), named)]
    for each in several:
        if each.is_deletion:
            statements += [(statement, each.mine) for statement in _DELETE]
        if each.state is not None:
            series, sequence, data = each.state
            numbered: Parameters = {**each.mine, "series": series, "sequence": sequence}
            statements += [(_SAVE, {**numbered, "data": data}), (_FORGET_CONTAINED, numbered)]
    statements += [_appended(each) for each in several if each.changes]
    # Several keys may have put the same note; whose is written last does not matter, but that all writers go
    # through them in one order does.
    notes = sorted(
        ((each, name) for each in several for name in each.notes), key=lambda note: (note[0].account, note[1])
    )
    statements += [
        (_NOTE, {**each.mine, "account": each.account, "name": name, "data": each.notes[name]}) for each, name in notes
    ]
    statements += [(_TOUCH, each.mine) for each in several if each.is_touch]
    statements += [(_RELEASE, each.mine) for each in several if each.is_release]
    tokens: dict[bytes, int] = dict(connection.transact(statements, durable=durable)[0].rows)
    return {each.key for each in several if tokens.get(each.key) != each.token}


def read(connection: Connection, keys: Sequence[JobKey], *, path: str) -> dict[JobKey, CheckpointState]:
    """The states of keys, of those that have one, with their changes; `path` is for the text of errors.

    Raises:
        CheckpointCorrupt: What is there is no state.
        CheckpointVersion: It was written in another version of the format.
        DatabaseError: It cannot be read.
    """
    rows: list[Row] = []
    for digests in _in_parts([key_of(key) for key in keys]):
        named = {f"key{number}": digest for number, digest in enumerate(digests)}
        rows += connection.query(_READ.format(_names(named)), named)
    return put_together(rows, keys, path=path)


def put_together(rows: Iterable[Row], keys: Sequence[JobKey], *, path: str) -> dict[JobKey, CheckpointState]:
    """The states of keys from what was read of them. Raises as `read`, but for DatabaseError."""
    by_digest = {key_of(key): key for key in keys}
    states: dict[bytes, CheckpointState] = {}
    changes: dict[bytes, dict[tuple[str, int], CheckpointChange]] = {}
    for digest, version, data in rows:
        try:
            if version == _OF_CHANGES:
                # The same may be in two rows: it was not known whether the first was written.
                lines = map(CheckpointChange.from_json, data.splitlines())
                changes.setdefault(digest, {}).update(((line.series, line.sequence), line) for line in lines)
            elif version == FORMAT_VERSION:
                states[digest] = CheckpointState.from_json(data)
            else:
                raise CheckpointVersion(
                    f"the state of {by_digest[digest].mailbox!r} has format version {version} and this imapipe "
                    f"reads version {FORMAT_VERSION} only: end the job with the imapipe that began it",
                    path=path,
                )
        except ValueError as error:
            raise CheckpointCorrupt(
                f"the state of {by_digest[digest].mailbox!r} is not whole: {error}", path=path
            ) from error
    return {by_digest[digest]: state.apply(changes.get(digest, {}).values()) for digest, state in states.items()}


def read_notes(connection: Connection, account: str) -> dict[str, JSON]:
    """The notes of an account. Raises DatabaseError."""
    rows = connection.query(
        "SELECT name, value FROM imapipe_checkpoint_notes WHERE account = :account", {"account": account}
    )
    return {name: orjson.loads(value) for name, value in rows}


def read_keys(connection: Connection, account: str) -> list[JobKey]:
    """The keys of an account that have a state. Raises DatabaseError."""
    rows = connection.query(
        "SELECT job FROM imapipe_checkpoint_leases JOIN imapipe_checkpoint_states USING (key) "
        "WHERE account = :account ORDER BY job",
        {"account": account},
    )
    return [JobKey(*orjson.loads(job)) for (job,) in rows]


def clean(connection: Connection, *, age_ms: int) -> int:
    """Remove what nobody took or gave back for so long; gives how many keys. Raises DatabaseError."""
    removed = 0
    while True:
        with connection.transaction():
            rows = connection.query(_OLD, {"age_ms": age_ms, "most": _KEYS_AT_ONCE})
            old: list[Parameters] = [{"key": key} for (key,) in rows]
            for table in ("changes", "states", "leases") if old else ():
                connection.execute_many(f"DELETE FROM imapipe_checkpoint_{table} WHERE key = :key", old)
        removed += len(rows)
        if len(rows) < _KEYS_AT_ONCE:
            break
    connection.transact([(_OLD_NOTES, {"age_ms": age_ms})])
    return removed


def _appended(each: Write) -> Statement:
    last = each.changes[-1]
    data = b"\n".join(change.to_json() for change in each.changes)
    return _APPEND, {**each.mine, "series": last.series, "sequence": last.sequence, "data": data}


def _names(parameters: Iterable[str]) -> str:
    return ", ".join(f":{name}" for name in parameters)


def _in_parts(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        yield keys[start : start + _KEYS_AT_ONCE]


def _job(key: JobKey) -> str:
    return orjson.dumps([key.account, key.mailbox, key.name, key.shard]).decode()
