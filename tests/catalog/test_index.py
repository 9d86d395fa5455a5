"""The local index against servers: one pass, then only what is new; kills, renumbering, failures (S11)."""

from __future__ import annotations

import asyncio
import datetime
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

import anyio.to_thread
import orjson
import pytest

import imapipe
from dovecot_server import DovecotServer, Mail
from imapipe import search as q
from imapipe.net.pool import connection_limit
from imapipe.pipeline import outage
from imapipe.testing import (
    Act,
    Delay,
    OmitUids,
    RefuseConnection,
    ReplaceResponses,
    Rewrite,
    SearchCap,
    Server,
    Stall,
    SyntheticMailbox,
)

UTC = datetime.UTC


def open_pool(server: Server, **options: object) -> imapipe.Pool:
    return imapipe.create_pool(server.url, password=server.password, **options)  # type: ignore[arg-type]


def fetched(server: Server) -> int:
    """How many messages were fetched since the last call."""
    count = sum(record.messages for record in server.commands.named("UID FETCH"))
    server.commands.clear()
    return count


def uids(entries: Iterable[imapipe.IndexEntry]) -> list[int]:
    return [entry.uid for entry in entries]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mail.index"


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.asyncio
async def test_s11_twenty_thousand_in_one_pass_then_only_what_is_new(path: Path) -> None:
    async with Server(SyntheticMailbox(20_000)) as server, open_pool(server) as pool:
        async with imapipe.MessageIndex(path) as index:
            report = await index.update(pool.mailbox("INBOX"))
        assert (report.found, report.known, report.added, report.total) == (20_000, 0, 20_000, 20_000)
        assert report.complete
        assert report.bytes_received > 20_000 * 100
        assert fetched(server) == 20_000

        box = server.mailboxes["INBOX"]
        new = [box.append(b"From: Zoe <ZOE@example.de>\r\nSubject: Fresh news\r\n\r\nx\r\n") for _ in range(3)]
        box.expunge([5, 6, 20_000])
        async with imapipe.MessageIndex(path) as index:
            again = await index.update(pool.mailbox("INBOX"))
            assert (again.found, again.known, again.added, again.removed) == (20_000, 19_997, 3, 3)
            assert again.total == 20_000
            (command,) = server.commands.named("UID FETCH")
            assert command.message_set == "20001:20003"
            assert fetched(server) == 3
            assert uids(await index.find(sender="zoe@example.de", subject="fresh")) == list(reversed(new))
            assert not await index.find(subject="0000000005")

            nothing = await index.update(pool.mailbox("INBOX"))
            assert (nothing.known, nothing.added, nothing.removed) == (20_000, 0, 0)
            assert server.commands.names == ["EXAMINE", "UID SEARCH"]


@pytest.mark.asyncio
async def test_s11_the_four_questions_need_no_server(path: Path) -> None:
    report = b"From: Ann Example <Ann@Example.org>\r\nSubject: Weekly report\r\n"
    messages = [
        report + b"Date: Mon, 1 Jan 2024 08:00:00 +0100\r\n\r\nx\r\n",
        b"From: =?utf-8?q?Jos=C3=A9?= <jose@example.es>\r\nSubject: =?utf-8?b?w5xiZXJncsO2w59lbg==?=\r\n"
        b"Date: Tue, 2 Jan 2024 08:00:00 +0000\r\nMessage-ID: <2@example.es>\r\n\r\n" + b"x" * 20_000 + b"\r\n",
        b"Subject: no sender and no date\r\n\r\nx\r\n",
    ]
    async with Server(messages) as server:
        server.mailboxes["INBOX"].set_flags(2, ["\\Seen", "$Junk"])
        async with open_pool(server) as pool, imapipe.MessageIndex(path) as index:
            assert (await index.update(pool.mailbox("inbox"))).added == 3
    async with imapipe.MessageIndex(path, must_exist=True) as index:
        assert uids(await index.find(sender="ann@example.org")) == [1]
        assert uids(await index.find(subject="report weekly")) == [1]
        assert uids(await index.find(size_class="medium")) == [2]
        first = datetime.datetime(2024, 1, 1, 7, tzinfo=UTC)
        assert uids(await index.find(since=first, before=first + datetime.timedelta(seconds=1))) == [1]
        (entry,) = await index.find(text="jose ubergroßen", mailbox="INBOX", limit=5)
        assert entry == imapipe.IndexEntry(
            account=pool.account,
            mailbox="INBOX",
            uidvalidity=server.mailboxes["INBOX"].uidvalidity,
            uid=2,
            sender="jose@example.es",
            sender_name="José",
            subject="Übergrößen",
            date=datetime.datetime(2024, 1, 2, 8, tzinfo=UTC),
            internal_date=datetime.datetime(2024, 1, 1, 9, tzinfo=UTC),
            size=len(messages[1]),
            size_class=imapipe.SizeClass.MEDIUM,
            flags=frozenset({"\\Seen", "$Junk"}),
            message_id="<2@example.es>",
            cursor=entry.cursor,
        )
        assert (entry.cursor.uidnext, entry.cursor.mailboxid) == (4, server.mailboxes["INBOX"].mailbox_id)
        (bare,) = await index.find(subject="no date")
        assert (bare.sender, bare.sender_name, bare.message_id) == ("", "", "")
        # Without a Date header the arrival stands for it.
        assert bare.date == bare.internal_date == datetime.datetime(2024, 1, 1, 10, tzinfo=UTC)


