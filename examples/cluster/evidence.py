"""What is left behind by a run of the example, and whether that is what was promised.

Three witnesses know nothing of each other: the files of the handlers, the mail servers, and the database, in which a
trigger notes every write to a checkpoint with its fencing token.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import psycopg

from mail_servers import Seen
from population import Account

Place: TypeAlias = tuple[str, str]
"""An account and one of its mailboxes."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise.

    Attributes:
        promise: What was promised.
        measured: What was found.
        holds: Whether it was kept.
    """

    promise: str
    measured: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Handled:
    """What the handlers have written down.

    Attributes:
        times: How often each message was handled, by account and mailbox, by UID.
        wrong: Lines of messages that there are not, or with another digest.
    """

    times: Mapping[Place, Counter[int]]
    wrong: int

    @property
    def messages(self) -> int:
        """How many messages were handled, each counted once."""
        return sum(map(len, self.times.values()))

    @property
    def repeated(self) -> int:
        """How often a message was handled that had been handled before."""
        return sum(times.total() - len(times) for times in self.times.values())


def read_handled(files: Iterable[Path], accounts: Sequence[Account]) -> Handled:
    """Read what the handlers wrote: a line `account mailbox uid digest` for each message.

    The last line of a worker that was killed may be cut; such a message counts as not handled.
    """
    digests = {
        (account.name, mailbox): dict(account.digests(mailbox)) for account in accounts for mailbox in account.mailboxes
    }
    times: dict[Place, Counter[int]] = {place: Counter() for place in digests}
    wrong = 0
    for file in files:
        lines = file.read_text(encoding="ascii").split("\n")
        for line in lines[:-1]:
            account, mailbox, uid, digest = line.split(" ")
            place = (account, mailbox)
            if place in digests and digests[place].get(int(uid)) == digest:
                times[place][int(uid)] += 1
            else:
                wrong += 1
    return Handled(times, wrong)


def count_handled(files: Iterable[Path]) -> int:
    """How many messages were handled so far, repeats included."""
    return sum(file.read_bytes().count(b"\n") for file in files)


def of_messages(handled: Handled, accounts: Sequence[Account]) -> Iterable[Finding]:
    """Every message was handled, as it is."""
    wanted = sum(account.messages for account in accounts)
    yield Finding(
        "every message is handled at least once",
        f"{handled.messages:,} of {wanted:,}; {handled.wrong} that are none, or not whole",
        handled.messages == wanted and not handled.wrong,
    )


def of_repeats(handled: Handled, losses: Mapping[Place, int], bound: int) -> Iterable[Finding]:
    """What is handled twice is so because of a loss, and within the bound of it.

    Args:
        handled: What was handled.
        losses: How often checkpoints of a mailbox were lost to another.
        bound: `concurrency + save_every_messages`.
    """
    worst, over = 0.0, 0
    for place, times in handled.times.items():
        repeats, lost = times.total() - len(times), losses.get(place, 0)
        over += repeats > lost * bound
        worst = max(worst, repeats / lost if lost else float(repeats))
    yield Finding(
        f"repeats: at most {bound} (concurrency + save_every_messages) for each loss",
        f"{handled.repeated:,} for {sum(losses.values())} losses; at most {worst:.0f} for one",
        not over,
    )


def of_servers(seen: Mapping[str, Seen], accounts: Sequence[Account], burst: float) -> Iterable[Finding]:
    """No account was above what is allowed, as its server saw it."""
    above = {
        a.name: f"{seen[a.name].peak_connections} of {a.connections}"
        for a in accounts
        if seen[a.name].peak_connections > a.connections
    }
    peaks = Counter(seen[account.name].peak_connections - account.connections for account in accounts)
    yield Finding(
        "no account is above its connection limit, as the servers count",
        f"{above}" if above else f"{peaks[0]} of {len(accounts)} accounts came to their limit, none above",
        not above,
    )
    rated = [account for account in accounts if account.messages_per_second is not None]
    # A batch is counted whole when it is asked for, and each connection may have one on its way.
    allowed = {
        a.name: burst
        + seen[a.name].largest_batch * a.connections
        + seen[a.name].stall_seconds * (a.messages_per_second or 0.0)
        for a in rated
    }
    too_fast = {
        a.name: f"{seen[a.name].above_rate:.0f} of {allowed[a.name]:.0f}"
        for a in rated
        if seen[a.name].above_rate > allowed[a.name]
    }
    most = max((seen[account.name].above_rate for account in rated), default=0.0)
    yield Finding(
        "no rate is above its burst",
        f"{too_fast}"
        if too_fast
        else f"{len(rated)} accounts with a rate; at most {most:.0f} messages above it, where"
        f" {max(allowed.values(), default=0):.0f} may come at once",
        not too_fast,
    )


# What the database is told to remember: who took a checkpoint, and who wrote to it while it was whose.
WITNESS: Final = """
CREATE TABLE witness (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key BYTEA NOT NULL,
    token BIGINT NOT NULL,
    program TEXT NOT NULL,
    is_take BOOLEAN NOT NULL,
    is_loss BOOLEAN NOT NULL
);
CREATE FUNCTION note_take() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO witness (key, token, program, is_take, is_loss)
    VALUES (NEW.key, NEW.token, current_setting('application_name'), TRUE, OLD.holder IS NOT NULL);
    RETURN NULL;
