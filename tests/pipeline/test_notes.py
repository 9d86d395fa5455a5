"""What a server left out or wrote oddly is counted in the report."""

from __future__ import annotations

import orjson
import pytest
from tests.pipeline.world import OpenWorld, check_sums

import imapipe
from imapipe import search as q
from imapipe.testing import Inject, OmitUids, ReplaceResponses, Rewrite
from imapipe.wire.mailbox_name import MailboxName

_ENVELOPE = b'(NIL "s" (("n" NIL "a" "example.org")) NIL NIL (NIL ("n" NIL "promo" "example.org")) NIL NIL NIL NIL)'


@pytest.mark.asyncio
async def test_an_item_that_does_not_come_is_counted_and_the_message_is_delivered(open_world: OpenWorld) -> None:
    undated = b"* 2 FETCH (UID 2 FLAGS () RFC822.SIZE 9 ENVELOPE " + _ENVELOPE + b")\r\n"
    world = await open_world(4, faults=[ReplaceResponses({2: undated})])
    report = await world.job("envelope").run(world.handle)
    assert sorted(world.handled) == [1, 2, 3, 4]
    assert report.complete
    assert report.missing_items == {"INTERNALDATE": 1}
    assert orjson.loads(report.to_json())["missing_items"] == {"INTERNALDATE": 1}
    assert "without: INTERNALDATE" in report.table()


@pytest.mark.asyncio
async def test_an_unknown_item_costs_nothing(open_world: OpenWorld) -> None:
    odd = b'* 2 FETCH (UID 2 X-ODD ((1 "a") (NIL (b))) FLAGS (\\Seen))\r\n'
    world = await open_world(3, faults=[ReplaceResponses({2: odd})])
    report = await world.job("flags").run(world.handle)
    assert (report.done, report.complete, dict(report.missing_items)) == (3, True, {})


@pytest.mark.asyncio
async def test_an_odd_address_in_an_envelope_costs_no_message(open_world: OpenWorld) -> None:
    items = b'FLAGS () RFC822.SIZE 9 INTERNALDATE "01-Jan-2026 00:00:00 +0000" ENVELOPE ' + _ENVELOPE
    world = await open_world(3, faults=[ReplaceResponses({2: b"* 2 FETCH (UID 2 " + items + b")\r\n"})])
    report = await world.job("envelope").run(world.handle)
    assert (report.done, report.complete, dict(report.missing_items)) == (3, True, {})


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.asyncio
async def test_what_a_handler_reads_and_is_not_whole_is_noted(open_world: OpenWorld, reads: bool) -> None:
    """Defect: the note stood in the envelope, where nobody looks."""
    items = b'FLAGS () RFC822.SIZE 9 INTERNALDATE "01-Jan-2026 00:00:00 +0000" ENVELOPE ' + _ENVELOPE
    odd = {uid: b"* %d FETCH (UID %d " % (uid, uid) + items + b")\r\n" for uid in (1, 3)}
    world = await open_world(5, faults=[ReplaceResponses(odd)])

    async def handle(message: imapipe.Message) -> None:
        if reads:
            assert message.subject
            assert message.envelope.to is not None

    report = await world.job("envelope").batch(imapipe.FixedBatch(2)).run(handle)
    assert (report.done, report.complete) == (5, True)
    assert [(note.kind, count) for note, count in report.notes.items()] == ([("envelope", 2)] if reads else [])


@pytest.mark.asyncio
async def test_what_an_iteration_reads_and_is_not_whole_is_noted(open_world: OpenWorld) -> None:
    items = b'FLAGS () RFC822.SIZE 9 INTERNALDATE "01-Jan-2026 00:00:00 +0000" ENVELOPE ' + _ENVELOPE
    world = await open_world(3, faults=[ReplaceResponses({2: b"* 2 FETCH (UID 2 " + items + b")\r\n"})])
    async with world.job("envelope").stream() as stream:
        subjects = [message.subject async for message in stream]
    assert len(subjects) == 3
    assert [(note.kind, count) for note, count in stream.report.notes.items()] == [("envelope", 1)]


@pytest.mark.asyncio
async def test_what_was_passed_over_in_an_answer_is_noted(open_world: OpenWorld) -> None:
    cut = b"* 2 FETCH (UID 2 FLAGS (a b RFC822.SIZE 3 BODY[] {3}\r\nabc)\r\n"
    world = await open_world(3, faults=[ReplaceResponses({2: cut})])
    report = await world.job("full").run(world.handle)
    assert report.done == 3
    assert report.complete
    assert [note.kind for note in report.notes] == ["fetch-item"]
    assert {"FLAGS", "RFC822.SIZE"} <= report.missing_items.keys()
    listed = orjson.loads(report.to_json())["notes"]
    assert [(entry["kind"], entry["count"]) for entry in listed] == [(n.kind, c) for n, c in report.notes.items()]
    assert "note: " in report.table()


