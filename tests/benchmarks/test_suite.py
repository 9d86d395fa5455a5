"""The suite on a small mailbox: what was read right has a figure, what was read wrong has none."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.calibration import calibrate, proxy
from benchmarks.changes import expected_of, take_back
from benchmarks.mailboxes import Mailbox, Mailboxes, mail_folder
from benchmarks.pairs import measure
from benchmarks.peers import ROOT, Peers
from benchmarks.proxy import Direction
from benchmarks.results import RowResult
from benchmarks.row import CEILING, IMAPIPE, Entry, Link, Row
from benchmarks.runner import Runner, SubjectFailed
from benchmarks.tally import Expected
from dovecot_server import DovecotServer

MAILBOX = Mailbox("short", 60)
IMAPLIB = Entry("imaplib", "imaplib_peer", batch=25)


@pytest.fixture(scope="module")
def cache() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        # The account that serves the mail reads it.
        Path(folder).chmod(0o755)
        mail_folder(Path(folder)).mkdir()
        yield Path(folder)


@pytest.fixture(scope="module")
def stored(dovecot: DovecotServer, cache: Path) -> dict[str, Expected]:
    mailboxes = Mailboxes(cache, dovecot)
    made = mailboxes.prepare(MAILBOX)
    # The second time it is there.
    assert mailboxes.prepare(MAILBOX) == made
    return made


class FakeTime:
    """Time that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def run(
    server: DovecotServer,
    cache: Path,
    expected: Expected,
    work: str,
    *entries: Entry,
    link: Link | None = None,
    port: int | None = None,
) -> RowResult:
    row = Row(name=work, title=work, work=work, mailbox=MAILBOX, entries=(CEILING, *entries), paired=True, link=link)
    runner = Runner(server, Peers(cache))
    return measure(row, runner, expected, port=port or server.port, rounds=1, quick=True, commit="0")


@pytest.mark.parametrize("work", ["metadata", "fields", "headers", "bodies", "text", "flags", "search"])
def test_imapipe_and_the_ceiling_agree_with_what_was_stored(
    dovecot: DovecotServer, cache: Path, stored: dict[str, Expected], work: str
) -> None:
    found = run(dovecot, cache, stored[work], work, IMAPIPE, *(() if work in {"fields", "text"} else (IMAPLIB,)))
    assert [entry.problem for entry in found.entries] == [""] * len(found.entries)
    assert found.messages == stored[work].count
    assert found.received > 0
    ours = found.entry("imapipe")
    assert ours is not None
    assert (ours.wall.count, ours.ratio.count) == (1, 1)
    assert ours.peak_rss.low >= ours.idle_rss.low > 0


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"digest": "0" * 16}, "what it read is not what was stored: the digests differ"),
        ({"count": 61}, "read 60 messages (sum "),
        ({"total": 1}, "read 60 messages (sum "),
    ],
)
def test_who_reads_something_else_has_no_figures(
    dovecot: DovecotServer, cache: Path, stored: dict[str, Expected], change: dict[str, object], problem: str
) -> None:
    found = run(dovecot, cache, replace(stored["headers"], **change), "headers", IMAPIPE)  # type: ignore[arg-type]
    assert found.entry("imapipe") is None
    assert found.entries[1].problem.startswith(problem)


@pytest.mark.parametrize("work", ["set-flags", "moves", "append", "on-done"])
def test_what_is_changed_is_counted_and_taken_back(dovecot: DovecotServer, cache: Path, work: str) -> None:
    mailbox = Mailbox("tiny", 40)
    Mailboxes(cache, dovecot).prepare(mailbox)
    other = {
        "append": Entry("imaplib", "imaplib_change_peer"),
        "on-done": Entry("kept", "change_subject", options={"layers": "Checkpoint"}),
    }
    entries = (
        Entry("imapipe", "change_subject"),
        other.get(work, Entry("off", "change_subject", options={"journal": "off"})),
    )
    row = Row(name=work, title=work, work=work, mailbox=mailbox, entries=entries)
    runner = Runner(dovecot, Peers(cache))
    found = measure(row, runner, expected_of(40), port=dovecot.port, rounds=1, quick=True, commit="0")
    assert [entry.problem for entry in found.entries] == ["", ""]
    assert (found.messages, found.entries[1].ratio.count) == (40, 1)
    # It was taken back, since the next work has the same account.
    assert take_back(dovecot, mailbox.user, work) == 0


