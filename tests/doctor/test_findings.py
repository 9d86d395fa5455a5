"""What is told of an examination: each rule, and the words for people."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from imapipe.doctor import Examination, MailboxSize, QuotaLimit, Sample, Tls
from imapipe.doctor.examination import duration_text
from imapipe.doctor.examine import _compress
from imapipe.doctor.findings import find

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SAMPLE = Sample(
    mailbox="INBOX",
    messages=10,
    bytes_received=1_000_000,
    bytes_per_second=1e6,
    compressed_to=0.4,
    wrong_sizes=0,
    failed=0,
    newest=NOW,
)
WELL = Examination(
    account="ann@imap.example.org:993",
    provider="",
    examined_at=NOW,
    capabilities=("CONDSTORE", "IDLE", "IMAP4REV1", "LIST-STATUS", "UIDPLUS"),
    tls=Tls("TLSv1.3", "AES", NOW + timedelta(days=60)),
    round_trip_seconds=0.02,
    sample=SAMPLE,
    mailboxes=(MailboxSize("INBOX", 10, 1000, None),),
    connections=4,
    max_connections=10,
    export_messages=1000,
    export_bytes=10_000_000_000,
)


def test_nothing_is_said_of_what_is_well() -> None:
    assert find(WELL) == ()
    assert "nothing looks wrong" in WELL.table()
    assert "10.0 GB; 2.8 hours on one connection" in WELL.table()


@pytest.mark.parametrize(
    ("changed", "level", "says"),
    [
        ({"tls": None}, "problem", "not encrypted"),
        ({"tls": Tls("TLSv1", "RC4", None)}, "problem", "speaks TLSv1, which is broken"),
        ({"tls": Tls("TLSv1.3", "AES", NOW + timedelta(days=5))}, "problem", "ends in 5 days"),
        ({"round_trip_seconds": 0.4}, "note", "a round trip takes 400 ms"),
        ({"capabilities": ("UIDPLUS", "IDLE", "QRESYNC")}, "problem", "does not say that it speaks IMAP4rev1"),
        ({"capabilities": ("IMAP4REV1", "IDLE", "QRESYNC")}, "advice", "without UIDPLUS"),
        ({"capabilities": ("IMAP4REV1", "UIDPLUS", "QRESYNC")}, "note", "without IDLE"),
        ({"capabilities": ("IMAP4REV2",)}, "note", "without CONDSTORE"),
        ({"capabilities": (*WELL.capabilities, "MESSAGELIMIT=1000")}, "note", "1000 messages a command"),
        ({"max_connections": 2}, "note", "few connections (2)"),
        ({"quotas": (QuotaLimit("", "STORAGE", 95, 100),)}, "problem", "95% full (STORAGE)"),
        ({"mailboxes": (MailboxSize("a", None, None, None),)}, "advice", "do not tell what they hold: 1;"),
        ({"provider": "Gmail"}, "advice", "Gmail hides All Mail"),
        ({"provider": "X", "bytes_per_day": 2_500_000_000}, "advice", "more than the 2.5 GB a day that X allows"),
        ({"provider": "Yahoo", "mailboxes": (MailboxSize("a", 10_000, 1, None),)}, "problem", "a shows 10,000"),
        ({"sample": replace(SAMPLE, newest=NOW + timedelta(minutes=30))}, "problem", "30 minutes in the future"),
        ({"sample": replace(SAMPLE, failed=2)}, "problem", "2 messages of the sample could not be fetched"),
        ({"sample": replace(SAMPLE, wrong_sizes=3)}, "note", "3 of 10 messages are not as long"),
        ({"notes": {"an odd line": 7}}, "note", "passed over, 7 times: an odd line"),
    ],
)
def test_each_thing_to_know_is_one_sentence(changed: dict[str, object], level: str, says: str) -> None:
    seen = replace(WELL, **changed)  # type: ignore[arg-type]
    (finding,) = find(seen)
    assert finding.level == level
    assert says in finding.text
    assert f"  {level}: {finding.text}" in replace(seen, findings=(finding,)).table()


@pytest.mark.parametrize(
    ("offered", "local", "sample", "says"),
    [
        (False, False, SAMPLE, "does not offer it"),
        (True, True, SAMPLE, "does not pay on this machine"),
        (True, False, None, "nobody knows"),
        (True, False, SAMPLE, "it pays"),
        (True, False, replace(SAMPLE, bytes_per_second=5e6), "the line is quicker"),
        (True, False, replace(SAMPLE, compressed_to=0.95), "does not pay"),
    ],
)
def test_whether_compression_pays(offered: bool, local: bool, sample: Sample | None, says: str) -> None:
    assert says in _compress(sample, is_offered=offered, is_local=local)


@pytest.mark.parametrize(
    ("hours", "says"),
    [(0.0, "a second"), (0.01, "36 seconds"), (0.5, "30.0 minutes"), (5, "5.0 hours"), (48, "2.0 days")],
)
def test_times_for_people(hours: float, says: str) -> None:
    assert duration_text(hours) == says