@pytest.mark.asyncio
async def test_s23_an_index_of_a_part_grows_and_loses_nothing(path: Path) -> None:
    async with (
        Server(SyntheticMailbox(100)) as server,
        open_pool(server) as pool,
        imapipe.MessageIndex(path) as index,
    ):
        mailbox = pool.mailbox("INBOX")
        first = await index.update(mailbox, search=q.UNSEEN)
        assert (first.found, first.added, first.total) == (30, 30, 30)
        # Another search says nothing about the messages it does not find.
        second = await index.update(mailbox, search=q.FLAGGED)
        assert (second.found, second.known, second.added, second.removed, second.total) == (20, 10, 10, 0, 40)
        third = await index.update(mailbox)
        assert (third.known, third.added, third.total) == (40, 60, 100)
        assert fetched(server) == 100


@pytest.mark.asyncio
async def test_an_empty_mailbox_is_a_report_of_zeros(path: Path) -> None:
    async with Server() as server, open_pool(server) as pool, imapipe.MessageIndex(path) as index:
        report = await index.update(pool.mailbox("INBOX"))
        assert (report.found, report.added, report.total, report.complete) == (0, 0, 0, True)
        assert await index.find() == []


@pytest.mark.asyncio
@pytest.mark.parametrize("extensions", ["modern", "plain"])
async def test_flags_of_what_is_known_are_brought_up_to_date(path: Path, extensions: str) -> None:
    async with (
        Server(50, extensions=extensions) as server,
        open_pool(server) as pool,
        imapipe.MessageIndex(path) as index,
    ):
        box, mailbox = server.mailboxes["INBOX"], pool.mailbox("INBOX")
        assert (await index.update(mailbox)).flags_changed == 0
        box.set_flags(7, {"\\Seen", "$Work"})
        box.set_flags(8, {"\\Flagged"})
        box.expunge([8])
        box.append(b"Subject: new\r\n\r\n", {"\\Draft"})
        server.commands.clear()
        report = await index.update(mailbox)
        assert (report.flags_changed, report.added, report.removed, report.complete) == (1, 1, 1, True)
        # The new one, and beside it only what changed where the server can tell.
        assert fetched(server) == (2 if extensions == "modern" else 50)
        assert {entry.uid: entry.flags for entry in await index.find()} == {m.uid: m.flags for m in box}
        box.set_flags(7, set())
        assert (await index.update(mailbox, refresh_flags=False)).flags_changed == 0
        # What a part of the mailbox told does not count for all of it.
        assert (await index.update(mailbox, search=q.uid(9))).flags_changed == 0
        assert (await index.update(mailbox)).flags_changed == 1
        assert {entry.uid: entry.flags for entry in await index.find()} == {m.uid: m.flags for m in box}


@pytest.mark.asyncio
async def test_another_uidvalidity_begins_the_mailbox_anew(path: Path) -> None:
    async with (
        Server({"INBOX": 10, "Other": 5}) as server,
        open_pool(server) as pool,
        imapipe.MessageIndex(path) as index,
    ):
        for name in ("INBOX", "Other"):
            await index.update(pool.mailbox(name))
        server.mailboxes["INBOX"].change_uidvalidity()
        server.commands.clear()
        report = await index.update(pool.mailbox("INBOX"))
        assert (report.reindexed, report.known, report.added, report.total) == (True, 0, 10, 10)
        assert fetched(server) == 10
        assert {entry.uidvalidity for entry in await index.find(mailbox="INBOX")} == {report.uidvalidity}
        assert len(await index.find()) == 15