def test_who_changes_less_has_no_figures(dovecot: DovecotServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mailbox = Mailbox("tiny", 40)
    Mailboxes(cache, dovecot).prepare(mailbox)
    entry = Entry("imapipe", "change_subject")
    row = Row(name="moves", title="moves", work="moves", mailbox=mailbox, entries=(entry,))
    # This makes the target, too.
    take_back(dovecot, mailbox.user, "moves")
    monkeypatch.setattr("benchmarks.runner.take_back", lambda *_: 39)
    with pytest.raises(SubjectFailed, match="changed 39 of 40"):
        Runner(dovecot, Peers(cache)).run(row, entry, expected_of(40), port=dovecot.port, verify=False)
    assert take_back(dovecot, mailbox.user, "moves") == 40


def test_a_ceiling_in_batches_receives_all_of_it(
    dovecot: DovecotServer, cache: Path, stored: dict[str, Expected]
) -> None:
    by_batch = replace(CEILING, label="by 7", batch=7, connections=2, options={"depth": "3"})
    found = run(dovecot, cache, stored["headers"], "headers", by_batch)
    whole, batches = found.entries
    assert (whole.problem, batches.problem) == ("", "")
    # Replies of each command and a second login aside it is the same.
    assert 0 < batches.notes["received"] - whole.notes["received"] < 4000


def test_a_row_goes_through_the_proxy(
    dovecot: DovecotServer, cache: Path, stored: dict[str, Expected], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, Link]] = []

    @contextlib.contextmanager
    def recorded(port: int, link: Link) -> Iterator[int]:
        asked.append((port, link))
        with proxy(dovecot.port, link) as through:
            yield through

    monkeypatch.setattr("benchmarks.pairs.proxy", recorded)
    # Nothing listens on port 1: what does not go through the proxy gets nowhere.
    found = run(dovecot, cache, stored["headers"], "headers", IMAPIPE, link=Link(2), port=1)
    assert asked == [(1, Link(2))]
    assert [entry.problem for entry in found.entries] == ["", ""]
    assert (found.link, found.round_trip_ms) == ("2 ms", 2)
    ours = found.entry("imapipe")
    assert ours is not None
    assert ours.of_allowance.count == ours.ratio.count == 1


@pytest.mark.parametrize(("delay", "rate", "least"), [(30.0, 0, 30.0), (0.0, 1_000, 4.0), (30.0, 1_000, 34.0)])
def test_the_proxy_holds_bytes_back(monkeypatch: pytest.MonkeyPatch, delay: float, rate: int, least: float) -> None:
    clock = FakeTime()
    monkeypatch.setattr("benchmarks.proxy.time", clock)
    sender, source = socket.socketpair()
    target, receiver = socket.socketpair()
    with sender, source, target, receiver:
        Direction(source, target, delay, rate).start()
        sender.sendall(b"x" * 4_000)
        sender.shutdown(socket.SHUT_WR)
        received = 0
        while data := receiver.recv(1 << 16):
            received += len(data)
    assert received == 4_000
    # The end of the stream may have been seen later than the bytes, and waits for its own time.
    assert clock.now >= least - 1e-9


def test_a_link_is_measured_through_its_proxy() -> None:
    found = calibrate(Link(2, 40_000_000))
    assert found.link == "2 ms, 40 MB/s"
    assert 0 < found.round_trip_ms <= found.worst_round_trip_ms
    assert found.megabytes_per_second > 0


def test_what_cannot_run_here_says_why(
    dovecot: DovecotServer, cache: Path, stored: dict[str, Expected], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    found = run(dovecot, cache, stored["headers"], "headers", Entry("mbsync", "mbsync_peer"), Entry("flow", "imapflow"))
    assert [entry.problem for entry in found.entries[1:]] == [
        "absent: mbsync is not installed",
        "absent: Node is not installed",
    ]


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    environment = {"PYTHONPATH": str(ROOT / "tools"), "PATH": ""}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_the_rows_have_names() -> None:
    listed = benchmarks("--list")
    assert listed.returncode == 0
    names = [line.split()[0] for line in listed.stdout.splitlines()]
    assert names[:7] == ["metadata", "fields", "headers", "bodies", "large", "flags", "search"]
    assert {"rtt-0", "rtt-20", "rtt-100", "size-1000", "size-1000000", "connections", "depth", "compress"} <= {*names}
    some = benchmarks("--list", "--only", "rtt").stdout
    assert [line.split()[0] for line in some.splitlines()] == ["rtt-0", "rtt-20", "rtt-100"]


def test_an_unknown_row_is_refused() -> None:
    refused = benchmarks("--only", "warp")
    assert (refused.returncode, refused.stderr) == (2, "no row is called warp; --list names them\n")
