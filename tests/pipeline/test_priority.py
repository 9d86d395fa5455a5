"""S4: classes of messages in order, disjoint, each with batches of its own, seen on the wire."""

from __future__ import annotations

import itertools

import pytest

import imapipe
from imapipe import FixedBatch, PriorityBatch, PriorityClass
from imapipe import search as q
from imapipe.pipeline.plan import Plan, Tier
from imapipe.testing import Server
from imapipe.wire.uid_set import UidSet


async def _ignore(message: imapipe.Message) -> None:
    """A handler that does nothing."""


def _asked(server: Server) -> list[str]:
    return [record.arguments.split(" ", 1)[0] for record in server.commands.named("UID FETCH")]


@pytest.mark.asyncio
async def test_s4_classes_in_order_disjoint_with_their_own_sizes() -> None:
    async with Server(messages=300, seed=1) as server, imapipe.create_pool(server.url, password="secret") as pool:
        for uid in (3, 9, 77, 150, 151):
            server.mailboxes["INBOX"].set_flags(uid, ["\\Flagged"])
        policy = PriorityBatch(
            PriorityClass(q.FLAGGED, FixedBatch(3)),
            PriorityClass(q.uid("100:200"), FixedBatch(40), newest_first=True),
            PriorityClass(q.keyword("NoSuchKeyword"), FixedBatch(7)),
            rest=FixedBatch(100),
        )
        report = await pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(policy).run(_ignore, connections=1)
        asked = _asked(server)
    assert report.complete
    assert report.done == 300
    assert asked == [
        "3,9,77",
        "150:151",
        "161:200",
        "119:149,152:160",
        "100:118",
        "1:2,4:8,10:76,78:99,201:204",
        "205:300",
    ]


@pytest.mark.asyncio
async def test_s4_classes_share_one_search_each() -> None:
    async with Server(messages=10, seed=1) as server, imapipe.create_pool(server.url, password="secret") as pool:
        policy = PriorityBatch(PriorityClass(q.FLAGGED), PriorityClass(q.since(days=7)))
        await pool.mailbox("INBOX").search(q.ALL).fetch("flags").batch(policy).run(_ignore, connections=1)
        assert len(server.commands.named("UID SEARCH")) == 3


@pytest.mark.asyncio
async def test_batches_bounded_in_bytes() -> None:
    async with Server(messages=60, seed=1) as server, imapipe.create_pool(server.url, password="secret") as pool:
        pipeline = pool.mailbox("INBOX").search(q.ALL).fetch("size")
        sizes = {message.uid: message.size async for message in pipeline}
        seen = len(server.commands.named("UID FETCH"))
        bound = max(sizes.values())
        await pipeline.batch(FixedBatch(50, max_bytes=bound)).run(_ignore, connections=1)
        # The first FETCH is the pass over the sizes.
        asked = _asked(server)[seen + 1 :]
    batches = [UidSet.parse(text) for text in asked]
    assert sorted(uid for batch in batches for uid in batch) == sorted(sizes)
    assert all(sum(sizes[uid] for uid in batch) <= bound for batch in batches)
    for batch, following in itertools.pairwise(batches):
        assert sum(sizes[uid] for uid in batch) + sizes[following.min] > bound


def test_a_priority_batch_needs_classes_and_holds_no_other() -> None:
    with pytest.raises(ValueError, match="at least one"):
        PriorityBatch()
    with pytest.raises(ValueError, match="cannot hold another"):
        PriorityBatch(PriorityClass(q.ALL, PriorityBatch(PriorityClass(q.SEEN))))


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_tier_gives_out_each_uid_once_from_one_end(newest_first: bool) -> None:
    uids = UidSet.parse("1:5,9,20:40,100")
    tier = Tier(UidSet.parse("1:3"), newest_first=newest_first)
    tier.keep(uids - UidSet.parse("3,30:200"))
    taken: list[UidSet] = []
    while tier:
        taken.append(tier.take(4, 8000))
    order = [batch.max if newest_first else batch.min for batch in taken]
    assert order == sorted(order, reverse=newest_first)
    assert [len(batch) for batch in taken] == [4, 4, 4, 3]
    assert sorted(uid for batch in taken for uid in batch) == sorted(uids - UidSet.parse("3,30:200"))


def test_the_limit_takes_from_the_first_tiers() -> None:
    plan = Plan([Tier(UidSet.parse("5:9"), newest_first=True), Tier(UidSet.parse("1:4"))], limit=7)
    assert plan.planned == UidSet.parse("1:2,5:9")
