"""A change that ends at a step (the process, or the connection) is made good by the next run, whatever it changes."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import pytest
from tests.pipeline.world import OpenWorld, World, check_sums

import imapipe
from imapipe import search as q
from imapipe.journal.journal import Journal, read_journal
from imapipe.pipeline.operation import recovery
from imapipe.testing import Act, CutAfterBytes, CutInput, Mailbox
from imapipe.testing.messages import make_messages

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("impatient")]

COUNT = 12
BATCH = 4
KINDS = ("add", "change", "set", "move", "copy", "delete", "undo")
CHANGING = ("UID STORE", "UID MOVE", "UID COPY", "UID EXPUNGE")


class Killed(BaseException):
    """The end of the process."""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of these tests does nothing any more when a connection has ended."""
    monkeypatch.setattr(recovery, "LOOK_AGAIN_SECONDS", 0.0)


async def _open(open_world: OpenWorld, remove: Iterable[str]) -> World:
    world = await open_world(
        {"INBOX": Mailbox(make_messages(COUNT)), "Archive": Mailbox(make_messages(3, seed=9))},
        remove_extensions=remove,
    )
    box = world.server.mailboxes["INBOX"]
    for uid in range(1, COUNT + 1):
        box.set_flags(uid, ["\\Seen", "$Old"][: uid % 3])
    return world


def _content(world: World, name: str) -> list[tuple[bytes, object, frozenset[str]]]:
    box = world.server.mailboxes[name]
    return sorted((bytes(message.content.raw), message.internal_date, message.flags) for message in box)


async def _change(world: World, kind: str, journal: Path) -> imapipe.RunReport:
    job = world.pool.mailbox("INBOX").search(q.ALL).batch(BATCH).use(imapipe.Retry(wait_initial_seconds=0))
    changes = {
        "add": lambda: job.add_flags("$Work", "$Old"),
        "change": lambda: job.change_flags("+$Work", "-$Old"),
        "set": lambda: job.set_flags("$Only"),
        "move": lambda: job.move_to("Archive"),
        "copy": lambda: job.copy_to("Archive"),
        "delete": lambda: job.delete(permanently=True),
    }
    if kind == "undo":
        return (await imapipe.undo(journal, world.pool)).reports[0]
    return await changes[kind]().run(journal=journal)


_FLAGS_OF: dict[str, Callable[[frozenset[str]], frozenset[str]]] = {
    "add": lambda had: had | {"$Work", "$Old"},
    "change": lambda had: had - {"$Old"} | {"$Work"},
    "set": lambda had: frozenset({"$Only"}),
}


class Case:
    """A mailbox, what was in it, and what is to be."""

    def __init__(self, world: World, kind: str, journal: Path) -> None:
        self.world, self.kind, self.journal = world, kind, journal
        self.inbox, self.archive = _content(world, "INBOX"), _content(world, "Archive")

    async def prepare(self) -> None:
        """What is to be undone is done first."""
        if self.kind == "undo":
            await _change(self.world, "move", self.journal)

    async def run(self) -> imapipe.RunReport:
        """Make the change, or go on with it."""
        return await _change(self.world, self.kind, self.journal)

    def check(self, report: imapipe.RunReport) -> None:
        """Everything is where it is to be, and the journal knows it."""
        check_sums(report)
        assert report.complete
        inbox, archive = _content(self.world, "INBOX"), _content(self.world, "Archive")
        if self.kind in _FLAGS_OF:
            change = _FLAGS_OF[self.kind]
            assert inbox == sorted((raw, date, change(flags)) for raw, date, flags in self.inbox)
            assert archive == self.archive
        else:
            at_the_end = {
                "move": ([], sorted(self.archive + self.inbox)),
                "copy": (self.inbox, sorted(self.archive + self.inbox)),
                "delete": ([], self.archive),
                "undo": (self.inbox, self.archive),
            }
            assert (inbox, archive) == at_the_end[self.kind]
        story = read_journal(f"{self.journal}.undo" if self.kind == "undo" else self.journal)
        assert story.pending is None
        assert sum(len(result.done) for _, result in story.steps) == COUNT

    async def check_undo(self) -> None:
        """What was there before can be had back, however often the change was interrupted."""
        if self.kind in _FLAGS_OF:
            assert (await imapipe.undo(self.journal, self.world.pool)).complete
            assert _content(self.world, "INBOX") == self.inbox


def _cancel(job: asyncio.Task[imapipe.RunReport], record: object) -> None:
    job.cancel()


def _cases() -> list[tuple[str, tuple[str, ...]]]:
    without = ("MOVE", "OBJECTID")
    return [(kind, ()) for kind in KINDS] + [(kind, without) for kind in ("move", "undo")]