@pytest.mark.asyncio
async def test_accounts_and_mailboxes_of_one_file_are_apart(path: Path) -> None:
    async with (
        Server({"INBOX": 3, "Other": 4}) as server,
        Server(5) as second,
        open_pool(server) as pool,
        open_pool(second) as other,
        imapipe.MessageIndex(path) as index,
    ):
        for mailbox in (pool.mailbox("INBOX"), pool.mailbox("Other"), other.mailbox("INBOX")):
            assert (await index.update(mailbox)).complete
        assert len(await index.find()) == 12
        assert len(await index.find(mailbox="INBOX")) == 8
        assert len(await index.find(mailbox="INBOX", account=pool.account)) == 3


@pytest.mark.asyncio
async def test_a_message_that_cannot_be_read_costs_itself_and_is_tried_again(path: Path) -> None:
    broken = b'* 2 FETCH (UID 2 FLAGS () INTERNALDATE "01-Jan-2024 08:00:00 +0000" RFC822.SIZE 9 ENVELOPE (NIL))\r\n'
    faults = [ReplaceResponses({2: broken}), OmitUids({7})]
    async with Server(10, faults=faults) as server, open_pool(server) as pool, imapipe.MessageIndex(path) as index:
        report = await index.update(pool.mailbox("INBOX"))
        assert (report.added, report.failed, report.complete) == (8, 2, False)
        assert sorted(report.failures) == [2, 7]
        assert report.failures[2].reason == "malformed"
        server.faults.clear()
        server.commands.clear()
        again = await index.update(pool.mailbox("INBOX"))
        assert (again.known, again.added, again.failed, again.total) == (8, 2, 0, 10)
        assert fetched(server) == 2


@pytest.mark.asyncio
async def test_nothing_is_removed_because_a_server_hides_it(path: Path) -> None:
    async with (
        Server(SyntheticMailbox(50)) as server,
        open_pool(server) as pool,
        imapipe.MessageIndex(path) as index,
    ):
        await index.update(pool.mailbox("INBOX"))
        server.faults.add(SearchCap(40))
        report = await index.update(pool.mailbox("INBOX"))
        assert (report.found, report.removed, report.unaccounted, report.total) == (40, 0, 10, 50)
        assert not report.complete


@pytest.mark.asyncio
async def test_several_connections_and_middleware_serve_an_update(path: Path) -> None:
    seen: list[imapipe.ProgressSnapshot] = []
    async with (
        Server(SyntheticMailbox(3_000), faults=[Stall(command="UID FETCH", times=2)]) as server,
        open_pool(server) as pool,
        imapipe.MessageIndex(path) as index,
    ):
        # Two connections stand still until there is a third one, however late that is.
        server.faults.add(Act(lambda _: server.release_stalls(), command="UID FETCH", nth=3, times=99))
        layers = (imapipe.Progress(seen.append), imapipe.Retry(attempts=3))
        report = await index.update(pool.mailbox("INBOX"), use=layers, connections=3)
        assert report.total == 3_000
        assert seen[-1].settled == 3_000
        assert server.counters.peak_connections == 3


@pytest.mark.asyncio
async def test_cancelling_keeps_what_was_added(path: Path) -> None:
    async with (
        Server(SyntheticMailbox(5_000), faults=[Delay(60, command="UID FETCH", nth=5)]) as server,
        open_pool(server) as pool,
        imapipe.MessageIndex(path) as index,
    ):
        update = asyncio.ensure_future(index.update(pool.mailbox("INBOX")))
        while not await index.find(limit=1):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        update.cancel()
        with pytest.raises(asyncio.CancelledError):
            await update
        assert pool.stats.leased == 0
        server.faults.clear()
        known = len(await index.find())
        assert 0 < known < 5_000
        server.commands.clear()
        report = await index.update(pool.mailbox("INBOX"))
        assert (report.known, report.total) == (known, 5_000)
        assert fetched(server) == 5_000 - known


