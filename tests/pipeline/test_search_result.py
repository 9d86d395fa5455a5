"""Narrowing what a search found: on the server, under the same UIDVALIDITY, with the reduction told (S12)."""

from __future__ import annotations

import datetime

import pytest

import imapipe
from dovecot_server import DovecotServer, Mail
from imapipe import search as q
from imapipe.testing import Server, SyntheticMailbox
from imapipe.wire.command.encoder import MAX_COMMAND_BYTES


def searches(server: Server) -> list[str]:
    return [record.arguments for record in server.commands.named("UID SEARCH")]


@pytest.mark.asyncio
@pytest.mark.parametrize("profile", ["modern", "plain", "gmail"])
async def test_s12_each_step_looks_at_the_result_before_only(profile: str) -> None:
    # A message arrives each minute, the last one a minute ago.
    box = SyntheticMailbox(100)
    now = datetime.datetime.now(datetime.UTC)
    for uid in box.uids:
        age = datetime.timedelta(days=100 - uid, minutes=1)
        box.writable(uid).internal_date = now - age
    async with (
        Server(box, extensions=profile) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        everything = await pool.mailbox("INBOX").search(q.ALL).uids()
        recent = await everything.refine(q.since(days=30))
        unseen = await recent.refine(q.UNSEEN)
        flagged = await unseen.refine(q.FLAGGED)

        assert list(everything) == list(range(1, 101))
        assert recent.uids.max == 100
        assert set(unseen) == {uid for uid in recent if uid % 10 in (2, 4, 7)}
        assert set(flagged) == {uid for uid in recent if uid % 10 == 4}
        assert len(flagged) < len(unseen) < len(recent) < len(everything)

        counts = [len(result) for result in (everything, recent, unseen, flagged)]
        assert [step.before for step in flagged.reduction] == [100, *counts[:-1]]
        assert [step.after for step in flagged.reduction] == counts
        assert [step.criteria for step in flagged.reduction] == ["ALL", "SINCE 30d", "UNSEEN", "FLAGGED"]
        assert flagged.reduction[0].percent == 0.0
        assert flagged.reduction[1].percent == 100 - len(recent)

        asked = searches(server)
        assert len(asked) == 4
        narrowed = "$ " if profile == "modern" else "UID "
        assert all(f"{narrowed}" in arguments for arguments in asked[1:])
        if profile != "modern":
            assert asked[2].endswith(f"UID {recent.uids.text()} UNSEEN")
        # Nothing is opened twice, and what the server still knows is not sent again.
        assert len(server.commands.named("EXAMINE")) == 1


@pytest.mark.asyncio
async def test_it_behaves_as_the_set_it_holds() -> None:
    async with (
        Server(SyntheticMailbox(20)) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        found = await pool.mailbox("INBOX").search(q.UNSEEN).uids()
        assert isinstance(found.uids, imapipe.UidSet)
        assert (len(found), list(found), 4 in found, 5 in found) == (6, [2, 4, 7, 12, 14, 17], True, False)
        assert found
        assert not await found.refine(q.SEEN)
        assert repr(found) == "<SearchResult of 6 in 'INBOX' for UNSEEN>"
        assert found.account == pool.account
        assert found.uidvalidity == server.mailboxes["INBOX"].uidvalidity
        assert found == found.uids
        assert found.uids == found
        assert found == await pool.mailbox("INBOX").search(~q.SEEN).uids()
        assert len({found, found.uids}) == 1
        server.mailboxes["INBOX"].change_uidvalidity()
        renumbered = await pool.mailbox("INBOX").search(q.UNSEEN).uids()
        assert renumbered.uids == found.uids
        assert renumbered != found
        assert renumbered != [2, 4, 7, 12, 14, 17]
        limited = await pool.mailbox("INBOX").search(q.UNSEEN).newest_first().limit(2).uids()
        assert list(limited) == [14, 17]
        assert list(await limited.refine(q.FLAGGED)) == [14]


@pytest.mark.asyncio
async def test_long_results_are_sent_in_pieces() -> None:
    async with (
        Server(SyntheticMailbox(20_000, step=3), remove_extensions=["SEARCHRES"]) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        everything = await pool.mailbox("INBOX").search(q.ALL).limit(8_000).uids()
        server.commands.clear()
        unseen = await everything.refine(q.UNSEEN)
        assert set(unseen) == {uid for uid in everything if uid % 10 in (2, 4, 7)}
        assert len(searches(server)) == 6
        assert all(len(arguments) < MAX_COMMAND_BYTES for arguments in searches(server))


@pytest.mark.asyncio
async def test_what_is_gone_drops_out_and_nothing_new_comes_in() -> None:
    async with (
        Server(SyntheticMailbox(100)) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        unseen = await pool.mailbox("INBOX").search(q.UNSEEN).uids()
        server.mailboxes["INBOX"].expunge([2, 4])
        server.mailboxes["INBOX"].append(b"Subject: new\r\n\r\nx\r\n")
        # The reply to this one tells of it: until then the session sees what it saw.
        assert (await unseen.refine(q.ALL)).uids == unseen.uids
        assert (await unseen.refine(q.ALL)).uids == unseen.uids - imapipe.UidSet.from_numbers([2, 4])


@pytest.mark.asyncio
async def test_no_message_costs_no_command() -> None:
    async with (
        Server(SyntheticMailbox(10)) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        nothing = await pool.mailbox("INBOX").search(q.subject("no such thing")).uids()
        server.commands.clear()
        still_nothing = await nothing.refine(q.UNSEEN)
        assert (len(still_nothing), len(server.commands)) == (0, 0)
        assert still_nothing.reduction[-1] == imapipe.Reduction("UNSEEN", 0, 0)
        assert still_nothing.reduction[-1].percent == 0.0


@pytest.mark.asyncio
async def test_uids_of_another_uidvalidity_are_refused() -> None:
    async with (
        Server(SyntheticMailbox(10)) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        found = await pool.mailbox("INBOX").search(q.ALL).uids()
        server.mailboxes["INBOX"].change_uidvalidity()
        with pytest.raises(imapipe.UidValidityChanged) as refused:
            await found.refine(q.UNSEEN)
        assert refused.value.expected == found.uidvalidity
        with pytest.raises(imapipe.UidValidityChanged):
            await found.pipeline().run(_ignore)
        assert pool.stats.leased == 0


async def _ignore(message: imapipe.Message) -> None:
    return


@pytest.mark.asyncio
async def test_a_job_on_a_result_fetches_that_and_nothing_else() -> None:
    async with (
        Server(SyntheticMailbox(100)) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        large = await pool.mailbox("INBOX").search(q.larger(1)).uids()
        flagged = await large.refine(q.FLAGGED)
        server.commands.clear()
        fetched = [message.uid async for message in flagged.pipeline().fetch("flags")]
        assert sorted(fetched) == list(flagged)
        assert not searches(server)
        some = flagged.pipeline(imapipe.UidSet.parse("1:20")).fetch("flags")
        assert [message.uid async for message in some] == [4, 8, 14, 18]
        # A checkpoint knows the job by all of its searches.
        assert "LARGER 1 FLAGGED" in repr(flagged.pipeline())


@pytest.mark.asyncio
async def test_a_connection_that_is_gone_is_replaced() -> None:
    async with (
        Server(SyntheticMailbox(100)) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        unseen = await pool.mailbox("INBOX").search(q.UNSEEN).uids()
        server.disconnect_all()
        assert len(await unseen.refine(q.FLAGGED)) == 10
        assert searches(server)[-1].startswith("RETURN (SAVE ALL COUNT) UID 2,4,7,")
        assert server.commands.named("EXAMINE")[-1].connection == 2


@pytest.mark.asyncio
async def test_a_server_that_stops_short_is_asked_for_the_rest() -> None:
    async with (
        Server(SyntheticMailbox(100), message_limit=20) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        everything = await pool.mailbox("INBOX").search(q.ALL).uids()
        assert len(everything) == 100
        assert len(await everything.refine(q.SEEN)) == 70


@pytest.mark.asyncio
async def test_text_that_is_not_ascii_is_narrowed_too() -> None:
    messages = [f"Subject: {word}\r\n\r\nx\r\n".encode() for word in ("Grüße", "hello", "Grüße again")]
    async with (
        Server(messages) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        found = await pool.mailbox("INBOX").search(q.ALL).uids()
        assert list(await found.refine(q.subject("grüße"))) == [1, 3]
        assert list(await (await found.refine(q.subject("again"))).refine(q.subject("grüße"))) == [3]


@pytest.mark.asyncio
async def test_s12_on_dovecot(dovecot: DovecotServer) -> None:
    user = dovecot.new_user()
    now = datetime.datetime.now(datetime.UTC)
    mails = [
        Mail(
            b"Subject: x\r\n\r\nx\r\n",
            flags=(("\\Seen",) if number % 2 else ()) + (("\\Flagged",) if number % 3 == 0 else ()),
            internal_date=now - datetime.timedelta(days=number),
        )
        for number in range(60)
    ]
    dovecot.fill(user, "INBOX", mails)
    async with imapipe.create_pool(dovecot.url(user), password=dovecot.password) as pool:
        everything = await pool.mailbox("INBOX").search(q.ALL).uids()
        recent = await everything.refine(q.since(days=30))
        unseen = await recent.refine(q.UNSEEN)
        flagged = await unseen.refine(q.FLAGGED)
        # Message n has the UID n + 1. At midnight the days of both clocks may differ by one.
        assert recent.uids.max in (30, 31, 32)
        assert set(unseen) == {uid for uid in recent if uid % 2 == 1}
        assert set(flagged) == {uid for uid in unseen if uid % 3 == 1}
        assert [step.after for step in flagged.reduction] == [60, len(recent), len(unseen), len(flagged)]
        # Not the last result: the set is sent.
        assert (await recent.refine(q.FLAGGED)).uids == imapipe.UidSet.from_numbers(
            uid for uid in recent if uid % 3 == 1
        )
