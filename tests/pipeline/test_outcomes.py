"""One outcome for every planned UID, whatever servers and handlers do."""

from __future__ import annotations

import asyncio

import pytest
from tests.pipeline.world import OpenWorld, check_sums

import imapipe
from imapipe import search as q
from imapipe.pipeline.operation import fetch as fetching
from imapipe.testing import (
    Bye,
    CutAfterBytes,
    Fault,
    Inject,
    NilBodies,
    OmitUids,
    PoisonUids,
    ReplaceResponses,
    Reply,
    SearchCap,
    Server,
    SyntheticMailbox,
)


@pytest.mark.asyncio
async def test_an_empty_mailbox_is_a_complete_report_of_zeros(open_world: OpenWorld) -> None:
    world = await open_world(0)
    report = await world.job("full").run(world.handle)
    check_sums(report)
    assert report.complete
    assert (report.planned, report.done, report.bytes_received) == (0, 0, 0)
    assert report.uidvalidity == world.server.mailboxes["INBOX"].uidvalidity
    assert world.asked == []
    assert [message async for message in world.job()] == []
    assert [batch async for batch in world.job().batches()] == []
    plan = await world.job().plan()
    assert (plan.messages, plan.total_bytes, len(await world.job().uids())) == (0, 0, 0)


@pytest.mark.asyncio
async def test_every_message_is_handled_once_and_nothing_is_marked_seen(open_world: OpenWorld) -> None:
    world = await open_world(120)
    flags = {m.uid: m.flags for m in world.server.mailboxes["INBOX"]}
    report = await world.job("full").batch(25).run(world.handle, concurrency=3)
    check_sums(report)
    assert report.complete
    assert report.done == 120
    assert sorted(world.handled) == list(range(1, 121))
    assert {m.uid: m.flags for m in world.server.mailboxes["INBOX"]} == flags
    assert {"SELECT", "STORE", "UID STORE"}.isdisjoint(world.server.commands.names)
    assert report.batch_sizes.count == 5
    assert report.batch_sizes.maximum == 25
    assert report.bytes_received >= sum(r.bytes_out for r in world.server.commands.named("UID FETCH")) - 5 * 60
    assert report.wire_bytes > report.bytes_received
    assert report.done_all_runs == 120


@pytest.mark.asyncio
async def test_mark_seen_selects_and_the_server_sets_the_flag(open_world: OpenWorld) -> None:
    world = await open_world(30)
    job = world.pool.mailbox("INBOX").search(q.ALL).fetch(imapipe.Fetch("full", mark_seen=True)).batch(10)
    report = await job.run(world.handle, connections=2)
    check_sums(report)
    assert report.done == 30
    assert all("\\Seen" in m.flags for m in world.server.mailboxes["INBOX"])
    assert "EXAMINE" not in world.server.commands.names
    # The next job only looks, so it opens the mailbox anew, for reading.
    await world.job().run(world.handle, connections=1)
    assert len(world.server.commands.named("EXAMINE")) == 1


@pytest.mark.asyncio
async def test_mark_seen_is_refused_where_flags_cannot_be_changed(open_world: OpenWorld) -> None:
    world = await open_world(3)
    world.server.faults.add(Reply("OK", "Selected", code="READ-ONLY", command="SELECT", after_response=True))
    job = world.pool.mailbox("INBOX").search(q.ALL).fetch(imapipe.Fetch("full", mark_seen=True))
    with pytest.raises(imapipe.CommandError, match="READ-ONLY"):
        await job.run(world.handle)
    assert world.handled == []


@pytest.mark.asyncio
async def test_what_fails_in_the_handler_is_recorded_with_its_reason(open_world: OpenWorld) -> None:
    world = await open_world(10)

    async def handle(message: imapipe.Message) -> None:
        if message.uid % 3 == 0:
            raise KeyError(message.uid)

    report = await world.job().run(handle)
    check_sums(report)
    assert (report.done, report.failed) == (7, 3)
    assert {uid: failure.reason for uid, failure in report.failures.items()} == dict.fromkeys((3, 6, 9), "KeyError")
    assert report.failed_uids == imapipe.UidSet.parse("3,6,9")
    assert not report.complete


