"""The published schemas are those of the classes, and what is told fits them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

import imapipe
from imapipe import events
from imapipe import search as q
from imapipe.contrib.job import JobError, JobStatus
from imapipe.contrib.jobs import JobManager, Pools, Work
from imapipe.contrib.models import EVENT_DATA, documents, json_schemas, model_of
from imapipe.contrib.service import ServiceHealth
from imapipe.models.document import Document
from imapipe.net.pool.decisions import PoolStats
from imapipe.testing import Reply, Server
from imapipe.wire.response.note import Note
from imapipe.wire.uid_set import UidSet

NOW = datetime(2026, 1, 2, tzinfo=UTC)
FAILURE = imapipe.Failure(7, "malformed", "why", b"* 7 FETCH (")
SEEN = imapipe.Distribution(1.0, 0.5, 2.0, 1.0, 1.9, 10)
BATCH = imapipe.Batch(1, UidSet.parse("1:9"))
RUN = imapipe.RunReport(
    planned=2,
    failed=1,
    failures={7: FAILURE},
    failed_uids=UidSet.parse("7"),
    cursor=imapipe.Cursor(uidnext=8, mailboxid="x"),
    missing_items={"ENVELOPE": 1},
    notes={Note("flags", "odd"): 2},
    batch_seconds=SEEN,
)
FOLLOWED = imapipe.FollowedReport(
    planned=1,
    done=1,
    skipped=0,
    vanished=0,
    failed=0,
    pending=0,
    unaccounted=0,
    failures={7: FAILURE},
    runs=1,
    changed=1,
    change_failed=0,
    bytes_received=2,
    error="",
)
PROGRESS = imapipe.ProgressSnapshot(2, 1, 0, 0, 1, 100, 1.0, 1.0, 100.0, None, 10, 1, 0)
TOLD: list[Document] = [
    RUN,
    FOLLOWED,
    PROGRESS,
    imapipe.AccountReport(
        account="a",
        reports={"INBOX": RUN},
        unchanged=("Sent",),
        errors={"Bin": ValueError("no")},
        started_at=NOW,
        elapsed_seconds=1.0,
    ),
    imapipe.AccountMirrorReport(
        account="a",
        reports={"INBOX": imapipe.MirrorReport("INBOX", 3)},
        unchanged=(),
        errors={},
        started_at=NOW,
        elapsed_seconds=1.0,
    ),
    imapipe.FollowReport(
        account="a",
        mailboxes={"INBOX": FOLLOWED},
        latency_seconds=SEEN,
        reconnects=1,
        started_at=NOW,
        elapsed_seconds=1.0,
    ),
    imapipe.FollowHealth(
        is_running=True,
        heard_seconds_ago=None,
        trouble="",
        mailboxes={
            "INBOX": imapipe.MailboxHealth(
                way="idle", heard_seconds_ago=1.0, lag_seconds=0.0, pending=0, is_gone=False, error=""
            )
        },
    ),
    imapipe.IndexReport("i", "a", "INBOX", 1, 2, 3, 4, 5, 6, 7, False, 8, False, failures={7: FAILURE}),
    imapipe.UndoReport(1, {"gone": 1}, (RUN,)),
    imapipe.MetricsSnapshot(batch_sizes=SEEN),
    PoolStats(4, 4, 1, 0, 0, 0, 1, 0),
    imapipe.JobPlan("INBOX", 1, imapipe.Cursor(uidnext=8), UidSet.parse("1:3"), 3, 900, skipped=2),
    imapipe.AccountPlan(
        account="a",
        plans={"INBOX": imapipe.JobPlan("INBOX", 1, imapipe.Cursor(), UidSet(), 0, 0)},
        unchanged=("Sent",),
        errors={"Bin": ValueError("no")},
    ),
    imapipe.ChangePlan("a", "INBOX", 1, "move to Bin", "Bin", UidSet.parse("1"), 1, 9, ("UID MOVE 1 Bin",), ()),
    events.Throttle("NO", "busy", None),
    events.BatchEnd(imapipe.BatchResult(BATCH, failed={7: FAILURE}, reply_seconds=0.1)),
    ServiceHealth(True, {"running": 1}, {"ann": PoolStats(4, 4, 1, 0, 0, 0, 1, 0)}),
    JobStatus(
        id="1",
        name="scan",
        account="ann",
        parameters={"deep": [{"er": None}]},
        state="failed",
        is_ended=True,
        attempt=1,
        created_at=NOW,
        started_at=None,
        ended_at=NOW,
        progress=PROGRESS,
        error=JobError("OSError", "no"),
    ),
    imapipe.doctor.Examination(
        account="a",
        provider="",
        examined_at=NOW,
        tls=imapipe.doctor.Tls("TLSv1.3", "AES", NOW),
        mailboxes=(imapipe.doctor.MailboxSize("INBOX", 1, None, None),),
        quotas=(imapipe.doctor.QuotaLimit("", "STORAGE", 1, 2),),
        namespaces={"personal": ["", "Mail/"]},
        findings=(imapipe.doctor.Finding("note", "so it is"),),
    ),
]


@pytest.mark.parametrize("document", TOLD, ids=lambda document: type(document).__name__)
def test_what_is_told_fits_its_schema_exactly(document: Document) -> None:
    told = document.to_dict()
    model = model_of(type(document))
    assert list(model.model_fields) == list(told)
    model.model_validate_json(document.to_json(), strict=True)


@pytest.mark.asyncio
async def test_the_plan_of_a_change_tells_of_its_sample() -> None:
    odd = b"From: Ann <ann@example.org>\r\nDate: Thu, 1 Jan 2026 10:00:00 +0000\r\nSubject: News\r\n\r\nHello\r\n"
    async with (
        Server({"INBOX": [odd, b"\r\nno header\r\n"], "Bin": 0}) as server,
        imapipe.create_pool(server.url, password=server.password) as pool,
    ):
        plan = await pool.mailbox("INBOX").search(q.ALL).move_to("Bin").plan()
    model_of(imapipe.ChangePlan).model_validate_json(plan.to_json(), strict=True)
    told = plan.to_dict()["sample"]
    assert isinstance(told, list)
    first, second = told
    sender = "Ann <ann@example.org>"
    assert first == {"uid": 1, "date": "2026-01-01T10:00:00+00:00", "from": sender, "subject": "News"}
    assert isinstance(second, dict)
    assert (second["uid"], second["from"], second["subject"]) == (2, None, "")


@pytest.mark.asyncio
async def test_every_event_of_jobs_fits_the_schema_of_its_kind() -> None:
    seen: set[str] = set()
    busy = Reply("NO", "busy", code="UNAVAILABLE", command="UID FETCH", times=1)
    async with Server(60, faults=[busy]) as server:

        def open_pool(account: str) -> imapipe.Pool:
            return imapipe.create_pool(server.url, password=server.password)

        async with Pools(open_pool) as pools, JobManager(pools, tell_every_seconds=0.02, keep_events=64) as jobs:

            @jobs.job
            def scan(pool: imapipe.Pool, mailbox: str = "INBOX") -> object:
                job = pool.mailbox(mailbox).search(q.ALL).fetch("flags").batch(5)
                limit = imapipe.RateLimit(messages_per_second=200)
                return Work(job.use(imapipe.Retry(wait_initial_seconds=0.001), limit), lambda job: job.run(handle))

            async def handle(message: imapipe.Message) -> None:
                if message.uid == 7:
                    raise OSError("no room")

            for parameters in ({}, {"mailbox": "Nowhere"}):
                job = await jobs.start("scan", "ann", parameters)
                listening = [event async for event in job.events()]
                # What was lost is told of to whoever comes late.
                for event in [*listening, *[event async for event in job.events("other-1")]]:
                    seen.add(event.kind)
                    model_of(EVENT_DATA[event.kind]).model_validate_json(event.text, strict=True)
    assert seen == set(EVENT_DATA)


def test_every_public_document_is_published_and_says_what_it_is() -> None:
    assert {RUN.__class__, PROGRESS.__class__, events.Wait, JobStatus} <= set(documents())
    published = json_schemas()["$defs"]
    assert isinstance(published, dict)
    for document in documents():
        schema = published[document.__name__]
        assert isinstance(schema, dict)
        assert schema["description"]
    fields = published["RunReport"]["properties"]  # type: ignore[index, call-overload]
    assert [name for name, field in fields.items() if not field.get("description")] == []  # type: ignore[union-attr]
