"""`kill -9` at random moments of copying an account: in the end all is there, once, as it was.

With IMAPIPE_PROOF_MESSAGES in the environment it is so many messages, and 20 deaths of each copy.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

import imapipe
from dovecot_server import DovecotServer
from dovecot_server.maildir import Mail
from imapipe import sinks
from imapipe.testing import Mailbox, Server
from imapipe.testing.messages import make_messages

MESSAGES: Final = int(os.environ.get("IMAPIPE_PROOF_MESSAGES", "300"))
KILLS: Final = 6 if MESSAGES <= 300 else 20
# The mailboxes, and how many of the messages are in each.
SHARES: Final = {"INBOX": 0.6, "Sent": 0.3, "Lists/python": 0.1}
_FLAGS: Final = ((), ("\\Seen",), ("\\Seen", "\\Answered"), ("\\Flagged", "$Work"), ("$Junk",))


def _mails(mailbox: str) -> Iterator[Mail]:
    count = int(MESSAGES * SHARES[mailbox])
    raw = list(make_messages(count - count // 20, seed=len(mailbox), size=None if MESSAGES <= 300 else 3000))
    # Some are there twice.
    for number, content in enumerate(raw + raw[: count // 20]):
        date = datetime(2020, 1, 1, 12, tzinfo=UTC) + timedelta(minutes=37 * number)
        yield Mail(content, _FLAGS[number % len(_FLAGS)], date)


def _boxes() -> dict[str, Mailbox]:
    boxes = {}
    for name in SHARES:
        boxes[name] = Mailbox(special_use="\\Sent" if name == "Sent" else "")
        for mail in _mails(name):
            boxes[name].append(mail.content, mail.flags, mail.internal_date)
    return boxes


@asynccontextmanager
async def _servers(kind: str, dovecot: DovecotServer) -> AsyncIterator[tuple[dict[str, str], list[dict[str, str]]]]:
    """The source, and targets enough: URL and password of each."""
    async with AsyncExitStack() as stack:
        if kind == "dovecot":
            user = dovecot.new_user("from")
            for name in SHARES:
                dovecot.fill(user, name, _mails(name))
            users = [dovecot.new_user("to") for _ in range(KILLS + 1)]
            urls = [{"url": dovecot.url(each), "password": dovecot.password} for each in (user, *users)]
        else:
            source = await stack.enter_async_context(Server(_boxes()))
            targets = [await stack.enter_async_context(Server(0)) for _ in range(KILLS + 1)]
            urls = [{"url": each.url, "password": each.password} for each in (source, *targets)]
        yield urls[0], urls[1:]


@pytest.mark.slow
@pytest.mark.timeout(0 if MESSAGES > 300 else 300)
@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["dovecot", "embedded"])
async def test_deaths(dovecot: DovecotServer, tmp_path: Path, kind: str) -> None:
    moments = random.Random(f"{kind} 6")
    longest = 0.3 if MESSAGES <= 300 else MESSAGES / 4000
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("copying_job.py")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    async with _servers(kind, dovecot) as (source, targets):

        async def run(target: dict[str, str], state: Path, seconds: float) -> str:
            """Have a child copy; gives how it ended."""
            assert program.stdin is not None
            assert program.stdout is not None
            order = {
                "source": source["url"],
                "source_password": source["password"],
                "target": target["url"],
                "target_password": target["password"],
                "state": str(state),
                "kill_after_seconds": seconds,
            }
            program.stdin.write(json.dumps(order).encode() + b"\n")
            return (await program.stdout.readline()).decode().strip()

        kills = 0
        for number, target in enumerate(targets):
            state = tmp_path / f"state{number}"
            while kills < KILLS and await run(target, state, moments.uniform(0.02, longest)) == "killed":
                kills += 1
                if moments.random() < 0.3:
                    state.unlink(missing_ok=True)
            assert await run(target, state, 3600.0) == "ended 0"
            async with (
                imapipe.create_pool(source["url"], password=source["password"]) as old,
                imapipe.create_pool(target["url"], password=target["password"]) as new,
            ):
                await _is_the_same(old, new)
                for _ in range(2):
                    # With the state, and with the state lost: what is there already is found, and nothing appended.
                    before = await _next_uids(new)
                    assert await run(target, state, 3600.0) == "ended 0"
                    assert await _next_uids(new) == before
                    state.unlink()
            if kills == KILLS:
                break
    assert program.stdin is not None
    program.stdin.close()
    assert await program.wait() == 0


async def _is_the_same(old: imapipe.Pool, new: imapipe.Pool) -> None:
    found = await sinks.verify_copy(old, new, await sinks.map_folders(old, new), list(SHARES))
    assert found.complete, found.table()
    counts = {name: (each.messages, each.messages_there, each.others) for name, each in found.folders.items()}
    wanted = {name: int(MESSAGES * share) for name, share in SHARES.items()}
    assert counts == {name: (count, count, 0) for name, count in wanted.items()}


async def _next_uids(pool: imapipe.Pool) -> dict[str, int | None]:
    return {entry.name: entry.status.uidnext for entry in await pool.mailboxes() if entry.status is not None}