@pytest.mark.asyncio
async def test_a_field_that_was_not_fetched_fails_its_message(open_world: OpenWorld) -> None:
    world = await open_world(2)

    async def handle(message: imapipe.Message) -> None:
        assert message.envelope.subject

    report = await world.job("flags").run(handle)
    assert {failure.reason for failure in report.failures.values()} == {"NotFetched"}


@pytest.mark.asyncio
async def test_several_presets_at_once(open_world: OpenWorld) -> None:
    world = await open_world(3)
    async for message in world.job("flags", "size", "envelope", "structure", "headers", "full"):
        assert message.flags is not None
        assert message.size == len(message.body)
        assert message.envelope.message_id
        assert message.structure.content_type
        assert message.headers.raw in message.body
    sent = world.server.commands.named("UID FETCH")[0].arguments
    assert sent.count("RFC822.SIZE") == 1


@pytest.mark.asyncio
async def test_omitted_without_a_word_is_a_failure_and_not_silence(open_world: OpenWorld) -> None:
    """Exchange answers OK and leaves a message out."""
    world = await open_world(12, faults=[OmitUids({4, 7})])
    report = await world.job().run(world.handle)
    check_sums(report)
    assert (report.done, report.vanished, report.failed) == (10, 0, 2)
    assert {uid: f.reason for uid, f in report.failures.items()} == {4: "no-data", 7: "no-data"}
    assert world.asked == ["1:12", "4,7"]
    assert [record.message_set for record in world.server.commands.named("UID SEARCH")[1:]] == ["RETURN"] * 2


@pytest.mark.asyncio
async def test_omitted_once_is_found_by_the_second_look(open_world: OpenWorld) -> None:
    world = await open_world(12, faults=[OmitUids({4, 7}, times=1)])
    report = await world.job().run(world.handle)
    check_sums(report)
    assert report.complete
    assert report.done == 12


@pytest.mark.asyncio
async def test_a_pass_that_makes_progress_is_followed_by_another(open_world: OpenWorld) -> None:
    first, second = OmitUids({4, 7, 9}, times=1), OmitUids({7, 9}, nth=2)
    world = await open_world(12, faults=[first, second])
    report = await world.job().run(world.handle)
    assert report.complete
    assert world.asked == ["1:12", "4,7,9", "7,9"]
    check_sums(report)


@pytest.mark.asyncio
@pytest.mark.parametrize("extensions", ["modern", "plain"])
async def test_expunged_meanwhile_has_vanished(open_world: OpenWorld, extensions: str) -> None:
    world = await open_world(40, extensions=extensions)
    box = world.server.mailboxes["INBOX"]

    async def handle(message: imapipe.Message) -> None:
        world.handled.append(message.uid)
        if message.uid == 1:
            box.expunge([25, 26, 39])

    report = await world.job().batch(10).depth(1).run(handle, connections=1)
    check_sums(report)
    assert (report.planned, report.done, report.vanished, report.failed) == (40, 37, 3, 0)
    assert report.complete


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Reply("NO", "try later", code="SERVERBUG", command="UID FETCH"), "SERVERBUG"),
        (Reply("NO", "some error", command="UID FETCH"), "CommandNo"),
        # A checkpoint tries these again, whatever the server calls its trouble.
        (Bye("[ALERT] Session expired", command="UID FETCH"), "ServerBye"),
        (Reply("NO", "Too many commands", code="ALERT", command="UID FETCH"), "Throttled"),
    ],
)
async def test_what_a_message_failed_for_is_the_code_of_the_refusal(
    open_world: OpenWorld, fault: Fault, reason: str
) -> None:
    world = await open_world(2, faults=[fault])
    report = await world.job("flags").run(world.handle)
    assert {failure.reason for failure in report.failures.values()} == {reason}


@pytest.mark.asyncio
async def test_a_nil_body_is_a_failure(open_world: OpenWorld) -> None:
    world = await open_world(5, faults=[NilBodies({2})])
    report = await world.job("full").run(world.handle)
    check_sums(report)
    assert report.failures[2].reason == "no-body"
    assert sorted(world.handled) == [1, 3, 4, 5]


