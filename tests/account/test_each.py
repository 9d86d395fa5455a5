"""All mailboxes of an account as one job: sums, isolation, and only what is new."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
import pytest_asyncio
from tests.pipeline.test_reissued_uids import told

import imapipe
from imapipe import search as q
from imapipe import sinks
from imapipe.testing import Fault, GmailMailboxes, Mailbox, Reply, Rewrite, SearchCap, Server
from imapipe.testing.messages import make_messages

NAMES = ("Archive/2023", "Archive/2024", "Drafts", "Lists", "Sent", "Trash")


class Account:
    """A server with seven mailboxes, and what was handled."""

    def __init__(self, server: Server, pool: imapipe.Pool) -> None:
        self.server = server
        self.pool = pool
        self.handled: list[tuple[str, int]] = []

    async def handle(self, message: imapipe.Message) -> None:
        self.handled.append((message.mailbox, message.uid))

    def named(self, name: str) -> list[str]:
        """The commands of that name that were sent since the last look."""
        return [record.name for record in self.server.commands.named(name)]


async def _ignore(_: imapipe.Message) -> None:
    return


def _without_untagged(response: bytes) -> bytes:
    return b"" if response.startswith(b"*") else response


def _mailboxes() -> dict[str, Mailbox]:
    uses = {"Sent": "\\Sent", "Trash": "\\Trash", "Drafts": "\\Drafts"}
    return {
        name: Mailbox(make_messages(10 + number, seed=number), special_use=uses.get(name, ""))
        for number, name in enumerate(("INBOX", *NAMES))
    }


@pytest_asyncio.fixture
async def account() -> AsyncIterator[Account]:
    async with Server(_mailboxes()) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        yield Account(server, pool)


ALL = 10 + 11 + 12 + 13 + 14 + 15 + 16


@pytest.mark.asyncio
async def test_every_message_of_every_mailbox_is_handled_once(account: Account) -> None:
    told: list[str] = []
    job = account.pool.each("*").search(q.ALL).fetch("envelope")
    report = await job.run(account.handle, on_mailbox=lambda name, _: told.append(name))
    assert report.complete
    assert (report.planned, report.done, report.failed) == (ALL, ALL, 0)
    assert sorted(told) == sorted(("INBOX", *NAMES)) == sorted(report.reports)
    assert set(Counter(account.handled).values()) == {1}
    assert len(account.handled) == ALL


@pytest.mark.asyncio
async def test_exclusions_special_uses_and_order(account: Account) -> None:
    job = account.pool.each("\\Sent", "*", exclude=["Archive/*", "\\Trash"]).search(q.ALL)
    assert [entry.name for entry in await job.mailboxes()] == ["Sent", "INBOX", "Drafts", "Lists"]
    report = await job.run(account.handle, connections=1)
    assert list(report.reports) == ["Sent", "INBOX", "Drafts", "Lists"]


@pytest.mark.asyncio
async def test_what_has_not_changed_costs_no_command(account: Account, tmp_path: Path) -> None:
    job = account.pool.each().search(q.ALL).fetch("full").use(imapipe.Checkpoint(tmp_path / "state.json"))
    assert (await job.run(account.handle)).complete
    before = len(account.server.commands)
    report = await job.run(account.handle)
    assert report.complete
    assert sorted(report.unchanged) == sorted(("INBOX", *NAMES))
    assert not report.reports
    assert [record.name for record in account.server.commands][before:] == ["LIST"]
    assert len(account.handled) == ALL


@pytest.mark.asyncio
async def test_only_what_is_above_the_cursor_is_searched(account: Account, tmp_path: Path) -> None:
    job = account.pool.each().search(q.larger(1)).fetch("full").use(imapipe.Checkpoint(tmp_path / "state.json"))
    await job.run(account.handle)
    account.server.mailboxes["Lists"].append(b"Subject: new\r\n\r\nnew\r\n")
    before = len(account.server.commands)
    report = await job.run(account.handle)
    assert list(report.reports) == ["Lists"]
    assert (report.planned, report.done) == (1, 1)
    searches = [record for record in list(account.server.commands)[before:] if record.name == "UID SEARCH"]
    assert len(searches) == 1
    assert "UID 15:*" in searches[0].arguments
    assert account.handled[-1] == ("Lists", 15)


@pytest.mark.asyncio
async def test_what_came_is_not_searched_where_the_numbers_prove_it(account: Account, tmp_path: Path) -> None:
    job = account.pool.each("Lists").search(q.ALL).fetch("full").use(imapipe.Checkpoint(tmp_path / "state.json"))
    await job.run(account.handle)
    box = account.server.mailboxes["Lists"]
    box.append(b"Subject: new\r\n\r\nnew\r\n")
    before = len(account.server.commands)
    assert ((await job.run(account.handle)).done, account.handled[-1]) == (1, ("Lists", 15))
    assert [record.name for record in account.server.commands][before:] == ["LIST", "EXAMINE", "UID FETCH"]
    # As many as before, one of them new: which one only a search tells.
    box.append(b"Subject: newer\r\n\r\nnewer\r\n")
    box.append(b"Subject: gone\r\n\r\ngone\r\n")
    box.expunge([16])
    before = len(account.server.commands)
    report = await job.run(account.handle)
    assert (report.planned, report.done, report.vanished, account.handled[-1]) == (1, 1, 0, ("Lists", 17))
    assert "UID SEARCH" in [record.name for record in account.server.commands][before:]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "fault", [SearchCap(2), Rewrite(_without_untagged, command="UID SEARCH")], ids=["cap", "no answer"]
)
async def test_what_came_and_is_not_found_is_noticed_and_done_next_time(
    account: Account, tmp_path: Path, fault: Fault
) -> None:
    """Whose search gives a few only, and says nothing, must not have the others taken for done."""
    job = account.pool.each("Lists").search(q.ALL).fetch("full").use(imapipe.Checkpoint(tmp_path / "state.json"))
    await job.run(account.handle)
    mailbox = account.server.mailboxes["Lists"]
    mailbox.expunge([3])
    mailbox.extend(make_messages(5, seed=8, size=300))
    account.server.faults.add(fault)
    report = await job.run(account.handle)
    assert not report.complete
    assert report.unaccounted > 0
    account.server.faults.clear()
    assert (await job.run(account.handle)).complete
    assert {uid for name, uid in account.handled if name == "Lists"} >= set(mailbox.uids)


@pytest.mark.asyncio
async def test_what_came_and_went_again_is_not_missed(account: Account, tmp_path: Path) -> None:
    job = account.pool.each("Lists").search(q.ALL).fetch("full").use(imapipe.Checkpoint(tmp_path / "state.json"))
    await job.run(account.handle)
    mailbox = account.server.mailboxes["Lists"]
    came = mailbox.extend(make_messages(5, seed=8, size=300))
    mailbox.expunge(came[1:3])
    before = len(account.server.commands)
    report = await job.run(account.handle)
    assert (report.complete, report.done) == (True, 3)
    searches = [record for record in list(account.server.commands)[before:] if record.name == "UID SEARCH"]
    assert len(searches) == 2


@pytest.mark.asyncio
async def test_an_account_without_any_mailbox_is_an_error_of_the_server(account: Account) -> None:
    account.server.faults.add(Rewrite(_without_untagged, command="LIST"))
    with pytest.raises(imapipe.ProtocolError, match="not even INBOX"):
        await account.pool.each("*").search(q.ALL).fetch("full").run(account.handle)


@pytest.mark.asyncio
async def test_a_server_that_does_not_show_all_is_noticed(account: Account) -> None:
    account.server.faults.add(SearchCap(2))
    report = await account.pool.each("Lists").search(q.ALL).run(_ignore)
    assert (report.done, report.unaccounted, report.complete) == (2, 12, False)


@pytest.mark.asyncio
async def test_a_mailbox_that_was_not_finished_is_searched_whole(account: Account, tmp_path: Path) -> None:
    job = account.pool.each().search(q.ALL).fetch("full").use(imapipe.Checkpoint(tmp_path / "state.json"))
    fails = {("Lists", 3), ("Sent", 5)}

    async def handle(message: imapipe.Message) -> None:
        if (message.mailbox, message.uid) in fails:
            raise ValueError("not now")
        await account.handle(message)

    report = await job.run(handle)
    assert (report.failed, report.done, report.complete) == (2, ALL - 2, False)
    fails.clear()
    report = await job.run(handle)
    assert sorted(report.reports) == ["Lists", "Sent"]
    assert (report.done, report.complete) == (2, True)
    assert (await job.run(handle)).unchanged


@pytest.mark.asyncio
async def test_messages_that_a_search_for_all_does_not_show_are_missing(account: Account) -> None:
    """Defect: a group searched for ALL twice, which was not taken for a search for everything."""
    account.server.faults.add(SearchCap(5))
    report = await account.pool.each("INBOX").search(q.ALL).fetch("flags").run(account.handle)
    assert (report.planned, report.unaccounted, report.complete) == (5, 5, False)


@pytest.mark.asyncio
async def test_a_search_that_flags_can_change_is_always_made(account: Account, tmp_path: Path) -> None:
    job = account.pool.each("INBOX").search(q.UNSEEN).fetch("flags").use(imapipe.Checkpoint(tmp_path / "state.json"))
    await job.run(account.handle)
    report = await job.run(account.handle)
    assert list(report.reports) == ["INBOX"]
    assert "UID SEARCH" in account.named("UID SEARCH")


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["uidvalidity", "uidnext"])
async def test_uids_that_mean_other_messages_are_not_taken_for_known(
    account: Account, tmp_path: Path, how: str
) -> None:
    checkpoint = imapipe.Checkpoint(tmp_path / "state.json", on_uidvalidity="restart")
    job = account.pool.each().search(q.ALL).fetch("full").use(checkpoint)
    await job.run(account.handle)
    old = account.server.mailboxes["Lists"]
    account.server.mailboxes.remove("Lists")
    uidvalidity = old.uidvalidity + (how == "uidvalidity")
    account.server.mailboxes.add("Lists", Mailbox(make_messages(4, seed=99), uidvalidity=uidvalidity))
    report = await job.run(account.handle)
    assert (list(report.reports), report.done) == (["Lists"], 4)


@pytest.mark.asyncio
async def test_they_are_not_taken_for_known_where_the_server_tells_no_uidnext_but_by_status(
    account: Account, tmp_path: Path
) -> None:
    """A checkpoint that begins anew must not believe that what was not searched is done."""
    account.server.faults.add(told(None, "LIST", "EXAMINE"))
    checkpoint = imapipe.Checkpoint(tmp_path / "state.json", on_uidvalidity="restart")
    job = account.pool.each("Lists").search(q.ALL).fetch("full").use(checkpoint)
    await job.run(account.handle)
    assert len(account.handled) == 14
    # What was told is remembered by the UIDs that were handled, and by STATUS when it is compared.
    for done, planned in ((0, 14), (0, 0)):
        report = await job.run(account.handle)
        assert (report.done, report.planned) == (done, planned)
    box = account.server.mailboxes["Lists"]
    box.rewind_uidnext(3)
    box.append(b"Subject: new\r\n\r\nnew\r\n")
    report = await job.run(account.handle)
    assert (report.planned, report.done, report.complete) == (3, 3, True)


@pytest.mark.asyncio
async def test_another_mailbox_of_the_same_numbers_is_searched_whole(account: Account, tmp_path: Path) -> None:
    checkpoint = imapipe.Checkpoint(tmp_path / "state.json", on_uidvalidity="restart")
    job = account.pool.each("Lists").search(q.ALL).fetch("full").use(checkpoint)
    await job.run(account.handle)
    account.server.mailboxes["Lists"].mailbox_id = "F-another"
    report = await job.run(account.handle)
    assert (report.planned, report.done) == (14, 14)


@pytest.mark.asyncio
async def test_one_mailbox_that_fails_does_not_stop_the_others(account: Account) -> None:
    account.server.faults.add(
        Reply("NO", "it is broken", command="EXAMINE", when=lambda record: "Lists" in record.arguments)
    )
    report = await account.pool.each().search(q.ALL).fetch("flags").run(account.handle)
    assert not report.complete
    assert list(report.errors) == ["Lists"]
    assert isinstance(report.errors["Lists"], imapipe.CommandNo)
    assert report.done == ALL - 14


@pytest.mark.asyncio
async def test_names_that_a_server_spells_in_its_own_way_can_be_keys_of_documents(tmp_path: Path) -> None:
    """Defect: orjson takes no key of a class of its own."""
    raw = Rewrite(lambda line: line.replace(b"Entw&APw-rfe", "Entwürfe".encode()), command="LIST")
    async with (
        Server({"INBOX": 1, "Entwürfe": 2}, faults=[raw]) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        job = pool.each().search().fetch("flags").use(imapipe.Checkpoint(tmp_path / "state.json"))
        account = Account(server, pool)
        first, second = await job.run(account.handle), await job.run(account.handle)
    assert sorted(account.handled) == [("Entwürfe", 1), ("Entwürfe", 2), ("INBOX", 1)]
    assert orjson.loads(orjson.dumps({name: report.done for name, report in first.reports.items()})) == {
        "INBOX": 1,
        "Entwürfe": 2,
    }
    assert sorted(orjson.loads(orjson.dumps(dict.fromkeys(second.unchanged)))) == ["Entwürfe", "INBOX"]


@pytest.mark.asyncio
async def test_what_is_about_the_account_ends_all(account: Account, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_bytes(b"nonsense")
    job = account.pool.each().search(q.ALL).use(imapipe.Checkpoint(tmp_path / "state.json"))
    with pytest.raises(imapipe.CheckpointCorrupt):
        await job.run(account.handle)


@pytest.mark.asyncio
async def test_concurrency_is_of_the_whole_job(account: Account) -> None:
    working, most = 0, 0

    async def handle(_: imapipe.Message) -> None:
        nonlocal working, most
        working += 1
        most = max(most, working)
        await asyncio.sleep(0)
        working -= 1

    assert (await account.pool.each().search(q.ALL).run(handle, concurrency=3)).complete
    assert most == 3


@pytest.mark.asyncio
async def test_a_whole_account_into_a_maildir_and_a_file(account: Account, tmp_path: Path) -> None:
    sink = sinks.Tee(sinks.Maildir(tmp_path / "mail"), sinks.JsonLines(tmp_path / "mail.jsonl"))
    job = account.pool.each().search(q.ALL).fetch("full").use(imapipe.Checkpoint(tmp_path / "state.json"))
    for _ in range(2):
        assert (await job.run(sink)).complete
    rows = [json.loads(line) for line in (tmp_path / "mail.jsonl").read_bytes().splitlines()]
    assert Counter(row["mailbox"] for row in rows) == {
        name: 10 + number for number, name in enumerate(("INBOX", *NAMES))
    }
    assert len(list((tmp_path / "mail/cur").iterdir())) == 10
    assert len(list((tmp_path / "mail/.Archive.2024/cur").iterdir())) == 12


@pytest.mark.asyncio
async def test_a_sink_of_ones_own_serves_one_mailbox_after_the_other(account: Account) -> None:
    class Plain:
        """Knows nothing of several mailboxes."""

        def __init__(self) -> None:
            self.open_now = 0
            self.mailboxes: list[str] = []

        async def open(self, run: object) -> None:
            self.open_now += 1
            assert self.open_now == 1

        async def write(self, messages: list[imapipe.Message]) -> dict[int, Exception]:
            self.mailboxes += [message.mailbox for message in messages]
            return {}

        async def commit(self) -> None:
            pass

        async def close(self) -> None:
            self.open_now -= 1

    sink = Plain()
    assert (await account.pool.each().search(q.ALL).run(sink)).complete  # type: ignore[arg-type]
    assert len(sink.mailboxes) == ALL


@pytest.mark.asyncio
async def test_the_report_is_a_table_and_json(account: Account) -> None:
    report = await account.pool.each("INBOX", "Sent").search(q.ALL).run(account.handle)
    document = json.loads(report.to_json())
    assert document["done"] == report.done == 25
    assert document["mailboxes"]["Sent"]["done"] == 15
    table = report.table().splitlines()
    assert table[0].split() == ["mailbox", "planned", "done", "skipped", "vanished", "failed"]
    assert table[-1].startswith("2 mailboxes, 0 unchanged")


@pytest.mark.asyncio
async def test_gmail_gives_each_message_once_with_its_labels_and_all_that_was_asked_for() -> None:
    mail = GmailMailboxes()
    long = b"Subject: long\r\n\r\n" + b"word " * 1000 + b"\r\n"
    for labels in (("\\Inbox", "Work"), ("Work", "Home"), ()):
        mail.deliver(long, labels=labels)
    seen: list[tuple[str, tuple[str, ...], int]] = []

    async def handle(message: imapipe.Message) -> None:
        seen.append((message.mailbox, message.gmail.labels, len(message.text)))

    async with (
        Server(mail, extensions="gmail") as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        job = pool.each().search(q.ALL).fetch("text", max_text_bytes=100)
        assert (await job.run(handle, concurrency=1)).complete
        every_copy = pool.each(all_mail=False).search(q.ALL).fetch("flags")
        assert (await every_copy.run(_ignore)).planned > 3
    assert [mailbox for mailbox, *_ in seen] == ["[Gmail]/All Mail"] * 3
    assert sorted(sorted(labels) for _, labels, _ in seen) == [[], ["Home", "Work"], ["Work", "\\Inbox"]]
    assert all(length <= 100 for *_, length in seen)


@pytest.mark.asyncio
async def test_the_state_of_a_mailbox_follows_it_to_other_names(account: Account, tmp_path: Path) -> None:
    """A mailbox gets a new name, two exchange theirs, and another one takes the name that became free."""
    job = account.pool.each().search(q.ALL).fetch("full").use(imapipe.Checkpoint(tmp_path / "state.json"))
    assert (await job.run(account.handle)).complete
    boxes = account.server.mailboxes
    for old, new in (("Lists", "News"), ("Sent", "aside"), ("Trash", "Sent"), ("aside", "Trash")):
        boxes.rename(old, new)
    boxes.add("Lists", Mailbox(make_messages(3, seed=77)))
    boxes["News"].append(b"Subject: new\r\n\r\nnew\r\n")
    account.handled.clear()
    assert (await job.plan()).messages == 4
    report = await job.run(account.handle)
    assert report.complete
    assert Counter(mailbox for mailbox, _ in account.handled) == {"Lists": 3, "News": 1}
    assert {"Sent", "Trash"} <= set(report.unchanged)
    assert len(json.loads((tmp_path / "state.json").read_bytes())["entries"]) == 8


@pytest.mark.asyncio
async def test_a_name_whose_mailbox_is_another_one_is_no_new_name_of_the_old_one(
    account: Account, tmp_path: Path
) -> None:
    """And without MAILBOXID a mailbox of a new name is a new one."""
    checkpoint = imapipe.Checkpoint(tmp_path / "state.json", on_uidvalidity="restart")
    job = account.pool.each().search(q.ALL).fetch("flags").use(checkpoint)
    await job.run(account.handle)
    account.server.mailboxes.remove("Lists")
    account.server.mailboxes.add("Lists", Mailbox(make_messages(2)))
    assert (await job.run(account.handle)).done == 2
    async with (
        Server({"INBOX": 1, "Old": 5}, extensions="dovecot") as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        there = pool.each().search(q.ALL).fetch("flags").use(checkpoint)
        await there.run(account.handle)
        server.mailboxes.rename("Old", "New")
        assert (await there.run(account.handle)).done == 5


@pytest.mark.asyncio
async def test_uids_up_to_the_last_one_there_is(tmp_path: Path) -> None:
    mailbox = Mailbox(make_messages(2, seed=1, size=300), first_uid=2**32 - 3)
    async with Server({"INBOX": mailbox}) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        job = pool.each().search(q.ALL).fetch("full").use(imapipe.Checkpoint(tmp_path / "state.json"))
        assert (await job.run(sinks.Maildir(tmp_path / "mail"))).done == 2
        assert mailbox.append(b"Subject: the last one\r\n\r\n") == 2**32 - 1
        for done in (1, 0):
            report = await job.run(sinks.Maildir(tmp_path / "mail"))
            assert (report.done, report.complete) == (done, True)