VICTIM = """
    import asyncio, sys, imapipe

    async def main():
        async with imapipe.create_pool(sys.argv[1], password="secret") as pool:
            async with imapipe.MessageIndex(sys.argv[2]) as index:
                await index.update(pool.mailbox("INBOX"))

    asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
async def test_s11_kill_nine_loses_nothing(path: Path) -> None:
    async with Server(SyntheticMailbox(6_000), faults=[Delay(60, command="UID FETCH", nth=6)]) as server:
        victim = subprocess.Popen([sys.executable, "-c", textwrap.dedent(VICTIM), server.url, str(path)])  # noqa: ASYNC220
        try:
            async with imapipe.MessageIndex(path) as index:
                while not await index.find(limit=1):  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.01)
        finally:
            victim.kill()
            assert await anyio.to_thread.run_sync(victim.wait) == -signal.SIGKILL
        server.faults.clear()
        async with open_pool(server) as pool, imapipe.MessageIndex(path) as index:
            known = uids(await index.find())
            assert 0 < len(known) < 6_000
            server.commands.clear()
            report = await index.update(pool.mailbox("INBOX"))
            assert (report.known, report.added, report.total) == (len(known), 6_000 - len(known), 6_000)
            assert fetched(server) == 6_000 - len(known)
            assert sorted(uids(await index.find())) == list(range(1, 6_001))
            # The words are whole too.
            assert len(await index.find(subject="0000*")) == 6_000


@pytest.mark.asyncio
async def test_many_questions_at_once(path: Path) -> None:
    async with (
        Server(SyntheticMailbox(500)) as server,
        open_pool(server) as pool,
        imapipe.MessageIndex(path) as index,
    ):
        await index.update(pool.mailbox("INBOX"))
        found = await asyncio.gather(*(index.find(subject=f"{uid:010}") for uid in range(1, 101)))
        assert [uids(entries) for entries in found] == [[uid] for uid in range(1, 101)]


@pytest.mark.asyncio
async def test_using_it_closed_is_told(path: Path) -> None:
    index = imapipe.MessageIndex(path)
    with pytest.raises(imapipe.MessageIndexError, match="not open"):
        await index.find()
    async with index:
        assert await index.find() == []
    await index.close()
    with pytest.raises(imapipe.MessageIndexError, match="not open"):
        await index.find()
    with pytest.raises(imapipe.MessageIndexError, match="no such file"):
        async with imapipe.MessageIndex(path.with_name("other"), must_exist=True):
            pass


def test_it_costs_nothing_to_import_imapipe_without_it() -> None:
    code = "import sys, imapipe; assert 'sqlite3' not in sys.modules; imapipe.MessageIndex; sys.modules['sqlite3']"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no_such_name"):
        imapipe.no_such_name  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.slow
@pytest.mark.asyncio
async def test_s11_on_dovecot(dovecot: DovecotServer, path: Path) -> None:
    user = dovecot.new_user()
    first = datetime.datetime(2024, 1, 1, tzinfo=UTC)

    def mail(number: int) -> Mail:
        head = (
            f"From: Person {number % 10} <person{number % 10}@example.org>\r\nSubject: Number {number} of the list\r\n"
        )
        return Mail(
            f"{head}\r\n{'x' * (number % 3 * 1_000)}\r\n".encode(),
            internal_date=first + datetime.timedelta(minutes=number),
        )

    dovecot.fill(user, "INBOX", (mail(number) for number in range(1, 20_001)))
    async with (
        imapipe.create_pool(dovecot.url(user), password=dovecot.password) as pool,
        imapipe.MessageIndex(path) as index,
    ):
        report = await index.update(pool.mailbox("INBOX"))
        assert (report.added, report.total, report.complete) == (20_000, 20_000, True)
        with dovecot.login(user) as client:
            client.append("INBOX", "", "", b"Subject: fresh\r\n\r\nx\r\n")
        again = await index.update(pool.mailbox("INBOX"))
        assert (again.known, again.added) == (20_000, 1)
        assert again.bytes_received < 2_000
        assert len(await index.find(sender="person3@example.org")) == 2_000
        assert uids(await index.find(subject="number 777")) == [777]
        day = first + datetime.timedelta(days=1)
        assert len(await index.find(since=day, before=day + datetime.timedelta(hours=1))) == 60
        assert len(await index.find(size_class="tiny")) == 6_666 + 1


# ---------------------------------------------------------------- while it is true


@pytest.mark.asyncio
@pytest.mark.parametrize("uidnext", ["told", "by status"])
async def test_uidnext_that_fell_begins_the_mailbox_anew(path: Path, uidnext: str) -> None:
    """Seen at GMX: the index would show old subjects for new mail."""
    faults = [] if uidnext == "told" else [Rewrite(_without_uidnext, command="EXAMINE")]
    async with Server(20, faults=faults) as server, open_pool(server) as pool, imapipe.MessageIndex(path) as index:
        await index.update(pool.mailbox("INBOX"))
        box = server.mailboxes["INBOX"]
        box.rewind_uidnext(11)
        new = [box.append(b"Subject: new\r\n\r\nx\r\n") for _ in range(5)]
        report = await index.update(pool.mailbox("INBOX"))
        assert (report.reindexed, report.added, report.total, report.complete) == (True, 15, 15, True)
        assert uids(await index.find(subject="new")) == new[::-1]
        again = await index.update(pool.mailbox("INBOX"))
        assert (again.reindexed, again.known) == (False, 15)


def _without_uidnext(line: bytes) -> bytes:
    return b"" if line.startswith(b"* OK [UIDNEXT") else line


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [0, 1, 15, 2**32 - 1])
async def test_a_made_up_uidnext_does_not_begin_it_anew(path: Path, number: int) -> None:
    """15 could be one, as there are ten messages; a search that finds none of them does not show that it is not."""
    async with Server(20) as server, open_pool(server) as pool, imapipe.MessageIndex(path) as index:
        box = server.mailboxes["INBOX"]
        await index.update(pool.mailbox("INBOX"))
        box.expunge(range(1, 11))
        server.faults.add(Rewrite(lambda line: re.sub(rb"UIDNEXT \d+", b"UIDNEXT %d" % number, line)))
        for search, total in ((q.FLAGGED, 20), (q.ALL, 10)):
            report = await index.update(pool.mailbox("INBOX"), search=search)
            assert (report.reindexed, report.added, report.total) == (False, 0, total)


@pytest.mark.asyncio
async def test_nothing_is_removed_where_an_answer_may_be_short(path: Path) -> None:
    async with Server(5, extensions="plain") as server, open_pool(server) as pool, imapipe.MessageIndex(path) as index:
        await index.update(pool.mailbox("INBOX"))
        server.faults.add(Rewrite(lambda line: line.replace(b" 3 ", b" 0 "), command="UID SEARCH"))
        # What is no UID is passed over; two messages that came meanwhile make up for the count.
        server.faults.add(Rewrite(lambda line: re.sub(rb"(\d+) EXISTS", b"3 EXISTS", line), command="EXAMINE"))
        report = await index.update(pool.mailbox("INBOX"))
        assert (report.may_be_short, report.unaccounted, report.complete) == (True, 0, False)
        assert (report.removed, report.total) == (0, 5)
        document = orjson.loads(report.to_json())
        assert (document["may_be_short"], document["complete"], document["index"]) == (True, False, str(path))
        assert "may be short" in report.table()


@pytest.mark.asyncio
@pytest.mark.parametrize("has_ids", [True, False])
async def test_a_mailbox_that_was_set_back_and_has_overtaken_what_was_told_is_noticed(
    path: Path, has_ids: bool
) -> None:
    """No number shows it: UIDNEXT and the count of messages may even be the same."""

    def mail(number: int) -> bytes:
        return b"Subject: #%d\r\n%b\r\n" % (number, b"Message-ID: <%d@x>\r\n" % number if has_ids else b"")

    async with Server([mail(number) for number in range(10)]) as server, open_pool(server) as pool:
        box = server.mailboxes["INBOX"]
        async with imapipe.MessageIndex(path) as index:
            await index.update(pool.mailbox("INBOX"))
            fetched(server)
            for more in (0, 5):
                box.rewind_uidnext(6)
                for number in range(100 + more, 105 + 2 * more):
                    box.append(mail(number))
                report = await index.update(pool.mailbox("INBOX"))
                assert (report.reindexed, report.total, report.complete) == (True, len(box), True)
                subjects = {entry.uid: entry.subject for entry in await index.find()}
                assert subjects == {message.uid: message.content.raw[9:].split(b"\r\n")[0].decode() for message in box}
                # The one that was looked at, and all of them.
                assert fetched(server) == len(box) + 1
                assert not (await index.update(pool.mailbox("INBOX"))).reindexed
                assert fetched(server) == 0
            box.append(mail(500))
            assert not (await index.update(pool.mailbox("INBOX"))).reindexed
            assert fetched(server) == 1


@pytest.mark.asyncio
async def test_an_outage_at_the_beginning_is_outlasted_where_that_is_wanted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "_FIRST_WAIT_SECONDS", 0.001)
    async with Server(5, faults=[RefuseConnection("later", times=3)]) as server, open_pool(server) as pool:
        monkeypatch.setattr(connection_limit, "FAILED_PAUSE_SECONDS", 0.001)
        async with imapipe.MessageIndex(path) as index:
            report = await index.update(pool.mailbox("INBOX"), use=[imapipe.Retry()])
            assert (report.added, report.complete) == (5, True)