@pytest.mark.asyncio
async def test_a_malformed_response_costs_its_message_and_its_raw_bytes_are_kept(open_world: OpenWorld) -> None:
    broken = {3: b'* 3 FETCH (UID 3 FLAGS (\\Seen) RFC822.SIZE "12\r\n'}
    world = await open_world(6, faults=[ReplaceResponses(broken)])
    report = await world.job("flags", "size").run(world.handle)
    check_sums(report)
    assert (report.done, report.failed) == (5, 1)
    assert report.failures[3].reason == "malformed"
    assert report.failures[3].excerpt == broken[3].rstrip()
    assert len(world.server.commands.named("LOGIN", "AUTHENTICATE")) == 1


@pytest.mark.asyncio
async def test_a_search_that_finds_fewer_than_there_are_is_not_complete(open_world: OpenWorld) -> None:
    world = await open_world(50, faults=[SearchCap(40)])
    report = await world.job().run(world.handle)
    assert (report.planned, report.done, report.unaccounted) == (40, 40, 10)
    assert not report.complete
    check_sums(report)
    with pytest.raises(imapipe.Incomplete, match="fewer messages") as caught:
        async for _ in world.job():
            pass
    assert caught.value.report.unaccounted == 10
    # Only a search for everything can be checked against EXISTS.
    report = await world.pool.mailbox("INBOX").search(q.larger(1)).run(world.handle)
    assert report.complete


@pytest.mark.asyncio
async def test_an_expunge_while_it_searches_is_no_cap(open_world: OpenWorld) -> None:
    world = await open_world(50)
    box = world.server.mailboxes["INBOX"]
    gone = False

    def expunge(_: object) -> bool:
        nonlocal gone
        if not gone:
            gone = True
            box.expunge([10, 11])
        return False

    world.server.faults.add(Reply("NO", "never", command="UID SEARCH", when=expunge))
    report = await world.job().run(world.handle)
    check_sums(report)
    assert gone
    assert report.unaccounted == 0
    assert report.complete
    assert report.planned - report.vanished == 48


@pytest.mark.asyncio
async def test_messagelimit_is_an_unfinished_ok(open_world: OpenWorld) -> None:
    world = await open_world(100, message_limit=15)
    report = await world.job().batch(40).run(world.handle, connections=1)
    check_sums(report)
    assert report.complete
    assert report.done == 100
    assert sorted(world.handled) == list(range(1, 101))
    # The rest of a limited FETCH is asked for at once: no search has to find out that it is there.
    searches = world.server.commands.named("UID SEARCH")
    assert len(searches) == 7


@pytest.mark.asyncio
async def test_second_look_follows_messagelimit_too(open_world: OpenWorld) -> None:
    """A search that was cut short says nothing of the messages below: they must not count as vanished."""
    world = await open_world(60, message_limit=10, faults=[OmitUids(set(range(1, 21)), times=1)])
    world.server.message_limit = 30
    job = world.job().batch(30).depth(1)

    async def handle(message: imapipe.Message) -> None:
        world.handled.append(message.uid)
        world.server.message_limit = 10

    report = await job.run(handle, connections=1)
    check_sums(report)
    assert (report.done, report.vanished) == (60, 0)


@pytest.mark.asyncio
async def test_no_to_one_batch_fails_that_batch_without_retry(open_world: OpenWorld) -> None:
    world = await open_world(50, faults=[Reply("NO", "Server error", code="UNAVAILABLE", command="UID FETCH", nth=2)])
    report = await world.job().batch(10).run(world.handle, connections=1)
    check_sums(report)
    assert (report.done, report.failed) == (40, 10)
    assert {failure.reason for failure in report.failures.values()} == {"UNAVAILABLE"}
    assert len(world.server.commands.named("UID FETCH")) == 5


@pytest.mark.asyncio
async def test_a_no_after_all_the_data_is_no_failure(open_world: OpenWorld) -> None:
    world = await open_world(10, faults=[Reply("NO", "hm", command="UID FETCH", after_response=True)])
    report = await world.job().run(world.handle)
    check_sums(report)
    assert report.complete