@pytest.mark.asyncio
async def test_a_search_answer_with_what_is_no_uid_makes_the_run_partial(open_world: OpenWorld) -> None:
    world = await open_world(3, faults=[Inject(b"* SEARCH 0 2 3\r\n", command="UID SEARCH")])
    report = await world.pool.mailbox("INBOX").search(q.larger(1)).fetch("flags").run(world.handle)
    assert report.done == 3
    assert report.may_be_short
    assert not report.complete
    assert [note.kind for note in report.notes] == ["search"]
    assert orjson.loads(report.to_json())["may_be_short"] is True
    assert "may be short" in report.table()
    assert "could not be read to its end" in str(imapipe.Incomplete(report))


@pytest.mark.asyncio
async def test_a_second_look_that_cannot_be_read_whole_lets_nothing_vanish(open_world: OpenWorld) -> None:
    """The first search is whole; the one that looks for a message without data answers with what is no UID."""
    world = await open_world(
        3,
        faults=[
            OmitUids({2}),
            Rewrite(lambda line: b"* SEARCH 0\r\n" if line.startswith(b"* ") else line, command="UID SEARCH", nth=2),
        ],
        extensions="plain",
    )
    report = await world.job("flags").run(world.handle)
    check_sums(report)
    assert report.vanished == 0
    assert (report.done, report.failed) == (2, 1)
    assert report.failures[2].reason == "no-data"


@pytest.mark.asyncio
async def test_a_refined_search_tells_what_it_passed_over(open_world: OpenWorld) -> None:
    odd = Rewrite(lambda line: b"* SEARCH 0 2\r\n" if line.startswith(b"* ") else line, command="UID SEARCH", nth=2)
    world = await open_world(3, faults=[odd], extensions="plain")
    everything = await world.pool.mailbox("INBOX").search(q.ALL).uids()
    refined = await everything.refine(q.larger(1))
    again = await refined.refine(q.larger(1))
    assert list(refined.uids) == [2]
    assert not everything.notes
    assert [(note.kind, count) for note, count in refined.notes.items()] == [("search", 1)]
    assert again.notes == refined.notes


@pytest.mark.asyncio
async def test_a_first_search_tells_what_it_passed_over(open_world: OpenWorld) -> None:
    world = await open_world(3, faults=[Inject(b"* SEARCH 0\r\n", command="UID SEARCH")], extensions="plain")
    everything = await world.pool.mailbox("INBOX").search(q.larger(1)).uids()
    assert [note.kind for note in everything.notes] == ["search"]


@pytest.mark.asyncio
async def test_a_class_of_messages_that_could_not_be_read_whole_is_noted_and_nothing_is_missing(
    open_world: OpenWorld,
) -> None:
    """The second search is that of the class; what it does not tell is done with the rest."""
    odd = Rewrite(lambda line: b"* SEARCH 0 2\r\n" if line.startswith(b"* ") else line, command="UID SEARCH", nth=2)
    world = await open_world(3, faults=[odd], extensions="plain")
    first = imapipe.PriorityBatch(imapipe.PriorityClass(q.larger(1)))
    report = await world.job().batch(first).run(world.handle)
    check_sums(report)
    assert world.handled == [2, 1, 3]
    assert report.complete
    assert [(note.kind, count) for note, count in report.notes.items()] == [("search", 1)]


@pytest.mark.asyncio
async def test_names_that_know_their_spelling_can_be_keys_of_documents(open_world: OpenWorld) -> None:
    """Defect: orjson takes no key of a class of its own."""
    world = await open_world({"Entwürfe": 2})
    [name] = [entry.name for entry in await world.pool.mailboxes() if entry.name != "INBOX"]
    # As a list gives it where the spelling is unusual.
    spelled = MailboxName(name, b"Entw&APw-rfe")
    job = world.pool.mailbox(spelled).search(q.ALL).fetch("flags")
    report = await job.run(world.handle)
    messages = [message async for message in job]
    found, plan = await job.uids(), await job.plan()
    status = await world.pool.mailbox(spelled).status()
    for told in (report.mailbox, messages[0].mailbox, found.mailbox, plan.mailbox, status.name):
        assert orjson.loads(orjson.dumps({told: 1})) == {"Entwürfe": 1}
    # The text alone opens it, too.
    again = found.pipeline().fetch("flags")
    assert [message.uid async for message in again] == [1, 2]
