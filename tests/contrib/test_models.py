"""The published schemas are those of the classes, and what is told fits them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

import imapipe
from imapipe import events
from imapipe.contrib.job import JobError, JobStatus
from imapipe.contrib.models import documents, json_schemas, model_of
from imapipe.contrib.service import ServiceHealth
from imapipe.models.document import Document
from imapipe.net.pool.decisions import PoolStats
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