@pytest.mark.asyncio
async def test_no_to_one_batch_is_retried(open_world: OpenWorld) -> None:
    world = await open_world(50, faults=[Reply("NO", "Server error", code="UNAVAILABLE", command="UID FETCH", nth=2)])
    report = await world.job().batch(10).use(imapipe.Retry(wait_initial_seconds=0)).run(world.handle, connections=1)
    check_sums(report)
    assert report.complete
    assert report.retries == 1
    assert sorted(world.handled) == list(range(1, 51))


@pytest.mark.asyncio
@pytest.mark.parametrize("action", ["NO", "cut", "reset"])
async def test_a_poisoned_message_is_found_by_bisection(open_world: OpenWorld, action: str) -> None:
    world = await open_world(60, faults=[PoisonUids({17}, action=action)])  # type: ignore[arg-type]
    job = world.job("full").batch(20).use(imapipe.Retry(attempts=2, wait_initial_seconds=0))
    report = await job.run(world.handle, connections=1)
    check_sums(report)
    assert (report.done, report.failed) == (59, 1)
    assert report.failed_uids == imapipe.UidSet.parse("17")
    assert sorted(world.handled) == [uid for uid in range(1, 61) if uid != 17]


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["close", "reset"])
async def test_cut_anywhere_in_an_answer(open_world: OpenWorld, kind: str) -> None:
    """In the middle of a literal, of a line, of the tagged reply: only what was not delivered is asked for again."""
    for cut in (0, 1, 40, 150, 1000, 5000, 9999):
        world = await open_world(
            SyntheticMailbox(20, size=600),
            faults=[CutAfterBytes(cut, kind=kind, command="UID FETCH", nth=1)],  # type: ignore[arg-type]
        )
        job = world.job("full").batch(10).use(imapipe.Retry(wait_initial_seconds=0))
        report = await job.run(world.handle, connections=1)
        check_sums(report)
        assert report.complete
        assert sorted(world.handled) == list(range(1, 21))
        assert len(world.handled) == 20


@pytest.mark.asyncio
async def test_cut_inside_the_tagged_reply_costs_nothing_twice(open_world: OpenWorld) -> None:
    world = await open_world(20)
    await world.job("full").run(world.handle)
    record = world.server.commands.named("UID FETCH")[0]
    world.handled.clear()
    cut = CutAfterBytes(record.bytes_out - 9, command="UID FETCH", nth=1)
    world.server.faults.add(cut)
    report = await world.job("full").use(imapipe.Retry(wait_initial_seconds=0)).run(world.handle, connections=1)
    check_sums(report)
    assert cut.fired == 1
    assert report.complete
    assert sorted(world.handled) == list(range(1, 21))
    # All of it had come, so nothing was asked for again.
    assert len(world.server.commands.named("UID FETCH")) == 2


@pytest.mark.asyncio
async def test_bye_in_the_middle(open_world: OpenWorld) -> None:
    world = await open_world(60, faults=[Bye("Session expired, please login again.", command="UID FETCH", nth=3)])
    job = world.job().batch(10).use(imapipe.Retry(wait_initial_seconds=0))
    report = await job.run(world.handle, connections=1)
    check_sums(report)
    assert report.complete
    assert report.reconnects >= 1
    assert sorted(world.handled) == list(range(1, 61))


@pytest.mark.asyncio
@pytest.mark.usefixtures("made_up_time")
async def test_a_stall_ends_the_connection_and_is_retried(open_world: OpenWorld) -> None:
    fault = CutAfterBytes(300, kind="stall", command="UID FETCH", nth=1)
    world = await open_world(SyntheticMailbox(30), faults=[fault])
    job = world.job("full").batch(10).use(imapipe.Retry(wait_initial_seconds=0))
    report = await job.run(world.handle, connections=1)
    check_sums(report)
    assert report.complete
    assert report.retries >= 1


