"""Progress for people."""

from __future__ import annotations

import io
import sys
from dataclasses import replace

import pytest
from rich.console import Console

import imapipe
from imapipe.cli import progress
from imapipe.cli.progress import choose_display, speed_text, time_text

HALF = imapipe.ProgressSnapshot(
    planned=2000,
    done=990,
    skipped=5,
    vanished=3,
    failed=2,
    bytes_received=4_000_000,
    elapsed_seconds=2.0,
    messages_per_second=512.4,
    bytes_per_second=4_100_000.0,
    eta_seconds=125.0,
    batch_size=100,
    connections=4,
    waits=1,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 B/s"), (999.0, "999 B/s"), (1500.0, "1.5 kB/s"), (4.1e6, "4.1 MB/s"), (2e9, "2.0 GB/s")],
)
def test_speeds(value: float, text: str) -> None:
    assert speed_text(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "-:--"), (0.0, "0:00"), (125.4, "2:05"), (3723.0, "1:02:03")])
def test_times(value: float | None, text: str) -> None:
    assert time_text(value) == text


def test_a_log_gets_a_line_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with choose_display("INBOX\n") as display:
        for seconds in (1, 3, 6, 7, 12):
            now = 100.0 + seconds
            display.show(HALF)
        now = 200.0
        display.show(replace(HALF, final=True))
    line = "INBOX: 1,000 of 2,000 messages, 512/s, 4.1 MB/s, 2:05 left, 4 connections, 1 wait"
    out, err = capfd.readouterr()
    assert not out
    assert err.splitlines() == [line, line]


def test_quiet_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    with choose_display("INBOX", quiet=True) as display:
        display.show(replace(HALF, final=True))
    assert capfd.readouterr() == ("", "")


def test_a_log_that_cannot_be_written_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        calls = 0

        def write(self, text: str) -> int:
            self.calls += 1
            raise BrokenPipeError

    gone = Gone()
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    monkeypatch.setattr(sys, "stderr", gone)
    with choose_display("INBOX") as display:
        for seconds in (10.0, 20.0, 30.0):
            now = seconds
            display.show(HALF)
    assert gone.calls == 1


@pytest.mark.parametrize("width", [60, 120])
def test_a_bar_tells_all_of_it(width: int) -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=width, color_system=None)
    with progress.Bar("INBOX " * 20, console) as bar:
        bar.show(HALF)
    shown = file.getvalue()
    assert "1,000/2,000" in shown
    if width > 100:
        assert "512 msg/s 4.1 MB/s 2:05 4 conn 1 wait 2 failed" in shown


def test_the_bar_of_an_empty_mailbox_is_full() -> None:
    file = io.StringIO()
    with progress.Bar("INBOX", Console(file=file, force_terminal=True, width=100, color_system=None)) as bar:
        bar.show(replace(HALF, planned=0, done=0, skipped=0, vanished=0, failed=0, final=True))
        assert bar.is_full
    assert "0/0" in file.getvalue()


def _part(mailbox: str, done: int, *, account: str = "ann@a:1", final: bool = False) -> imapipe.ProgressSnapshot:
    return replace(HALF, planned=100, done=done, skipped=0, vanished=0, failed=0, account=account, mailbox=mailbox,
                   final=final)  # fmt: skip


def test_each_mailbox_has_a_bar_while_it_is_on() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, color_system=None)
    with progress.Bar("ann@a:1", console) as bar:
        bar.show_part(_part("INBOX", 30))
        bar.show_part(_part("Lists/imap", 70))
        bar.show_part(_part("INBOX", 100, final=True))
        bar.show_part(_part("Sent", 5, account="bo@b:1"))
        bar.show(HALF)
    last = file.getvalue().split("INBOX")[-1]
    assert "Lists/imap" in last
    assert "70/100" in last
    # With two accounts the name of the account stands before it.
    assert "bo@b:1 Sent" in last
    assert "30/100" in file.getvalue()


def test_a_log_names_the_mailboxes_that_are_on(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with choose_display("all") as display:
        display.show_part(_part("INBOX", 30))
        display.show_part(_part("Sent", 100, final=True))
        display.show_part(_part("Lists", 1))
        now = 6.0
        display.show(HALF)
    assert capfd.readouterr().err.strip().endswith("1 wait, INBOX 30 of 100, Lists 1 of 100")


def test_a_live_line_says_how_following_stands() -> None:
    file = io.StringIO()
    with progress.LiveLine(Console(file=file, force_terminal=True, width=60, color_system=None)) as line:
        line.tell("3 handled\x1b[2J, 2 by notify" + "x" * 60)
        with line.aside():
            file.write("a  line\n")
    shown = file.getvalue()
    assert "\x1b[2J" not in shown
    # Cut, erased, drawn again behind what was written, and gone at the end.
    drawn = shown.split("\x1b[2K\r")
    assert drawn[1] == drawn[2].removeprefix("a  line\n")
    assert (drawn[1][:9], len(drawn[1]), drawn[-1]) == ("3 handled", 59, "")
