"""Following against Dovecot, in each of the three ways."""

from __future__ import annotations

import asyncio
import imaplib
from typing import Literal

import pytest
from tests.pipeline.follow.follower import Follower, awaited

import imapipe
from dovecot_server import DovecotServer
from imapipe import search as q

_MAIL = b"Subject: new\r\n\r\nnew\r\n"


@pytest.mark.asyncio
@pytest.mark.slow
@pytest.mark.parametrize("way", ["notify", "idle", "poll"])
async def test_what_is_there_and_what_arrives(dovecot: DovecotServer, way: Literal["notify", "idle", "poll"]) -> None:
    user = dovecot.new_user()
    with imaplib.IMAP4("127.0.0.1", dovecot.port) as other:
        other.login(user, dovecot.password)
        for name in ("INBOX", "&ANw-nter"):
            other.create(name)
            other.append(name, "", "", _MAIL)
        url = f"imap://{user}@127.0.0.1:{dovecot.port}"
        async with imapipe.create_pool(url, password=dovecot.password, max_size=3) as pool:
            follower = Follower(pool)
            job = pool.each().search(q.ALL).fetch("envelope")
            follow = job.follow(follower.handle, way=way, poll_seconds=0.3)
            task = asyncio.create_task(awaited(follow))

            async def both(uid: int) -> None:
                await follower.until(lambda: {("INBOX", uid), ("Ünter", uid)} <= set(follower.handled))

            await both(1)
            await follower.until(lambda: {each.way for each in follow.health.mailboxes.values()} == {way})
            for uid in (2, 3):
                other.append("INBOX", "", "", _MAIL)
                other.append("&ANw-nter", "", "", _MAIL)
                await both(uid)
            if way == "notify":
                other.create("later")
                other.append("later", "", "", _MAIL)
                await follower.until(lambda: ("later", 1) in follower.handled)
            await follower.until(lambda: follow.report.done == len(follower.handled))
            follow.stop()
            report = await task
    assert set(follower.handled.values()) == {1}
    assert (report.done, report.complete) == (len(follower.handled), True)