@pytest.mark.asyncio
async def test_unsolicited_responses_change_nothing(open_world: OpenWorld) -> None:
    noise = b"* 4 FETCH (FLAGS (\\Flagged))\r\n* 7 EXISTS\r\n* OK still here\r\n* 2 FETCH (UID 2 FLAGS (\\Seen))\r\n"
    world = await open_world(10, faults=[Inject(noise, where="messages")])
    report = await world.job("full").run(world.handle)
    check_sums(report)
    assert report.complete
    assert sorted(world.handled) == list(range(1, 11))


@pytest.mark.asyncio
async def test_throttled_and_told_how_long(open_world: OpenWorld) -> None:
    text = "Request is throttled. Suggested Backoff Time: 20 milliseconds"
    world = await open_world(30, faults=[Reply("BAD", text, command="UID FETCH", nth=2)])
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    report = await world.job().batch(10).use(imapipe.Retry(sleep=sleep)).run(world.handle, connections=1)
    check_sums(report)
    assert report.complete
    assert len(waits) == 1
    assert waits[0] >= 0.02
    assert report.throttle_waits >= 1


@pytest.mark.asyncio
@pytest.mark.usefixtures("made_up_time")
async def test_a_throttled_search_is_begun_again(open_world: OpenWorld) -> None:
    text = "Request is throttled. Suggested Backoff Time: 5 milliseconds"
    world = await open_world(10, faults=[Reply("BAD", text, command="UID SEARCH", times=2)])
    report = await world.job().run(world.handle)
    assert report.complete
    assert len(world.server.commands.named("UID SEARCH")) == 3


@pytest.mark.asyncio
@pytest.mark.parametrize("command", ["EXAMINE", "UID SEARCH"])
async def test_a_connection_that_ends_before_there_is_a_plan(open_world: OpenWorld, command: str) -> None:
    world = await open_world(10, faults=[CutAfterBytes(20, command=command, nth=1)])
    report = await world.job().run(world.handle)
    assert report.complete
    assert report.done == 10


@pytest.mark.asyncio
async def test_uidvalidity_that_changes_in_mid_run_ends_the_run(open_world: OpenWorld) -> None:
    world = await open_world(60)
    box = world.server.mailboxes["INBOX"]

    async def handle(message: imapipe.Message) -> None:
        world.handled.append(message.uid)
        if message.uid == 5:
            box.change_uidvalidity(77)
        await asyncio.sleep(0)

    job = world.job().batch(10).use(imapipe.Retry(wait_initial_seconds=0))
    with pytest.raises(imapipe.UidValidityChanged) as caught:
        await job.run(handle, connections=2)
    assert caught.value.found == 77
    assert len(world.handled) < 60


@pytest.mark.asyncio
async def test_a_mailbox_that_does_not_exist(open_world: OpenWorld) -> None:
    world = await open_world(1)
    with pytest.raises(imapipe.CommandError):
        await world.job(mailbox="Nowhere").run(world.handle)
    with pytest.raises(imapipe.CommandError):
        await world.pool.mailbox("Nowhere").search(q.ALL).uids()
    assert world.pool.stats.leased == 0


@pytest.mark.asyncio
async def test_a_server_with_which_nothing_works_ends_in_bounded_time(open_world: OpenWorld) -> None:
    """Every FETCH ends the connection: after a few batches the run gives up, and every message has failed."""
    world = await open_world(1000, faults=[CutAfterBytes(0, command="UID FETCH")])
    report = await world.job().batch(10).run(world.handle, connections=2)
    check_sums(report)
    assert (report.planned, report.failed, report.done) == (1000, 1000, 0)
    assert len(report.failures) == 1000
    assert len(world.server.commands.named("UID FETCH")) < 30
    reasons = {failure.reason for failure in report.failures.values()}
    assert reasons == {"ConnectionLost", "not-tried"}


