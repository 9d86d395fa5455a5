"""Workers and their slots, as rows of the database. Blocking; for one thread at a time.

Invariants:

- Slots are counted and given while the row of their account is locked, so two workers never give the same one.
- A slot counts as long as its row is there. It goes with its worker's row, and that is removed only when its lease and
  a grace have passed (`cluster.reaping`); the worker's own renewal and that removal are two changes of one row, so one
  of them comes first and the other finds out: a worker is never told that its lease goes on while its slots are given
  to others.
- What is written of a worker's own slots are numbers, not differences: writing it again changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from imapipe.cluster.process import Process
from imapipe.cluster.sharing import Claim, asked_of, grants
from imapipe.database import Connection
from imapipe.net.pool.connection_limit import REFUSED_PAUSE_SECONDS, ConnectionLimit


@dataclass(frozen=True, slots=True)
class Worker:
    """Who asks.

    Attributes:
        name: Unlike any other's, ever.
        process: The process that it runs in.
        lease_ms: How long what it has is its own without a renewal.
        grace_ms: How long after that others wait still.
        fresh_ms: How long it counts as waiting after it asked.
    """

    name: str
    process: Process
    lease_ms: int
    grace_ms: int
    fresh_ms: int


@dataclass(frozen=True, slots=True)
class SlotRequest:
    """What a pool has, and what it has use for.

    Attributes:
        member: The pool.
        account: Its account.
        maximum: How many connections the account may have.
        held: The slots that it has.
        wanted: The connections that it has use for.
        refused: How many of its connections worked when the server refused another one; None where it did not.
        made: A connection was made since the last time.
    """

    member: str
    account: str
    maximum: int
    held: int
    wanted: int
    refused: int | None = None
    made: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What it is told.

    Attributes:
        granted: How many slots more it has.
        asked_for: How many others ask it for.
        share: How many it may keep all the same.
        limit: How many connections the account may have now.
        taken: How many slots of the account are held, by whomever.
    """

    granted: int
    asked_for: int
    share: int
    limit: int
    taken: int


def register(connection: Connection, worker: Worker) -> None:
    """Begin to be there, with a lease."""
    connection.execute(
        "INSERT INTO imapipe_workers (worker, host, process, birth, seen_ms, expires_ms) "
        "VALUES (:worker, :host, :process, :birth, now_ms(), now_ms() + :lease) ON CONFLICT (worker) DO NOTHING",
        {
            "worker": worker.name,
            "host": worker.process.host,
            "process": worker.process.number,
            "birth": worker.process.birth,
            "lease": worker.lease_ms,
        },
    )


def renew(connection: Connection, worker: Worker) -> bool:
    """Renew the lease of everything that the worker has, in one statement; whether it had not ended for others."""
    renewed = connection.execute(
        "UPDATE imapipe_workers SET seen_ms = now_ms(), expires_ms = now_ms() + :lease WHERE worker = :worker",
        {"worker": worker.name, "lease": worker.lease_ms},
    )
    return renewed > 0


def unregister(connection: Connection, worker: Worker) -> None:
    """Be there no more: everything that the worker has is free. Its connections are gone."""
    with connection.transaction():
        connection.execute("DELETE FROM imapipe_slots WHERE worker = :worker", {"worker": worker.name})
        connection.execute("DELETE FROM imapipe_workers WHERE worker = :worker", {"worker": worker.name})


def exchange(connection: Connection, worker: Worker, request: SlotRequest) -> Answer | None:
    """Write down what a pool has and wants, and give it what there is.

    None says that the worker is not there any more: its lease has ended, and its slots may be others'.
    """
    with connection.transaction():
        mine = {"worker": worker.name}
        if not connection.query("SELECT 1 FROM imapipe_workers WHERE worker = :worker FOR KEY SHARE", mine):
            return None
        limit, before = _lock_account(connection, request)
        now_ms, claims = _claims(connection, worker, request)
        working = sum(claim.held for claim in claims) - request.held
        if request.refused is not None:
            if now_ms >= limit.held_until * 1_000:
                limit.refuse(now_ms / 1_000, working + request.refused)
            else:
                # One of a wave that came of one decision: it says nothing new but how many there are.
                limit.value = max(1, min(limit.value, working + request.refused))
        if request.made:
            limit.succeed()
        limit.grow(now_ms / 1_000)
        may_open = now_ms >= limit.held_until * 1_000
        granted = grants(claims, limit.value if may_open else 0).get(request.member, 0)
        held = request.held + granted
        after = [replace(claim, held=held) if claim.member == request.member else claim for claim in claims]
        _save_slots(connection, worker, request, held, next(c for c in after if c.member == request.member), now_ms)
        _save_account(connection, request.account, limit, before, now_ms)
    asked_for, share = asked_of(request.member, after, limit.value, now_ms) if held else (0, 0)
    return Answer(granted, asked_for, share, limit.value, working + held)


