"""The rules of `store.base`, as checks that anybody's store can be put through.

    from imapipe.testing import check_store

    async def test_my_store(tmp_path):
        await check_store(lambda: MyStore(tmp_path / "state.db"))

Or one test for each rule:

    @pytest.mark.parametrize("rule", STORE_RULES, ids=lambda rule: rule.__name__)
    async def test_my_store(rule, tmp_path):
        await rule(StorePlace(lambda: MyStore(tmp_path / "state.db")))

Invariant: each rule works on an account of its own with a name nobody has, so rules may run in any order and again and
again on one database; what they leave there is small.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, TypeAlias

from imapipe.errors import CheckpointError, CheckpointLocked, CheckpointLost
from imapipe.models.cursor import Cursor
from imapipe.models.json_value import JSON
from imapipe.store.base import BlockingCheckpointStore, CheckpointStore
from imapipe.store.checkpoint_state import Counters
from imapipe.store.job_key import JobKey
from imapipe.store.store_place import StorePlace, broken, change_of, expect, state_of
from imapipe.store.threaded import ThreadedCheckpointStore
from imapipe.wire.uid_set import UidSet

__all__ = ["STORE_RULES", "Rule", "StorePlace", "check_store"]

_NOTE: Final[JSON] = {"list": [1, 2.5, None, True], "text": "ä\n"}


Rule: TypeAlias = Callable[[StorePlace], Awaitable[None]]


async def check_store(
    make: Callable[[], CheckpointStore | BlockingCheckpointStore],
    *,
    crash: Callable[[CheckpointStore | BlockingCheckpointStore], Awaitable[None]] | None = None,
    lose: Callable[[JobKey], Awaitable[None]] | None = None,
) -> None:
    """Put a store through every rule; the arguments are those of `StorePlace`.

    Raises:
        AssertionError: The store breaks a rule; the text says which.
    """
    place = StorePlace(make, crash=crash, lose=lose)
    for rule in STORE_RULES:
        place.renew()
        await rule(place)


async def what_is_not_there_is_none(place: StorePlace) -> None:
    """A key that was never saved has no state, held or not."""
    holding = await place.open(place.key())
    expect(await holding.load() is None, "load of a new key gives None")
    await holding.delete()
    await holding.release()
    expect(await place.store.peek(place.key()) is None, "peek of a new key gives None")


async def a_state_comes_back_whole(place: StorePlace) -> None:
    """Every field of a state is kept, for whoever opens the key next, and for peek."""
    key = place.key("Entwürfe/日本", name="export ü", shard="2/3")
    saved = replace(
        state_of(key, "1:5,9,4000000000:4294967295"),
        failed={"ValueError": UidSet.parse("6"), "no-data": UidSet.parse("7:8")},
        cursor=Cursor(uidnext=4_000_000, highest_uid=9, highestmodseq=2**62, mailboxid="F1", exists=7),
        finished=Cursor(uidnext=3_000_000, exists=6),
        counters=Counters(runs=2, done=7, failed=3, vanished=1, bytes_received=2**40, elapsed_seconds=1.5),
        extra={"note": _NOTE},
    )
    holding = await place.open(key)
    await holding.save(saved)
    expect(await holding.load() == saved, "load gives what was saved")
    await holding.release()
    expect(await place.store.peek(key) == saved, "peek gives what was saved")
    expect(await place.another_store().peek(key) == saved, "another store object sees what was saved")
    holding = await place.open(key)
    expect(await holding.load() == saved, "a saved state outlives release")
    await holding.release()


async def changes_are_added_up(place: StorePlace) -> None:
    """What was appended is there after release, though no full save came after it."""
    key = place.key()
    saved = state_of(key, "1")
    changes = [change_of(saved, 1, "2:3"), replace(change_of(saved, 2, ""), failed={"E": UidSet.parse("9")})]
    holding = await place.open(key)
    await holding.save(saved)
    for change in changes:
        holding.append(change)
    await holding.sync()
    expect(await holding.load() == saved.apply(changes), "load has what was appended")
    expect(await place.store.peek(key) == saved.apply(changes), "peek has what was appended and synced")
    last = change_of(saved, 3, "4")
    holding.append(last)
    await holding.release()
    holding = await place.open(key)
    expect(await holding.load() == saved.apply([*changes, last]), "what was appended outlives release")
    await holding.release()


async def a_change_counts_once(place: StorePlace) -> None:
    """A full save contains the changes up to its number, and those after it stay."""
    key = place.key()
    saved = state_of(key, "1")
    changes = [change_of(saved, 1, "2"), change_of(saved, 3, "3")]
    holding = await place.open(key)
    await holding.save(saved)
    holding.append(changes[0])
    snapshot = replace(saved.apply(changes[:1]), sequence=2)
    holding.append(changes[1])
    await holding.save(snapshot)
    expected = snapshot.apply(changes)
    expect(await holding.load() == expected, "a change newer than a saved state is kept beside it")
    await holding.release()
    holding = await place.open(key)
    loaded = await holding.load()
    expect(loaded == expected, "a change that a saved state contains is not counted again")
    # The next run goes on with the number that it found.
    if loaded is not None:
        await holding.save(replace(loaded, sequence=loaded.sequence + 1))
        holding.append(change_of(saved, loaded.sequence + 2, "4"))
    await holding.release()
    peeked = await place.store.peek(key)
    expect(peeked is not None and peeked.counters.done == 3, "counts go on over runs")


async def a_change_may_come_during_a_save(place: StorePlace) -> None:
    """`append` is called while a save is under way, and is not lost."""
    key = place.key()
    # Large enough that a save takes a moment.
    state = state_of(key, ",".join(map(str, range(1_000, 9_000, 2))))
    holding = await place.open(key)
    await holding.save(state)
    expected = set(state.done)
    for turn in range(10):
        first, second = 4 * turn + 1, 4 * turn + 3
        holding.append(change_of(state, first, str(first)))
        snapshot = replace(state.apply([change_of(state, first, str(first))]), sequence=first + 1)
        saving = asyncio.ensure_future(holding.save(snapshot))
        await asyncio.sleep(turn / 5_000)
        change = change_of(state, second, str(second))
        holding.append(change)
        await saving
        state = snapshot.apply([change])
        expected |= {first, second}
    await holding.release()
    peeked = await place.store.peek(key)
    expect(peeked is not None and set(peeked.done) == expected, "what is appended during a save is kept")


async def old_news_is_ignored(place: StorePlace) -> None:
    """A state whose number is not above that of the one kept does nothing."""
    key = place.key()
    newer = replace(state_of(key, "1:9"), sequence=5)
    holding = await place.open(key)
    await holding.save(newer)
    await holding.save(replace(newer, sequence=4, done=UidSet.parse("1")))
    await holding.save(replace(newer, done=UidSet.parse("2")))
    expect(await holding.load() == newer, "an older state of the series does not replace a newer one")
    await holding.release()
    expect(await place.store.peek(key) == newer, "an older state of the series does not replace a newer one")


async def another_series_begins_anew(place: StorePlace) -> None:
    """A fresh start replaces the state, whatever its number, and gets nothing of the old series."""
    key = place.key()
    old = replace(state_of(key, "1:9"), sequence=50)
    holding = await place.open(key)
    await holding.save(old)
    holding.append(change_of(old, 51, "100"))
    fresh = replace(state_of(key, ""), uidvalidity=8)
    await holding.save(fresh)
    try:
        holding.append(change_of(old, 52, "101"))
        await holding.sync()
    except CheckpointLost:
        raise
    except CheckpointError:
        # A store may say so.
        await holding.sync()
    holding.append(change_of(fresh, 1, "5"))
    expected = fresh.apply([change_of(fresh, 1, "5")])
    await holding.release()
    expect(await place.store.peek(key) == expected, "a new series has nothing of the old one")


async def a_key_has_one_holder(place: StorePlace) -> None:
    """A held key is refused to everybody else, and that takes nothing away from its holder."""
    key = place.key()
    holding = await place.open(key)
    await holding.save(state_of(key, "1"))
    for store in (place.store, place.another_store()):
        try:
            second = await store.open(key, place.losses.append)
        except CheckpointLocked:
            continue
        await second.release()
        raise AssertionError(broken("a key that is held is refused with CheckpointLocked"))
    await holding.save(replace(state_of(key, "1:2"), sequence=1))
    await holding.release()
    holding = await place.open(key)
    loaded = await holding.load()
    expect(loaded is not None and loaded.done == UidSet.parse("1:2"), "a refused open changes nothing")
    await holding.release()
    expect(not place.losses, "nobody lost a key")


async def keys_do_not_mix(place: StorePlace) -> None:
    """Mailboxes, names, shards and accounts are held at the same time, and kept apart."""
    keys = [
        place.key(),
        place.key("Archive"),
        place.key(name="export"),
        place.key(shard="1/2"),
        place.key(shard="2/2"),
        replace(place.key(), account=f"x{place.account}"),
    ]
    holdings = [await place.open(key) for key in keys]
    states = [state_of(key, str(number)) for number, key in enumerate(keys, 1)]
    for holding, state in zip(holdings, states, strict=True):
        await holding.save(state)
    changes = [change_of(state, 1, str(number)) for number, state in enumerate(states, 101)]
    for holding, change in zip(holdings, changes, strict=True):
        holding.append(change)
    await holdings[1].sync()
    states = [state.apply([change]) for state, change in zip(states, changes, strict=True)]
    states[2] = replace(states[2], sequence=2)
    await holdings[2].save(states[2])
    await holdings[0].delete()
    for holding, state in zip(holdings[1:], states[1:], strict=True):
        expect(await holding.load() == state, "what becomes of one key leaves the others alone")
    for holding in holdings:
        await holding.release()
    kept = [await place.store.peek(key) for key in keys]
    expect(kept == [None, *states[1:]], "what becomes of one key leaves the others alone")
    found = await place.store.peek_all([*keys, place.key("no such mailbox")])
    expect(dict(found) == dict(zip(keys[1:], states[1:], strict=True)), "peek_all gives the states of many keys")


async def deleted_is_gone(place: StorePlace) -> None:
    """`delete` forgets the state and its changes, and a new one may follow."""
    key = place.key()
    first = state_of(key, "1")
    holding = await place.open(key)
    await holding.save(first)
    holding.append(change_of(first, 1, "2"))
    await holding.delete()
    expect(await holding.load() is None, "a deleted state is gone")
    await holding.release()
    expect(await place.store.peek(key) is None, "a deleted state is gone after release")
    holding = await place.open(key)
    expect(await holding.load() is None, "a deleted state is gone for the next holder")
    fresh = state_of(key, "7")
    await holding.save(fresh)
    await holding.release()
    expect(await place.store.peek(key) == fresh, "a new state may follow a deleted one")


async def notes_belong_to_the_account(place: StorePlace) -> None:
    """Notes are seen from every key of the account, outlive its states, and are in none of them."""
    first = await place.open(place.key())
    state = state_of(place.key(), "1")
    await first.save(state)
    expect(not await first.notes(), "a new account has no notes")
    first.put_note("a", 1)
    first.put_note("a", _NOTE)
    first.put_note("b", "x")
    await first.sync()
    expect(await place.store.peek(place.key()) == state, "notes are in no state")
    await first.delete()
    await first.release()
    second = await place.open(place.key("Archive", name="other"))
    await second.save(state_of(place.key("Archive", name="other"), ""))
    expect(dict(await second.notes()) == {"a": _NOTE, "b": "x"}, "notes are the account's, and outlive a state")
    second.put_note("b", None)
    await second.release()
    third = await place.open(place.key())
    await third.save(state_of(place.key(), ""))
    expect(dict(await third.notes()) == {"a": _NOTE, "b": None}, "a note is kept by release")
    await third.release()
    other = replace(place.key(), account=f"x{place.account}")
    fourth = await place.open(other)
    await fourth.save(state_of(other, ""))
    expect(not await fourth.notes(), "notes are not another account's")
    await fourth.release()


async def a_crash_loses_nothing_that_was_kept(place: StorePlace) -> None:
    """After the death of the process its keys are free, and what was appended is there."""
    if place.crash is None:
        return
    key, other = place.key(), place.key("Archive")
    state, beside = state_of(key, "1"), state_of(other, "1")
    holding, second = await place.open(key), await place.open(other)
    await holding.save(state)
    await second.save(beside)
    await holding.notes()
    holding.put_note("n", 5)
    changes = [change_of(state, 1, "2"), change_of(state, 2, "3")]
    holding.append(changes[0])
    second.append(change_of(beside, 1, "2"))
    # A save of another key does not undo what was appended to this one.
    await second.save(replace(beside.apply([change_of(beside, 1, "2")]), sequence=2))
    await holding.sync()
    synced = 1
    holding.append(changes[1])
    if isinstance(place.store, ThreadedCheckpointStore):
        # A store that blocks has kept it when append returned.
        synced = 2
    await place.crash(place.made)
    holding = await place.another_store().open(key, place.losses.append)
    loaded = await holding.load()
    expect(
        loaded is not None and state.apply(changes[:synced]).done <= loaded.done <= state.apply(changes).done,
        "a crash loses nothing that was kept, and adds nothing",
    )
    if loaded is not None:
        await holding.save(replace(loaded, sequence=loaded.sequence + 1))
    expect(dict(await holding.notes()) == {"n": 5}, "a crash loses no note")
    await holding.release()
    second = await place.another_store().open(other, place.losses.append)
    kept = await second.load()
    expect(kept is not None and kept.done == UidSet.parse("1:2"), "a crash loses nothing of another key")
    await second.release()


async def a_lost_key_is_written_to_no_more(place: StorePlace) -> None:
    """Who lost a key is told so, and changes nothing any more."""
    if place.lose is None:
        return
    key = place.key()
    state = state_of(key, "1")
    lost = await place.open(key)
    await lost.save(state)
    await place.lose(key)
    holding = await place.another_store().open(key, place.losses.append)
    mine = replace(state, sequence=100, done=UidSet.parse("1:9"))
    await holding.save(mine)
    told = 0
    for sequence in (101, 201):
        try:
            lost.append(change_of(state, sequence, "50"))
            await lost.sync()
            await lost.save(replace(state, sequence=sequence + 1, done=UidSet.parse("60")))
        except CheckpointLost:
            told += 1
    expect(told == 2, "whoever writes to a lost key gets CheckpointLost")
    expect(await holding.load() == mine, "whoever lost a key changes nothing")
    await lost.release()
    holding.append(change_of(mine, 301, "10"))
    await holding.release()
    peeked = await place.store.peek(key)
    expect(peeked == mine.apply([change_of(mine, 301, "10")]), "to release a lost key takes nothing from its holder")


STORE_RULES: Final[tuple[Rule, ...]] = (
    what_is_not_there_is_none,
    a_state_comes_back_whole,
    changes_are_added_up,
    a_change_counts_once,
    a_change_may_come_during_a_save,
    old_news_is_ignored,
    another_series_begins_anew,
    a_key_has_one_holder,
    keys_do_not_mix,
    deleted_is_gone,
    notes_belong_to_the_account,
    a_crash_loses_nothing_that_was_kept,
    a_lost_key_is_written_to_no_more,
)
