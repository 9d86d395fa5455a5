"""One command of a change is refused, whichever it is: what is looked at and removed next is in the right mailbox."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from tests.pipeline.world import OpenWorld, World, check_sums

import imapipe
from imapipe.pipeline.operation import recovery
from imapipe.testing import Act, CutInput, Mailbox, Reply
from imapipe.testing.messages import make_messages

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("made_up_time")]

COUNT = 8
# What is in the target already has the UIDs of messages here.
THERE = 5
REFUSALS = {
    "refused": Reply("NO", "Not now"),
    "done and refused": Reply("BAD", "Not now", after_response=True),
    "gone": Reply("NO", "Not now", "EXPUNGEISSUED"),
    "done and throttled": Reply("NO", "Not now", "THROTTLED", after_response=True),
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "LOOK_AGAIN_SECONDS", 0.0)


async def _open(open_world: OpenWorld, remove: Collection[str]) -> World:
    world = await open_world(
        {"INBOX": Mailbox(make_messages(COUNT)), "Archive": Mailbox(make_messages(THERE, seed=9))},
        remove_extensions=remove,
    )
    box = world.server.mailboxes["INBOX"]

    def meddle(record: object) -> None:
        for uid in (1, 6):
            if box.get(uid) is not None:
                box.set_flags(uid, box.flags_of(uid) | {"$Theirs"})

    # So that flags of copies have to be changed, where there is no MOVE.
    world.server.faults.add(Act(meddle, command="UID STORE", nth=1))
    return world


def _held(world: World, name: str) -> Counter[bytes]:
    return Counter(bytes(message.content.raw) for message in world.server.mailboxes[name])


def _change(world: World, kind: str) -> imapipe.ChangePipeline:
    job = world.pool.mailbox("INBOX").search().batch(4).use(imapipe.Retry(wait_initial_seconds=0))
    return {"move": job.move_to, "copy": job.copy_to}[kind]("Archive")


async def _commands(open_world: OpenWorld, kind: str, remove: Collection[str]) -> Counter[str]:
    """What an undisturbed change sends once the mailbox is open."""
    world = await _open(open_world, remove)
    assert (await _change(world, kind).run()).complete
    return Counter(record.name for record in world.server.commands if record.name not in {"LOGIN", "LOGOUT"})


async def _until_complete(world: World, kind: str, journal: Path) -> imapipe.RunReport | None:
    for _ in range(3):
        try:
            report = await _change(world, kind).run(journal=journal)
        except imapipe.ImapipeError:
            continue
        check_sums(report)
        if report.complete:
            return report
    return None


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize(
    ("kind", "remove"),
    [
        ("move", ("UIDPLUS", "OBJECTID")),
        ("move", ("MOVE", "OBJECTID")),
        ("move", ("MOVE",)),
        ("copy", ("UIDPLUS", "OBJECTID")),
    ],
)
async def test_the_right_messages_go(
    open_world: OpenWorld, tmp_path: Path, kind: str, remove: tuple[str, ...], refusal: str
) -> None:
    numbers = count()
    for name, most in (await _commands(open_world, kind, remove)).items():
        for nth in range(1, most + 1):
            world = await _open(open_world, remove)
            before, there = _held(world, "INBOX"), _held(world, "Archive")
            world.server.faults.add(replace(REFUSALS[refusal], command=name, nth=nth))
            report = await _until_complete(world, kind, tmp_path / str(next(numbers)))
            where = f"{name} {nth}"
            marked = Counter(
                bytes(each.content.raw) for each in world.server.mailboxes["INBOX"] if "\\Deleted" in each.flags
            )
            here = _held(world, "INBOX") - (marked if "UIDPLUS" in remove else Counter())
            arrived = _held(world, "Archive") - there
            assert there - _held(world, "Archive") == Counter(), f"{where}: something of the target is gone"
            assert report is not None, where
            assert arrived == before, where
            assert here == (before if kind == "copy" else Counter()), where


async def test_where_the_connection_ends_between_two_commands_nothing_is_left_to_complain_of(
    open_world: OpenWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """The look at the flags and the removal are sent together, and both fail."""
    world = await _open(open_world, ["MOVE"])
    world.server.faults.add(CutInput(command="UID FETCH", nth=4))
    assert (await _change(world, "move").run()).complete
    gc.collect()
    assert "never retrieved" not in caplog.text
