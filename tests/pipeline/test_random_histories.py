"""Whatever becomes of a mailbox between runs and within them: what was never handled is never skipped.

The index never shows the fields of one message for another. What a checkpoint cannot know is left out: a mailbox that
is rewound, and grows beyond what was told before anybody looks at it, shows in no number.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.pipeline.test_reissued_uids import told

import imapipe
from imapipe import search as q
from imapipe.errors import UidValidityChanged
from imapipe.pipeline import access, lane, outage
from imapipe.testing import Act, CutAfterBytes, Fault, Mailbox, Server

pytestmark = pytest.mark.slow

MESSAGES = 12
# How the server tells UIDNEXT, and whether a mailbox that is rewound can be noticed then.
TELLING: dict[str, tuple[list[Fault], bool]] = {
    "as it should": ([], True),
    "by STATUS": ([told(None, "EXAMINE")], True),
    "never": ([told(None)], False),
    "made up: 1": ([told(1)], False),
    "made up: the largest": ([told(2**32 - 1)], False),
}

number = st.integers(0, MESSAGES - 1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 4)),
        st.tuples(st.sampled_from(["expunge", "rewind", "run into expunge", "run into rewind"]), number),
        st.tuples(
            st.sampled_from(["renumber", "restart", "run", "index", "run into renumber", "run, cancelled"]), st.just(0)
        ),
    ),
    min_size=2,
    max_size=12,
)


@dataclass
class History:
    """A mailbox, what was done with it, and what was told of it to whom.

    Attributes:
        box: The mailbox.
        can_rewind: Whether the server tells what shows it.
        seen: What was handled, by subject.
        next_to: The UIDNEXT that was told to the runs and to the index, and that was rewound since.
        renumbered: For whom UIDs mean other messages since they looked.
        told_to: The UIDNEXT that was told to them last.
        number: How many messages there ever were.
    """

    box: Mailbox
    can_rewind: bool
    seen: set[str] = field(default_factory=set)
    told_to: dict[str, int] = field(default_factory=dict)
    renumbered: set[str] = field(default_factory=set)
    number: int = 0

    def append(self, count: int) -> None:
        """So many messages come, as far as a mailbox that was rewound does not overtake what was told."""
        for _ in range(count):
            if "run" in self.renumbered & self.told_to.keys() and self.box.uidnext + 1 >= self.told_to["run"]:
                return
            self.number += 1
            self.box.append(b"Subject: #%d\r\n\r\n" % self.number)

    def expunge(self, index: int) -> None:
        self.box.expunge(list(self.box.uids)[index : index + 1])

    def rewind(self, index: int) -> None:
        if self.can_rewind and index < len(self.box):
            self.renumbered |= {"run", "index"}
            self.box.rewind_uidnext(self.box.uids[index])
            self.append(1)

    def renumber(self, _: int = 0) -> None:
        # Anybody sees it by UIDVALIDITY: nothing that was told before counts.
        self.renumbered |= {"run", "index"}
        self.told_to.clear()
        self.box.renumber(first_uid=2)

    def looked(self, name: str) -> None:
        self.told_to[name] = self.box.uidnext
        self.renumbered.discard(name)

    @property
    def subjects(self) -> dict[int, str]:
        return {message.uid: message.content.raw.split(b"\r\n")[0][9:].decode() for message in self.box}


@settings(max_examples=50)
@given(steps, st.sampled_from(sorted(TELLING)))
def test_what_was_never_handled_is_never_skipped(steps: list[tuple[str, int]], telling: str) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        # Who finds a connection dead waits before asking again; here nobody need wait for long.
        patch.setattr(access, "LOOK_PAUSE_SECONDS", 0.001)
        patch.setattr(lane, "FIRST_PAUSE_SECONDS", 0.004)
        patch.setattr(outage, "_FIRST_WAIT_SECONDS", 0.001)
        asyncio.run(_live(steps, telling, Path(folder)))


async def _live(steps: list[tuple[str, int]], telling: str, folder: Path) -> None:
    faults, can_rewind = TELLING[telling]
    async with Server(Mailbox(), faults=faults) as server:
        history = History(server.mailboxes["INBOX"], can_rewind)
        history.append(MESSAGES)
        async with (
            imapipe.create_pool(server.url, password=server.password, max_size=2) as pool,
            imapipe.MessageIndex(folder / "mail.index") as index,
        ):
            for step, argument in steps:
                if step == "restart":
                    server.disconnect_all()
                elif step == "index":
                    await _index(history, pool, index)
                elif step == "run":
                    await _run(history, pool, folder / "state.json")
                elif step == "run, cancelled":
                    await _cancelled_run(history, pool, folder / "state.json")
                elif step.startswith("run into"):
                    await _disturbed_run(history, server, pool, folder / "state.json", step.split()[-1], argument)
                else:
                    getattr(history, step)(argument)
            await _run(history, pool, folder / "state.json")
            await _index(history, pool, index)


def _job(pool: imapipe.Pool, path: Path, **options: str) -> imapipe.Pipeline:
    checkpoint = imapipe.Checkpoint(path, **options)  # type: ignore[arg-type]
    job = pool.mailbox("INBOX").search(q.ALL).fetch("envelope").batch(imapipe.FixedBatch(3))
    return job.use(checkpoint, imapipe.Retry(wait_initial_seconds=0.001))


async def _run(history: History, pool: imapipe.Pool, path: Path) -> None:
    """Nothing disturbs it. It is an alarm only where there is a reason for one; afterwards nothing is left to do."""

    async def handle(message: imapipe.Message) -> None:
        history.seen.add(message.subject)

    try:
        report = await _job(pool, path).run(handle)
    except UidValidityChanged:
        assert "run" in history.renumbered
        report = await _job(pool, path, on_uidvalidity="restart").run(handle)
    assert report.complete
    assert report.planned == len(history.box)
    assert set(history.subjects.values()) <= history.seen
    history.looked("run")


async def _cancelled_run(history: History, pool: imapipe.Pool, path: Path) -> None:
    begun = asyncio.Event()

    async def handle(message: imapipe.Message) -> None:
        if begun.is_set():
            await asyncio.sleep(3600)
        history.seen.add(message.subject)
        begun.set()

    if not len(history.box):
        return
    task = asyncio.ensure_future(_job(pool, path).run(handle, concurrency=1))
    waiting = asyncio.ensure_future(begun.wait())
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    task.cancel()
    waiting.cancel()
    try:
        await task
    except UidValidityChanged:
        assert "run" in history.renumbered
        return
    except asyncio.CancelledError:
        pass
    history.looked("run")


async def _disturbed_run(
    history: History, server: Server, pool: imapipe.Pool, path: Path, change: str, argument: int
) -> None:
    """In the middle of it something becomes of the mailbox, and the connection ends."""
    act = Act(lambda _: None, command="UID FETCH", nth=2)

    def disturb(_: object) -> None:
        # The run has looked by now.
        history.looked("run")
        getattr(history, change)(argument)

    act.action = disturb
    cut = CutAfterBytes(0, "close", command="UID FETCH", nth=2)
    server.faults.add(act, cut)

    async def handle(message: imapipe.Message) -> None:
        history.seen.add(message.subject)

    try:
        await _job(pool, path).run(handle)
    except UidValidityChanged:
        assert "run" in history.renumbered
    else:
        if not act.fired:
            history.looked("run")
    finally:
        server.faults.remove(act)
        server.faults.remove(cut)


async def _index(history: History, pool: imapipe.Pool, index: imapipe.MessageIndex) -> None:
    report = await index.update(pool.mailbox("INBOX"))
    assert report.complete
    assert not report.reindexed or "index" in history.renumbered
    assert {entry.uid: entry.subject for entry in await index.find()} == history.subjects
    history.looked("index")
