"""Places in another account: made, subscribed to, found again under the name they got."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AsyncExitStack

import pytest

import imapipe
from dovecot_server import DovecotServer
from imapipe import search as q
from imapipe import sinks
from imapipe.testing import Mailbox, Server
from imapipe.testing.messages import make_messages


async def _pool(stack: AsyncExitStack, url: str, password: str) -> imapipe.Pool:
    return await stack.enter_async_context(imapipe.create_pool(url, password=password))


async def _copied(old: imapipe.Pool, new: imapipe.Pool) -> dict[str, tuple[int, set[str]]]:
    """Copy all mailboxes twice; gives what is there then: how many messages, and what for."""
    for _ in range(2):
        folders = await sinks.map_folders(old, new)
        report = await old.each("*").search(q.ALL).fetch("full").run(sinks.Account(new, folders))
        assert report.complete
        differences = await sinks.verify_copy(old, new, folders, list(report.reports))
        assert differences.complete, differences.table()
    roles = {"\\Sent", "\\Drafts", "\\Subscribed"}
    return {str(e.name): (e.status.messages or 0, set(e.attributes & roles)) for e in await new.mailboxes() if e.status}


@pytest.mark.asyncio
@pytest.mark.usefixtures("dovecot")
async def test_prefix_delimiter_and_special_use_of_dovecot() -> None:
    extra = """
namespace inbox {
  prefix = INBOX.
  separator = .
  mailbox Gesendet {
    special_use = \\Sent
    auto = create
  }
}
"""
    messages: dict[str, int | Iterable[bytes] | Mailbox] = {
        "INBOX": 4,
        "Sent": Mailbox(make_messages(3, seed=1), special_use="\\Sent"),
        "Work/2024.1": 2,
        "Entwürfe": Mailbox(make_messages(1, seed=2), special_use="\\Drafts"),
    }
    with DovecotServer(extra=extra) as dovecot:
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(Server(messages))
            last = await stack.enter_async_context(Server(0))
            old, new = [await _pool(stack, server.url, server.password) for server in (first, last)]
            between = await _pool(stack, dovecot.url("bob"), dovecot.password)
            found = await _copied(old, between)
            counts = {name: count for name, (count, _) in found.items()}
            assert counts == {
                "INBOX": 4,
                "INBOX.Gesendet": 3,
                "INBOX.Work.2024_1": 2,
                "INBOX.Entwürfe": 1,
            }
            assert found["INBOX.Gesendet"][1] == {"\\Sent", "\\Subscribed"}
            # And on to a server that makes mailboxes for a special use.
            found = await _copied(between, new)
            assert found["Gesendet"] == (3, {"\\Sent", "\\Subscribed"})
            assert found["Work/2024_1"][0] == 2


@pytest.mark.asyncio
async def test_a_name_that_is_refused(dovecot: DovecotServer) -> None:
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(Server({"INBOX": 0, "v1.2": 3, "v1_2": 2}))
        old = await _pool(stack, source.url, source.password)
        new = await _pool(stack, dovecot.url(dovecot.new_user()), dovecot.password)
        found = await _copied(old, new)
        assert {name: count for name, (count, _) in found.items()} == {"INBOX": 0, "v1_2 (2)": 3, "v1_2": 2}


@pytest.mark.asyncio
async def test_subscriptions_of_servers_that_tell_them_apart(dovecot: DovecotServer) -> None:
    """By LSUB from a server without LIST-EXTENDED; to a mailbox that was there already, too."""
    boxes = {"INBOX": Mailbox(), "Read": Mailbox(make_messages(1)), "Kept": Mailbox(subscribed=False)}
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(Server(boxes, extensions="plain"))
        old = await _pool(stack, source.url, source.password)
        new = await _pool(stack, dovecot.url(dovecot.new_user()), dovecot.password)
        await new.mailbox("Read").create()
        found = await _copied(old, new)
        assert (found["Read"], found["Kept"]) == ((1, {"\\Subscribed"}), (0, set()))
