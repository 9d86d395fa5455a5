"""Ages in seconds on servers that do not know WITHIN, or say that they do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from tests.pipeline.world import OpenWorld

import imapipe
from imapipe import search as q
from imapipe.search import SearchKey
from imapipe.testing import CommandRecord, Fault, Mailbox, OmitItems, Reply

pytestmark = pytest.mark.asyncio

HOUR = 3600
DAY = 24 * HOUR
# A message every five hours for six days, each in another zone: the day that is told is seldom ours.
ZONES = [timezone(timedelta(hours=hours)) for hours in (0, -12, 14, 5, -7)]

KEYS = {
    "older": q.older_than(seconds=36 * HOUR + 100),
    "younger": q.younger_than(seconds=36 * HOUR + 100),
    "between": q.older_than(seconds=20 * HOUR + 100) & q.younger_than(seconds=70 * HOUR + 100),
    "neither": ~(q.older_than(seconds=70 * HOUR + 100) | q.younger_than(seconds=20 * HOUR + 100)),
    "with others": q.UNSEEN & (q.uid("1:9") | ~q.younger_than(seconds=50 * HOUR + 100)),
    "of all time": q.older_than(seconds=2**32 - 1),
    "just now": q.younger_than(seconds=60),
}


def dated() -> Mailbox:
    box = Mailbox()
    now = datetime.now(UTC)
    for number in range(30):
        moment = now - timedelta(hours=5 * (29 - number))
        box.append(b"Subject: x\r\n\r\n", internal_date=moment.astimezone(ZONES[number % len(ZONES)]))
    return box


def asks_for_an_age(record: CommandRecord) -> bool:
    return "OLDER" in record.arguments or "YOUNGER" in record.arguments


@pytest.mark.parametrize("how", KEYS)
@pytest.mark.parametrize("status", ["", "NO", "BAD"])
async def test_ages_in_seconds_by_dates(open_world: OpenWorld, how: str, status: str) -> None:
    """A server that does not offer WITHIN, or offers it and refuses it, finds the same as one that knows it."""
    key = KEYS[how]
    faults: list[Fault] = [Reply(status, "no idea", command="UID SEARCH", when=asks_for_an_age)] if status else []  # type: ignore[arg-type]
    box = dated()
    knows = await open_world({"INBOX": box})
    other = await open_world({"INBOX": box}, faults=faults, remove_extensions=[] if status else ["WITHIN"])
    expected = (await knows.pool.mailbox("INBOX").search(key).uids()).uids
    for _ in range(2):
        assert (await other.pool.mailbox("INBOX").search(key).uids()).uids == expected
    everything = await other.pool.mailbox("INBOX").search(q.ALL).uids()
    assert (await everything.refine(key)).uids == expected
    asked = [record for record in other.server.commands.named("UID SEARCH") if asks_for_an_age(record)]
    # In the extended form, saved and not, and in the plain one; then never again.
    assert len(asked) == (3 if status else 0)


@pytest.mark.parametrize("hour", [0, 10, 12, 23])
async def test_a_message_is_on_its_side_of_the_moment_whatever_day_its_zone_says(
    open_world: OpenWorld, hour: int
) -> None:
    now = datetime.now(UTC)
    moment = now.replace(hour=hour, minute=0, second=0, microsecond=0) - timedelta(days=3)
    box = Mailbox()
    for step in (-1, 1):
        for zone in (-12, 0, 14):
            told = (moment + step * timedelta(hours=1)).astimezone(timezone(timedelta(hours=zone)))
            box.append(b"Subject: x\r\n\r\n", internal_date=told)
    world = await open_world({"INBOX": box}, remove_extensions=["WITHIN"])
    age = int((now - moment).total_seconds())
    older = await world.pool.mailbox("INBOX").search(q.older_than(seconds=age)).uids()
    younger = await world.pool.mailbox("INBOX").search(q.younger_than(seconds=age)).uids()
    assert (list(older), list(younger)) == ([1, 2, 3], [4, 5, 6])


async def test_only_the_days_around_the_moment_are_fetched(open_world: OpenWorld) -> None:
    world = await open_world({"INBOX": dated()}, remove_extensions=["WITHIN"])
    found = await world.pool.mailbox("INBOX").search(q.older_than(seconds=3 * DAY)).uids()
    assert 0 < len(found.uids) < 30
    assert sum(world.sizes) < 20


async def test_what_tells_no_date_counts_as_both(open_world: OpenWorld) -> None:
    world = await open_world(
        {"INBOX": dated()}, remove_extensions=["WITHIN"], faults=[OmitItems(["INTERNALDATE"], uids={16})]
    )
    box = world.pool.mailbox("INBOX")
    older = await box.search(q.older_than(seconds=3 * DAY - HOUR)).uids()
    younger = await box.search(q.younger_than(seconds=3 * DAY - HOUR)).uids()
    assert older.uids & younger.uids == imapipe.UidSet.parse("16")
    assert older.uids | younger.uids == imapipe.UidSet.parse("1:30")


def replaced(key: SearchKey) -> str:
    [old, young] = [term for term in key.terms if term.name in ("OLDER", "YOUNGER")]
    return key.replaced({old: q.SEEN | q.before(days=1), young: q.uid("1:5") & q.UNSEEN}).describe()


async def test_single_keys_are_replaced_wherever_they_stand() -> None:
    makes: list[Callable[[SearchKey, SearchKey], SearchKey]] = [
        lambda a, b: a & b,
        lambda a, b: a | ~b,
        lambda a, b: ~(a & (q.FLAGGED | b)) & q.DRAFT,
        lambda a, b: (q.FLAGGED & a) | (b & q.ANSWERED) | q.DELETED,
    ]
    for make in makes:
        made = make(q.older_than(seconds=5), q.younger_than(seconds=6))
        assert replaced(made) == make(q.SEEN | q.before(days=1), q.uid("1:5") & q.UNSEEN).describe()
