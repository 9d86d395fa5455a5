"""What follows each message, through storms and cancelled runs: everything is handled, and changed exactly once."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from tests.storms import READING, STORMS, Storm

import imapipe
from imapipe import search as q
from imapipe.pipeline.operation import recovery
from imapipe.testing import Mailbox, Server
from imapipe.testing.messages import make_messages

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("made_up_time")]

COUNT = 15
CHANGING = ("UID STORE", "UID MOVE", "UID COPY", "UID EXPUNGE", "STATUS", "NOOP")
CHANGES = {
    "move": imapipe.move_to("Done"),
    "copy": imapipe.copy_to("Done"),
    "add": imapipe.add_flags("$Done"),
}


def _content(server: Server, name: str) -> Counter[bytes]:
    """All that is in a mailbox and not marked to be removed, each as often."""
    kept = (each for each in server.mailboxes[name] if "\\Deleted" not in each.flags)
    return Counter(bytes(each.content.raw) for each in kept)


@pytest.mark.parametrize("kind", CHANGES)
async def test_each_message_is_changed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(recovery, "LOOK_AGAIN_SECONDS", 0.0)
    for number in range(STORMS // 4):
        storm, handled = Storm(number), set[int]()
        lacks = storm.some_of("MOVE", "OBJECTID", "CONDSTORE", "ESEARCH", "UIDPLUS")
        faults = storm.faults((*READING, *CHANGING), 6)
        told = f"{number}: without {lacks}, {faults}"
        boxes = {"INBOX": Mailbox(make_messages(COUNT)), "Done": Mailbox(make_messages(3, seed=9))}

        async def handle(message: imapipe.Message, handled: set[int] = handled) -> None:
            handled.add(message.uid)

        async with Server(boxes, remove_extensions=lacks, faults=faults) as server:
            before, there = _content(server, "INBOX"), _content(server, "Done")

            async def run(server: Server = server, state: Path = tmp_path / f"{number}.json") -> bool:
                async with imapipe.create_pool(server.url, password=server.password, max_size=3) as pool:
                    layers = imapipe.Checkpoint(state, save_every_messages=5), imapipe.Retry(wait_initial_seconds=0)
                    job = pool.mailbox("INBOX").search(q.ALL).fetch("full").batch(5).use(*layers)
                    return (await job.run(handle, on_done=CHANGES[kind])).complete

            for turn in range(16):
                running = asyncio.create_task(run())
                if turn < 8 and storm.chosen.random() < 0.5:
                    for _ in range(storm.chosen.randint(1, 500)):
                        await asyncio.sleep(0)
                    running.cancel()
                with suppress(imapipe.ImapipeError, asyncio.CancelledError):
                    if await running:
                        break
            else:
                pytest.fail(f"never complete: {told}")
            assert len(handled) == COUNT, told
            assert _content(server, "Done") == there + (Counter() if kind == "add" else before), told
            assert _content(server, "INBOX") == (Counter() if kind == "move" else before), told
            if kind == "add":
                assert server.mailboxes["INBOX"].count_with("$Done") == COUNT, told
