"""Copying from Gmail, where mailboxes are labels, and into it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

import imapipe
from imapipe import search as q
from imapipe import sinks
from imapipe.testing import GmailMailboxes, Mailbox, Server
from imapipe.testing.messages import make_messages

ALL, SENT, SPAM = "[Gmail]/All Mail", "[Gmail]/Sent Mail", "[Gmail]/Spam"


def _gmail() -> GmailMailboxes:
    """Nine messages: in the inbox, with one label more, sent, archived, starred, spam."""
    account = GmailMailboxes()
    labels = [["\\Inbox"], ["\\Inbox", "Work"], ["\\Sent", "Work/Sub"], [], ["\\Inbox", "\\Starred", "\\Important"]]
    for number, raw in enumerate(make_messages(8, seed=5)):
        flags = ["\\Flagged"] if number % 5 == 4 else ["\\Seen"] if number % 2 else []
        account.deliver(raw, labels=labels[number % 5], flags=flags)
    account[SPAM].append(b"Message-ID: <spam@example.org>\r\nSubject: spam\r\n\r\n")
    return account


def _counts(server: Server) -> dict[str, int]:
    return {name: len(box) for name, box in server.mailboxes.items() if len(box)}


class Move:
    """Two servers, and the job of copying all from one to the other."""

    def __init__(self, source: Server, target: Server, old: imapipe.Pool, new: imapipe.Pool) -> None:
        self.source = source
        self.target = target
        self._old = old
        self._new = new

    async def copy(self, state: Path | None = None, labels: sinks.Labels = "each") -> imapipe.AccountReport:
        """Copy, and compare."""
        folders = await sinks.map_folders(self._old, self._new)
        job = self._old.each("*", exclude=folders.left_out).search(q.ALL).fetch("full")
        report = await job.run(sinks.Account(self._new, folders, state=state, labels=labels))
        assert report.complete, report.table()
        compared = await sinks.verify_copy(self._old, self._new, folders, list(report.reports), labels=labels)
        assert compared.complete, compared.table()
        return report

    def appended(self) -> int:
        """How many messages the target's server took."""
        return sum(record.messages or 0 for record in self.target.commands.named("APPEND") if record.outcome == "OK")


@pytest_asyncio.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def _between(stack: AsyncExitStack, source: Server, target: Server) -> Move:
    pools = []
    for server in (source, target):
        await stack.enter_async_context(server)
        pools.append(await stack.enter_async_context(imapipe.create_pool(server.url, password=server.password)))
    return Move(source, target, *pools)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("each", {"INBOX": 5, "Work": 2, "Sent": 2, "Work/Sub": 2, "Archive": 1, "Spam": 1}),
        ("first", {"INBOX": 5, "Sent": 2, "Archive": 1, "Spam": 1}),
    ],
)
async def test_from_gmail(
    stack: AsyncExitStack, tmp_path: Path, labels: sinks.Labels, expected: dict[str, int]
) -> None:
    target = Server({"INBOX": 0, "Sent": Mailbox(special_use="\\Sent")})
    move = await _between(stack, Server(_gmail(), extensions="gmail"), target)
    state = tmp_path / "state"
    report = await move.copy(state, labels)
    assert (report.done, _counts(target)) == (9, expected)
    assert [box.special_use for name, box in target.mailboxes.items() if name == "Archive"] == ["\\Archive"]
    assert sum("\\Flagged" in message.flags for message in target.mailboxes["INBOX"]) == 1
    appended = move.appended()
    assert appended == sum(expected.values())
    assert (await move.copy(state, labels)).skipped == 9
    state.unlink()
    # Half of what the state said is lost, too.
    await move.copy(state, labels)
    assert (move.appended(), _counts(target)) == (appended, expected)


@pytest.mark.asyncio
async def test_what_was_killed_between_two_labels_is_gone_on_with(stack: AsyncExitStack, tmp_path: Path) -> None:
    target = Server({"INBOX": 0})
    move = await _between(stack, Server(_gmail(), extensions="gmail"), target)
    state = tmp_path / "state"
    await move.copy(state)
    counts, appended = _counts(target), move.appended()
    # The copies of one label are in the state, nothing says that a message is in all its places.
    lines = state.read_bytes().splitlines(keepends=True)
    state.write_bytes(b"".join(line for line in lines if b'"whole"' not in line and b'"Work"' not in line))
    assert (await move.copy(state)).done == 8
    assert (_counts(target), move.appended()) == (counts, appended)


@pytest.mark.asyncio
async def test_into_gmail_which_keeps_one_of_what_is_the_same(stack: AsyncExitStack, tmp_path: Path) -> None:
    messages = list(make_messages(6, seed=7))
    source = Server(
        {
            "INBOX": [*messages[:4], messages[0]],
            "Work": messages[2:],
            "Gesendet": Mailbox(messages[5:], special_use="\\Sent"),
        }
    )
    target = Server(GmailMailboxes(), extensions="gmail")
    move = await _between(stack, source, target)
    expected = {"INBOX": 4, "Work": 4, SENT: 1, ALL: 6}
    state = tmp_path / "state"
    for _ in range(2):
        await move.copy(state)
        assert _counts(target) == expected
    appended = move.appended()
    state.unlink()
    await move.copy(state)
    assert (_counts(target), move.appended()) == (expected, appended)


@pytest.mark.asyncio
async def test_from_gmail_to_gmail(stack: AsyncExitStack) -> None:
    source, target = Server(_gmail(), extensions="gmail"), Server(GmailMailboxes(), extensions="gmail")
    move = await _between(stack, source, target)
    for _ in range(2):
        await move.copy()
        counts = _counts(source)
        assert {**_counts(target), "[Gmail]/Important": 0} == {**counts, "[Gmail]/Important": 0}
    labels = [
        {message.content.raw: set(message.labels) - {"\\Important"} for message in server.mailboxes[ALL]}
        for server in (source, target)
    ]
    assert labels[0] == labels[1]