@pytest.mark.asyncio
async def test_a_hopeless_server_behind_retry(open_world: OpenWorld) -> None:
    world = await open_world(300, faults=[CutAfterBytes(0, command="UID FETCH")])

    async def sleep(_: float) -> None:
        await asyncio.sleep(0)

    # Batches that fail together count once, and how many are in flight together would follow the load of the machine.
    job = world.job().batch(10).depth(1).use(imapipe.Retry(attempts=2, sleep=sleep))
    report = await job.run(world.handle, connections=2)
    check_sums(report)
    assert report.failed == 300
    # Twelve batches or so are bisected to the end; the others are not tried.
    assert len(world.server.commands.named("UID FETCH")) < 300
    assert sum(failure.reason == "not-tried" for failure in report.failures.values()) > 100


@pytest.mark.asyncio
async def test_one_lost_connection_with_much_in_flight_is_not_hopeless(open_world: OpenWorld) -> None:
    """Batches that fall together with one connection count once."""
    world = await open_world(400, faults=[CutAfterBytes(0, command="UID FETCH", nth=1)])
    report = await world.job().batch(10).depth(8).run(world.handle, connections=1)
    check_sums(report)
    assert report.failed <= 80
    assert report.done == 400 - report.failed


@pytest.mark.asyncio
async def test_max_failures_gives_up_at_once(open_world: OpenWorld) -> None:
    world = await open_world(200)

    async def handle(message: imapipe.Message) -> None:
        world.handled.append(message.uid)
        raise ValueError("no")

    report = await world.job().batch(50).run(handle, concurrency=1, connections=1, max_failures=3)
    check_sums(report)
    assert len(world.handled) == 4
    assert (report.done, report.failed) == (0, 200)
    assert sum(f.reason == "ValueError" for f in report.failures.values()) == 4
    assert sum(f.reason == "not-tried" for f in report.failures.values()) == 196


@pytest.mark.asyncio
async def test_arguments_are_checked_before_anything_is_sent(open_world: OpenWorld) -> None:
    world = await open_world(1)
    job = world.job()

    def bare(message: imapipe.Message) -> None:
        """Not async."""

    with pytest.raises(TypeError, match="in_threads"):
        await job.run(bare)  # type: ignore[arg-type]
    for options in (
        {"concurrency": 0},
        {"connections": 0},
        {"connections": 5},
        {"on_error": "ignore"},
        {"max_failures": -1},
    ):
        with pytest.raises(ValueError, match=r"not|use"):
            await job.run(world.handle, **options)
    with pytest.raises(ValueError, match="on_error"):
        job.stream(on_error="ignore")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="preset"):
        job.fetch("everything")
    with pytest.raises(TypeError, match="fetch"):
        job.fetch(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="0 or more"):
        job.limit(-1)
    with pytest.raises(ValueError, match="1 to 64"):
        job.depth(0)
    with pytest.raises(TypeError, match="middleware"):
        job.use("Retry")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"keys.*, not 'ALL'; q\.parse\(\) makes one of a text"):
        world.pool.mailbox("INBOX").search("ALL")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mailbox"):
        world.pool.mailbox("a\r\nb")
    assert world.server.counters.connections == 0


@pytest.mark.asyncio
async def test_a_pipeline_is_a_value_and_each_run_is_new(open_world: OpenWorld) -> None:
    world = await open_world(30)
    job = world.job()
    newest = job.newest_first().limit(5).batch(2)
    report = await newest.run(world.handle, connections=1, concurrency=1)
    assert report.planned == 5
    assert world.asked == ["29:30", "27:28", "26"]
    assert (await newest.uids()).uids == imapipe.UidSet.parse("26:30")
    assert len(await job.uids()) == 30
    world.server.mailboxes["INBOX"].append(b"Subject: new\r\n\r\nnew\r\n")
    # A connection that has the mailbox open must not show the run an old view of it.
    assert len(await job.uids()) == 31
    report = await job.run(world.handle)
    assert report.planned == 31
    plan = await job.plan()
    assert plan.messages == 31
    assert plan.total_bytes == world.server.mailboxes["INBOX"].total_size
    assert plan.uids == (await job.uids()).uids