def contested(connection: Connection, worker: Worker) -> set[str]:
    """The accounts of which this worker has slots, and others wait for one."""
    rows = connection.query(
        "SELECT DISTINCT account FROM imapipe_slots WHERE wanted > held AND asked_ms > now_ms() - :fresh "
        "AND account IN (SELECT account FROM imapipe_slots WHERE worker = :worker AND held > 0)",
        {"fresh": worker.fresh_ms, "worker": worker.name},
    )
    return {row[0] for row in rows}


def _lock_account(connection: Connection, request: SlotRequest) -> tuple[ConnectionLimit, tuple[int, ...]]:
    """The limit of an account, which nobody else looks at until the end of the transaction."""
    account = {"account": request.account}
    select = (
        "SELECT maximum, value, refusals, pause_ms, held_until_ms, grows_at_ms FROM imapipe_accounts "
        "WHERE account = :account FOR UPDATE"
    )
    rows = connection.query(select, account)
    if not rows:
        connection.execute(
            "INSERT INTO imapipe_accounts "
            "(account, maximum, value, refusals, pause_ms, held_until_ms, grows_at_ms, used_ms) "
            "VALUES (:account, :maximum, :maximum, 0, :pause, 0, 0, now_ms()) ON CONFLICT (account) DO NOTHING",
            {**account, "maximum": request.maximum, "pause": round(REFUSED_PAUSE_SECONDS * 1_000)},
        )
        rows = connection.query(select, account)
    maximum, value, refusals, pause_ms, held_until_ms, grows_at_ms = before = rows[0]
    limit = ConnectionLimit(request.maximum)
    limit.value = request.maximum if value == maximum else min(value, request.maximum)
    limit.refusals = refusals
    limit.pause, limit.held_until, limit.grows_at = pause_ms / 1_000, held_until_ms / 1_000, grows_at_ms / 1_000
    return limit, before


def _save_account(
    connection: Connection, account: str, limit: ConnectionLimit, before: tuple[int, ...], now_ms: int
) -> None:
    times = [round(seconds * 1_000) for seconds in (limit.pause, limit.held_until, limit.grows_at)]
    after = (limit.maximum, limit.value, limit.refusals, *times)
    if after == before:
        return
    names = ("maximum", "value", "refusals", "pause", "held_until", "grows_at")
    connection.execute(
        "UPDATE imapipe_accounts SET maximum = :maximum, value = :value, refusals = :refusals, pause_ms = :pause, "
        "held_until_ms = :held_until, grows_at_ms = :grows_at, used_ms = :now WHERE account = :account",
        {**dict(zip(names, after, strict=True)), "now": now_ms, "account": account},
    )


def _claims(connection: Connection, worker: Worker, request: SlotRequest) -> tuple[int, list[Claim]]:
    """The time, and all claims of the account, that of the request among them."""
    rows = connection.query(
        "SELECT now_ms(), member, held, wanted, since_ms, asked_ms FROM (SELECT 1 AS one) AS once "
        "LEFT JOIN imapipe_slots ON account = :account",
        {"account": request.account},
    )
    now_ms: int = rows[0][0]
    mine = Claim(request.member, request.held, request.wanted, now_ms)
    claims = []
    for _, member, held, wanted, since_ms, asked_ms in rows:
        if member == request.member:
            begins = (request.wanted > request.held) > (wanted > held) or (request.held > 0) > (held > 0)
            mine = replace(mine, since_ms=now_ms if begins else since_ms)
        elif member is not None:
            claims.append(Claim(member, held, wanted, since_ms, asked_ms > now_ms - worker.fresh_ms))
    return now_ms, [*claims, mine]


def _save_slots(
    connection: Connection, worker: Worker, request: SlotRequest, held: int, claim: Claim, now_ms: int
) -> None:
    if not held and not request.wanted:
        connection.execute("DELETE FROM imapipe_slots WHERE member = :member", {"member": request.member})
        return
    since_ms = now_ms if held and not request.held else claim.since_ms
    connection.execute(
        "INSERT INTO imapipe_slots (member, account, worker, held, wanted, since_ms, asked_ms) "
        "VALUES (:member, :account, :worker, :held, :wanted, :since, :now) ON CONFLICT (member) DO UPDATE SET "
        "held = excluded.held, wanted = excluded.wanted, since_ms = excluded.since_ms, asked_ms = excluded.asked_ms",
        {
            "member": request.member,
            "account": request.account,
            "worker": worker.name,
            "held": held,
            "wanted": request.wanted,
            "since": since_ms,
            "now": now_ms,
        },
    )
