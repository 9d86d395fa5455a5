"""Who gets a slot and who gives one up, by values alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imapipe.cluster.sharing import TURN_MS, Claim, asked_of, grants


def test_a_free_slot_goes_to_who_has_fewest_then_to_who_waits_longest() -> None:
    claims = [Claim("a", 2, 4, 1), Claim("b", 0, 2, 9), Claim("c", 0, 2, 5)]
    assert grants(claims, 3) == {"c": 1}
    assert grants(claims, 4) == {"c": 1, "b": 1}
    assert grants(claims, 9) == {"a": 2, "b": 2, "c": 2}
    assert grants(claims, 1) == {}


def test_who_does_not_ask_any_more_gets_nothing() -> None:
    claims = [Claim("dead", 0, 4, 1, waits=False), Claim("b", 1, 2, 9)]
    assert grants(claims, 3) == {"b": 1}


def test_nobody_is_asked_for_anything_while_nobody_waits() -> None:
    assert asked_of("a", [Claim("a", 3, 1), Claim("b", 0, 4, waits=False)], 3, 0) == (0, 0)


@pytest.mark.parametrize(
    ("claims", "asked", "share"),
    [
        # What is idle is beyond its share.
        ([Claim("a", 3, 1), Claim("b", 0, 2)], 2, 1),
        # Both have use for all there are; the one that holds them keeps the odd one.
        ([Claim("a", 3, 3), Claim("b", 0, 3)], 3, 2),
        ([Claim("a", 3, 3), Claim("b", 0, 1)], 1, 2),
        ([Claim("a", 1, 3), Claim("b", 2, 3)], 1, 1),
    ],
)
def test_shares_are_equal_as_far_as_there_is_use_for_them(claims: list[Claim], asked: int, share: int) -> None:
    assert asked_of("a", claims, 3, 0) == (asked, share)


def test_where_there_are_more_pools_than_slots_they_take_turns() -> None:
    claims = [Claim("a", 1, 1, 0), Claim("b", 0, 1, 0)]
    assert asked_of("a", claims, 1, TURN_MS - 1) == (1, 1)
    assert asked_of("a", claims, 1, TURN_MS) == (1, 0)


MEMBERS = st.lists(
    st.builds(
        Claim,
        st.uuids().map(str),
        st.integers(0, 4),
        st.integers(0, 6),
        st.integers(0, 3 * TURN_MS),
        waits=st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


@given(claims=MEMBERS, limit=st.integers(1, 8), now=st.integers(0, 3 * TURN_MS))
def test_never_above_the_limit_nothing_is_left_lying_and_it_settles(claims: list[Claim], limit: int, now: int) -> None:
    given_now = grants(claims, limit)
    after = [replace(c, held=c.held + given_now.get(c.member, 0)) for c in claims]
    held = sum(claim.held for claim in claims)
    assert sum(given_now.values()) <= max(0, limit - held)
    if sum(claim.held for claim in after) < limit:
        assert not any(claim.unmet for claim in after)
    shares = {c.member: asked_of(c.member, after, limit, now) for c in after}
    assert sum(share for _, share in shares.values()) <= limit
    for claim in after:
        asked, share = shares[claim.member]
        assert share <= claim.use
        assert (asked > 0) is any(other.unmet for other in after if other is not claim)
    if held <= limit and any(claim.unmet for claim in after):
        # Somebody is to give one up, unless those who wait have their share already.
        starving = [c for c in after if c.unmet and c.held < shares[c.member][1] and shares[c.member][0]]
        if starving:
            assert any(c.held > shares[c.member][1] for c in after)