@pytest.mark.asyncio
async def test_only_failed_of_a_report(open_world: OpenWorld) -> None:
    world = await open_world(20)

    async def fail_some(message: imapipe.Message) -> None:
        if message.uid in (3, 14):
            raise ValueError

    first = await world.job().run(fail_some)
    again = world.job().only_failed(first)
    report = await again.run(world.handle)
    check_sums(report)
    assert world.handled == [3, 14]
    assert (report.planned, report.done) == (2, 2)
    assert report.complete
    with pytest.raises(ValueError, match="INBOX"):
        world.pool.mailbox("Other").search(q.ALL).only_failed(first)
    world.server.mailboxes["INBOX"].change_uidvalidity(99)
    with pytest.raises(imapipe.UidValidityChanged):
        await again.run(world.handle)


@pytest.mark.asyncio
async def test_pool_close_ends_runs_in_other_tasks(open_world: OpenWorld) -> None:
    world = await open_world(100)
    begun = asyncio.Event()

    async def handle(message: imapipe.Message) -> None:
        begun.set()
        await asyncio.sleep(0.001)

    task = asyncio.create_task(world.job().batch(5).run(handle, concurrency=1, connections=1))
    await begun.wait()
    await world.pool.close()
    with pytest.raises(imapipe.PoolClosed):
        await task


@pytest.mark.asyncio
async def test_wrong_password_is_raised(open_world: OpenWorld) -> None:
    async with Server(3) as server, imapipe.create_pool(server.url, password="wrong") as pool:
        with pytest.raises(imapipe.AuthenticationFailed):
            async for _ in pool.mailbox("INBOX").search(q.ALL):
                pass


@pytest.mark.asyncio
async def test_expungeissued_is_looked_into(open_world: OpenWorld) -> None:
    """RFC 5530: some of it was expunged by somebody else; the rest came."""
    world = await open_world(20, faults=[OmitUids({4, 5}, times=1)])
    world.server.faults.add(
        Reply("NO", "gone", code="EXPUNGEISSUED", command="UID FETCH", after_response=True, times=1)
    )
    report = await world.job().run(world.handle)
    check_sums(report)
    assert report.complete
    assert report.done == 20


@pytest.mark.asyncio
async def test_our_own_slowness_costs_no_attempt(open_world: OpenWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that hangs up on one who does not read is asked again, also without Retry."""
    monkeypatch.setattr(fetching, "OWN_DELAY_SECONDS", 0.01)
    world = await open_world(
        SyntheticMailbox(400, size=3000),
        options={"max_held_bytes": 64 * 1024},
        faults=[CutAfterBytes(900_000, command="UID FETCH", nth=1)],
    )

    async def handle(message: imapipe.Message) -> None:
        await world.handle(message)
        if message.uid in (5, 100):
            await asyncio.sleep(0.03)

    report = await world.job("full").batch(400).run(handle, connections=1, concurrency=1)
    check_sums(report)
    assert report.complete
    assert sorted(world.handled) == list(range(1, 401))
    assert len(world.server.commands.named("UID FETCH")) == 2


@pytest.mark.asyncio
async def test_a_set_full_of_holes_is_asked_for_in_several_commands(open_world: OpenWorld) -> None:
    """What a second look leaves may be too long for one line."""
    box = SyntheticMailbox(3000, first_uid=1_000_000_000)
    odd = {uid for uid in box.uids if uid % 2}
    world = await open_world(box, faults=[OmitUids(odd, times=1)], max_command_bytes=8192)
    report = await world.job().batch(3000).depth(1).run(world.handle, connections=1)
    check_sums(report)
    assert report.complete
    assert report.done == 3000
    assert world.sizes[0] == 3000
    assert len(world.asked) > 2
    assert max(len(text) for text in world.asked) <= 8000


@pytest.mark.asyncio
async def test_a_connection_that_has_reached_its_age_is_replaced_between_batches(open_world: OpenWorld) -> None:
    world = await open_world(SyntheticMailbox(300), options={"max_age_seconds": 0.03}, latency_seconds=0.002)
    # One after the other, thirty of them take longer than that on any machine.
    report = await world.job().batch(10).depth(1).run(world.handle, connections=1)
    check_sums(report)
    assert report.complete
    assert report.reconnects == report.retries == 0
    assert world.server.counters.connections > 1
    assert not [record for record in world.server.commands if record.outcome == "LOST"]