END $$;
CREATE FUNCTION note_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO witness (key, token, program, is_take, is_loss)
    SELECT key, token, current_setting('application_name'), FALSE, FALSE
    FROM imapipe_checkpoint_leases WHERE key = NEW.key;
    RETURN NULL;
END $$;
CREATE TRIGGER take AFTER UPDATE OF token ON imapipe_checkpoint_leases
    FOR EACH ROW WHEN (NEW.token <> OLD.token) EXECUTE FUNCTION note_take();
CREATE TRIGGER save AFTER INSERT OR UPDATE ON imapipe_checkpoint_states
    FOR EACH ROW EXECUTE FUNCTION note_write();
CREATE TRIGGER change AFTER INSERT OR UPDATE ON imapipe_checkpoint_changes
    FOR EACH ROW EXECUTE FUNCTION note_write();
"""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the witness in the database has seen.

    Attributes:
        losses: How often checkpoints of a mailbox were taken from somebody who had not given them back.
        writes: How many writes to checkpoints there were.
        stale: Those that came from another process than the one that had the checkpoint.
        backwards: Takes whose token was not above the one before.
    """

    losses: Mapping[Place, int]
    writes: int
    stale: int
    backwards: int


@dataclass(frozen=True, slots=True)
class Sighting:
    """A line of the witness.

    Attributes:
        key: The checkpoint.
        token: The token that its row had.
        program: Who took it, or wrote.
        is_take: Whether it was taken, or written to.
        is_loss: Whether it was taken from somebody who had not given it back.
    """

    key: bytes
    token: int
    program: str
    is_take: bool
    is_loss: bool = False


def read_tokens(connection: psycopg.Connection[tuple[object, ...]]) -> Tokens:
    """Read what the witness has seen."""
    places: dict[bytes, Place] = {}
    for key, job in connection.execute("SELECT key, job FROM imapipe_checkpoint_leases"):
        account, mailbox, *_ = json.loads(str(job))
        places[_bytes(key)] = (str(account).partition("@")[0], str(mailbox))
    rows = connection.execute("SELECT key, token, program, is_take, is_loss FROM witness ORDER BY id")
    sightings = (
        Sighting(_bytes(key), int(str(token)), str(program), bool(is_take), bool(is_loss))
        for key, token, program, is_take, is_loss in rows
    )
    return look_at(sightings, places)


def look_at(sightings: Iterable[Sighting], places: Mapping[bytes, Place]) -> Tokens:
    """Go through them in order: those of one checkpoint have that of its row, which was locked by whoever wrote."""
    holders: dict[bytes, Sighting] = {}
    losses: Counter[Place] = Counter()
    writes = stale = backwards = 0
    for sighting in sightings:
        holder = holders.get(sighting.key)
        if sighting.is_take:
            losses[places[sighting.key]] += sighting.is_loss
            backwards += holder is not None and sighting.token <= holder.token
            holders[sighting.key] = sighting
        else:
            writes += 1
            stale += holder is None or (sighting.token, sighting.program) != (holder.token, holder.program)
    return Tokens(losses, writes, stale, backwards)


def of_tokens(tokens: Tokens) -> Iterable[Finding]:
    """Nobody wrote to a checkpoint that was another's."""
    yield Finding(
        "no stale write is recorded, and fencing tokens only rise",
        f"{tokens.writes:,} writes, {tokens.stale} of them stale; {tokens.backwards} tokens that did not rise",
        not tokens.stale and not tokens.backwards and tokens.writes > 0,
    )


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes | memoryview)
    return bytes(value)