@pytest.mark.parametrize(
    ("kind", "remove", "word"),
    [
        (kind, remove, word)
        for kind, remove in _cases()
        for word in ("intent", "copied", "result")
        # Only a move without MOVE has a copy first.
        if word != "copied" or remove
    ],
)
@pytest.mark.parametrize("after", [False, True])
async def test_the_process_ends_around_a_line_of_the_journal(
    open_world: OpenWorld,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    remove: tuple[str, ...],
    word: str,
    after: bool,
) -> None:
    """Before the intent, behind it, behind the copy, behind the reply, and behind the result."""
    case = Case(await _open(open_world, remove), kind, tmp_path / "journal")
    await case.prepare()
    write = Journal._write
    number = 1 if kind == "undo" else 2

    def dying(journal: Journal, line: dict[str, object], *, durable: bool = False) -> None:
        if line.get(word) == number and not after:
            raise Killed
        write(journal, line, durable=durable)
        if line.get(word) == number:
            raise Killed

    monkeypatch.setattr(Journal, "_write", dying)
    with pytest.raises((Killed, BaseExceptionGroup)):
        await case.run()
    monkeypatch.setattr(Journal, "_write", write)
    case.check(await case.run())
    await case.check_undo()


@pytest.mark.parametrize(("kind", "remove"), _cases())
@pytest.mark.parametrize("how", ["killed", "cut before", "cut after"])
async def test_each_command_that_changes_something_is_interrupted(
    open_world: OpenWorld, tmp_path: Path, kind: str, remove: tuple[str, ...], how: str
) -> None:
    """The process ends when a command was sent, or the connection before it is done, or before its reply comes."""
    commands = [
        name
        for name in CHANGING
        if name
        in {"delete": ("UID STORE", "UID EXPUNGE"), "copy": ("UID COPY",)}.get(
            kind, ("UID STORE",) if kind in _FLAGS_OF else CHANGING if remove else ("UID MOVE",)
        )
        and not (remove and name == "UID MOVE")
    ]
    for name in commands:
        # Of a change of flags both of its commands.
        for nth in (3, 4) if kind == "change" else (1,) if kind == "undo" else (2,):
            case = Case(await _open(open_world, remove), kind, tmp_path / f"{name}{nth}")
            await case.prepare()
            faults = case.world.server.faults
            if how != "killed":
                faults.add(
                    CutInput(command=name, nth=nth) if how == "cut before" else CutAfterBytes(0, command=name, nth=nth)
                )
                if kind == "undo":
                    await case.run()
            else:
                job = asyncio.create_task(case.run())
                faults.add(Act(partial(_cancel, job), command=name, nth=nth))
                with pytest.raises(asyncio.CancelledError):
                    await job
            report = await case.run()
            assert how == "killed" or kind == "undo" or report.reconnects
            case.check(report)
            await case.check_undo()


@pytest.mark.parametrize("is_done", [True, False], ids=["answer lost", "not done"])
@pytest.mark.parametrize("remove", [(), ("MOVE",), ("OBJECTID",)], ids=["MOVE", "COPY", "by size"])
@pytest.mark.parametrize("kind", ["move", "copy"])
async def test_a_target_that_is_numbered_anew_before_it_is_known_what_came_of_a_command(
    open_world: OpenWorld, tmp_path: Path, kind: str, remove: tuple[str, ...], is_done: bool
) -> None:
    """No run of the journal got any further; twins, and one of the same size, are told apart by their bytes."""
    messages = list(make_messages(12))
    messages[5] = messages[4]
    alike = messages[7][:-3] + b"?" + messages[7][-2:]
    boxes = {"INBOX": Mailbox(messages), "Archive": Mailbox([alike, *make_messages(2, seed=9)])}
    world = await open_world(boxes, remove_extensions=remove)
    before = Counter(bytes(message.content.raw) for box in boxes.values() for message in box)
    world.server.faults.add(
        CutAfterBytes(0, nth=1, command={"UID MOVE", "UID COPY"})
        if is_done
        else CutInput(0, nth=1, command={"UID MOVE", "UID COPY"})
    )
    inbox = world.pool.mailbox("INBOX").search()
    change = inbox.move_to("Archive") if kind == "move" else inbox.copy_to("Archive")
    assert not (await change.run(journal=tmp_path / "journal")).complete
    boxes["Archive"].renumber(1_700_000_000, first_uid=31)
    report = await change.run(journal=tmp_path / "journal")
    assert report.complete
    held = Counter(bytes(message.content.raw) for message in boxes["Archive"])
    assert held == (before if kind == "move" else Counter([alike, *messages, *make_messages(2, seed=9)]))
    assert len(boxes["INBOX"]) == (0 if kind == "move" else 12)


async def test_who_gives_up_while_the_journal_is_taken_gives_it_back(
    open_world: OpenWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await _open(open_world, [])
    is_taking, may_take, was_taken = asyncio.Event(), threading.Event(), threading.Event()
    loop, take = asyncio.get_running_loop(), Journal.take

    def slowly(journal: Journal) -> None:
        loop.call_soon_threadsafe(is_taking.set)
        may_take.wait(60)
        take(journal)
        was_taken.set()

    change = world.pool.mailbox("INBOX").search().move_to("Archive")
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "take", slowly)
        task = asyncio.create_task(change.run(journal=tmp_path / "journal"))
        await is_taking.wait()
        task.cancel()
        await asyncio.sleep(0)
        may_take.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(was_taken.wait, 60)
    assert (await change.run(journal=tmp_path / "journal")).complete
