"""Changes, undos and copies through storms: several faults at random moments, and an end as if there had been none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from tests.storms import READING, STORMS, Storm

import imapipe
from imapipe import search as q
from imapipe import sinks
from imapipe.pipeline.operation import recovery
from imapipe.testing import Mailbox, Server
from imapipe.testing.messages import make_messages

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("made_up_time")]

COUNT: Final = 15
CHANGING: Final = (*READING, "STATUS", "NOOP", "UID STORE", "UID MOVE", "UID COPY", "UID EXPUNGE")
APPENDING: Final = (*READING, "STATUS", "CREATE", "SUBSCRIBE", "LIST", "APPEND", "APPEND", "APPEND")
Content = Counter[tuple[bytes, object, frozenset[str]]]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of these tests does nothing any more when a connection has ended."""
    monkeypatch.setattr(recovery, "LOOK_AGAIN_SECONDS", 0.0)


def _content(server: Server, name: str) -> Content:
    """All that is in a mailbox and not marked to be removed, each as often."""
    kept = (each for each in server.mailboxes[name] if "\\Deleted" not in each.flags)
    return Counter((bytes(each.content.raw), each.internal_date, each.flags - {"\\Recent"}) for each in kept)


def _flag(box: Mailbox) -> None:
    for each in list(box):
        box.set_flags(each.uid, ["\\Seen", "$Old"][: each.uid % 3])


async def _until_complete(once: Callable[[], Awaitable[bool]], storm: object) -> None:
    """Run it again where it ended, as people do."""
    for _ in range(12):
        try:
            if await once():
                return
        except imapipe.ImapipeError:
            continue
    pytest.fail(f"never complete: {storm}")


async def _change(server: Server, kind: str, journal: Path) -> bool:
    async with imapipe.create_pool(server.url, password=server.password, max_size=2) as pool:
        if kind == "undo":
            return (await imapipe.undo(journal, pool, use=[imapipe.Retry(wait_initial_seconds=0)])).complete
        job = pool.mailbox("INBOX").search(q.ALL).batch(4).use(imapipe.Retry(wait_initial_seconds=0))
        change = {
            "move": partial(job.move_to, "Archive"),
            "copy": partial(job.copy_to, "Archive"),
            "delete": partial(job.delete, permanently=True),
            "add": partial(job.add_flags, "$Work"),
            "set": partial(job.set_flags, "$Only"),
        }[kind]()
        report = await change.run(journal=journal)
        assert report.planned == report.done + report.skipped + report.vanished + report.failed
        return report.complete


def _expected(kind: str, inbox: Content, archive: Content) -> tuple[Content, Content]:
    """What is in both mailboxes at the end."""

    def flagged(change: Callable[[frozenset[str]], frozenset[str]]) -> Content:
        return Counter((raw, date, change(flags)) for raw, date, flags in inbox.elements())

    return {
        "move": (Counter(), archive + inbox),
        "copy": (inbox, archive + inbox),
        "delete": (Counter(), archive),
        "add": (flagged(lambda had: had | {"$Work"}), archive),
        "set": (flagged(lambda had: frozenset({"$Only"})), archive),
    }[kind]


@pytest.mark.parametrize("is_undone", [False, True], ids=["change", "undo"])
async def test_a_change_comes_to_the_same_end(tmp_path: Path, is_undone: bool) -> None:
    for number in range(STORMS):
        storm = Storm(number)
        kind = storm.chosen.choice(("move", "add", "set") if is_undone else ("move", "copy", "delete", "add", "set"))
        lacks = storm.some_of("MOVE", "OBJECTID", "CONDSTORE", "ESEARCH", *(() if is_undone else ("UIDPLUS",)))
        faults = storm.faults(CHANGING, 6)
        boxes = {"INBOX": Mailbox(make_messages(COUNT)), "Archive": Mailbox(make_messages(3, seed=9))}
        told = f"{number}: {kind} without {lacks}, {faults}"
        async with Server(boxes, remove_extensions=lacks) as server:
            _flag(boxes["INBOX"])
            before = _content(server, "INBOX"), _content(server, "Archive")
            journal = tmp_path / str(number)
            if is_undone:
                assert await _change(server, kind, journal)
            for fault in faults:
                server.faults.add(fault)
            await _until_complete(partial(_change, server, "undo" if is_undone else kind, journal), told)
            expected = before if is_undone else _expected(kind, *before)
            assert (_content(server, "INBOX"), _content(server, "Archive")) == expected, told


@pytest.mark.parametrize("keeps_state", [True, False])
async def test_a_copy_to_another_account_comes_to_the_same_end(tmp_path: Path, keeps_state: bool) -> None:
    for number in range(STORMS):
        storm = Storm(number)
        messages = [*make_messages(COUNT, seed=number % 5)]
        # Twins, which nothing but their number tells apart.
        messages += messages[: storm.chosen.choice((0, 3))]
        lacks = storm.some_of("MULTIAPPEND", "UIDPLUS", "OBJECTID", "CONDSTORE", "LITERAL+", "ESEARCH")
        of_source, of_target = storm.faults(READING, 2), storm.faults(APPENDING, 5)
        state = tmp_path / str(number)
        told = f"{number}: without {lacks}, {of_source}, {of_target}"
        async with AsyncExitStack() as stack:
            source = await stack.enter_async_context(Server(messages, user="ann", faults=of_source))
            target = await stack.enter_async_context(Server(0, user="bob", remove_extensions=lacks, faults=of_target))
            _flag(source.mailboxes["INBOX"])
            before = _content(source, "INBOX")
            await _until_complete(partial(_copy, source, target, state), told)
            if not keeps_state:
                state.unlink()
                await _until_complete(partial(_copy, source, target, state), told)
            assert _content(target, "Old") == before, told


async def _copy(source: Server, target: Server, state: Path) -> bool:
    async with (
        imapipe.create_pool(source.url, password=source.password, max_size=2) as here,
        imapipe.create_pool(target.url, password=target.password, max_size=3) as there,
    ):
        sink = sinks.Account(there, {"INBOX": "Old"}, state=state, outage_seconds=1.0)
        job = here.mailbox("INBOX").search(q.ALL).fetch("full").batch(7).use(imapipe.Retry(wait_initial_seconds=0))
        return (await job.run(sink, commit_every_messages=5)).complete
