"""Who gets a slot, and who is to give one up: decided here, without a database or a clock.

Invariants:

- Slots held and slots granted together are never more than the limit, whatever is asked for.
- A free slot goes to whoever of those who wait has the fewest; among equals to who waits longest.
- Nobody keeps more than his share while somebody waits who has less than his. Shares differ by one at most, as far as
  there is use for them; where there are fewer slots than pools, whoever has waited for `TURN_MS` is before those who
  hold one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

# Making a connection costs about a second at large providers: turns are to be long beside that.
TURN_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Claim:
    """What a pool has of an account, and has use for.

    Attributes:
        member: The pool.
        held: The slots that it has.
        wanted: The connections that it has use for, those in use included.
        since_ms: Since when it has fewer than it wants, or has what it has.
        waits: It asks still: whoever was not heard of for a while waits for nothing.
    """

    member: str
    held: int = 0
    wanted: int = 0
    since_ms: int = 0
    waits: bool = True

    @property
    def unmet(self) -> int:
        """How many it waits for."""
        return max(0, self.use - self.held)

    @property
    def use(self) -> int:
        """How many it has use for."""
        return self.wanted if self.waits else min(self.wanted, self.held)


def grants(claims: Sequence[Claim], limit: int) -> dict[str, int]:
    """How many slots each of them gets now."""
    given: dict[str, int] = {}
    now = list(claims)
    for _ in range(limit - sum(claim.held for claim in claims)):
        waiting = [claim for claim in now if claim.unmet]
        if not waiting:
            break
        claim = min(waiting, key=lambda claim: (claim.held, claim.since_ms, claim.member))
        now[now.index(claim)] = replace(claim, held=claim.held + 1)
        given[claim.member] = given.get(claim.member, 0) + 1
    return given


def asked_of(member: str, claims: Sequence[Claim], limit: int, now_ms: int) -> tuple[int, int]:
    """How many slots others ask of a pool, and its share: how many it may keep all the same.

    Args:
        member: The pool.
        claims: All pools of the account, what was granted just now included.
        limit: The limit.
        now_ms: The time.
    """
    asked = sum(claim.unmet for claim in claims if claim.member != member)
    if not asked:
        return 0, 0
    shares = dict.fromkeys((claim.member for claim in claims), 0)

    def rank(claim: Claim) -> tuple[int, bool, bool, int, str]:
        has_waited = claim.unmet > 0 and not claim.held and now_ms - claim.since_ms >= TURN_MS
        return shares[claim.member], not has_waited, claim.held <= shares[claim.member], claim.since_ms, claim.member

    for _ in range(limit):
        in_want = [claim for claim in claims if shares[claim.member] < claim.use]
        if not in_want:
            break
        shares[min(in_want, key=rank).member] += 1
    return asked, shares[member]
