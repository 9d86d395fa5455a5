"""What only a process of its own can show: signals, pipes, terminals, a missing extra."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from imapipe.testing import Stall, SyntheticMailbox

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from tests.cli.conftest import Call, Serve, Start

PATIENCE_SECONDS = 120.0


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is so; a test that waits in vain fails."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_scan_has_saved_and_goes_on(
    serve: Serve, process: Start, call: Call, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    # It cannot be over before the signal comes, however late that is.
    server = serve(SyntheticMailbox(2000, size=300), faults=[Stall(command="UID FETCH", nth=3)])
    state = tmp_path / "state.json"
    command = ("scan", server.url, "INBOX", "--checkpoint", state, "--json", "--timeout", 2 * PATIENCE_SECONDS)
    scan = process(*command)
    # What the server sent may be done or not; this is what was done, and saved.
    wait_for((tmp_path / "state.json.journal").exists)
    scan.send_signal(number)
    out, err = scan.communicate(timeout=PATIENCE_SECONDS)
    assert scan.returncode == status
    assert not out
    *progress, told = err.splitlines()
    assert told == f"imapipe: interrupted; what is done is in {state}, and the same command goes on there"
    assert all(line.startswith("INBOX: ") for line in progress)
    assert not list(tmp_path.glob("*.lock"))
    server.faults.clear()
    rest = call(*command)
    report = rest.document
    assert rest.status == 0
    assert report["skipped"] > 0
    assert report["skipped"] + report["done"] == report["done_all_runs"] == 2000


def test_whoever_reads_may_go_away(serve: Serve, process: Start) -> None:
    reading, writing = os.pipe()
    scan = process("scan", serve(3).url, "INBOX", "--json", stdout=writing)
    os.close(writing)
    os.close(reading)
    _, err = scan.communicate(timeout=PATIENCE_SECONDS)
    assert (scan.returncode, err) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_sentence(serve: Serve, process: Start) -> None:
    url = serve(3).url
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123
        running = [process(*words, stdout=full) for words in (("scan", url, "INBOX"), ("--version",))]
        told = [(one.communicate(timeout=PATIENCE_SECONDS)[1], one.returncode) for one in running]
    sentence = "standard output: No space left on device; make room, and run it again: what was written before is safe"
    assert told == [(f"imapipe: {sentence}\n", 1)] * 2


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_a_missing_extra_is_one_sentence(missing: str) -> None:
    # As `python -m imapipe demo` begins.
    module = "runpy.run_module('imapipe', run_name='__main__', alter_sys=True)"
    program = f"import runpy, sys; sys.modules[{missing!r}] = None; sys.argv[1:] = ['demo']; {module}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert not done.stdout
    assert done.stderr == (
        f"imapipe: the command line needs {missing}, not installed here; "
        "install them with: pip install 'imapipe[cli]'\n"
    )


def at_terminal(start: Start, *arguments: object, env: Mapping[str, str], answer: str = "") -> tuple[int, str, str]:
    """Run with a terminal for standard input and standard error; gives status, standard output, what it showed."""
    ours, theirs = pty.openpty()
    one = start(*arguments, stdin=theirs, stderr=theirs, env=env, start_new_session=True)
    os.close(theirs)
    shown = b""
    asked = False
    try:
        while one.poll() is None or select.select([ours], [], [], 0)[0]:
            if not select.select([ours], [], [], 0.05)[0]:
                continue
            try:
                shown += os.read(ours, 65536)
            except OSError:
                # Linux says so when the other side has been closed.
                break
            if answer and not asked and b"Password of" in shown:
                asked = True
                os.write(ours, answer.encode() + b"\n")
        out, _ = one.communicate(timeout=PATIENCE_SECONDS)
    finally:
        os.close(ours)
    return one.returncode, out, shown.decode()


def test_a_terminal_shows_a_bar_and_standard_output_holds_the_report_alone(serve: Serve, process: Start) -> None:
    server = serve(SyntheticMailbox(300))
    environment = {**os.environ, "IMAPIPE_PASSWORD": "secret", "TERM": "xterm-256color", "COLUMNS": "120"}
    status, out, shown = at_terminal(process, "scan", server.url, "INBOX", "--rate", "600", "--json", env=environment)
    assert status == 0
    assert json.loads(out)["done"] == 300
    assert "msg/s" in shown
    assert "300/300" in shown
    # The cursor is hidden while the bar lives, and shown at the end.
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_a_terminal_is_asked_for_the_password(serve: Serve, process: Start) -> None:
    server = serve(3)
    environment = {name: value for name, value in os.environ.items() if name != "IMAPIPE_PASSWORD"}
    status, out, shown = at_terminal(
        process, "scan", server.url, "INBOX", "--json", "--quiet", answer="secret", env=environment
    )
    assert status == 0
    assert json.loads(out)["done"] == 3
    assert f"Password of ann@127.0.0.1:{server.port}: " in shown
    assert "secret" not in shown


def test_the_script_says_its_version_and_helps(process: Start, call: Call) -> None:
    one = process("--version")
    out, err = one.communicate(timeout=PATIENCE_SECONDS)
    assert (one.returncode, err) == (0, "")
    assert "imapipe 0." in out
    for arguments, words in ((["--help"], "demo"), (["scan", "-h"], "--checkpoint")):
        outcome = call(*arguments)
        assert (outcome.status, outcome.err) == (0, "")
        assert words in outcome.out


def test_an_interrupted_demo_leaves_nothing(process: Start, tmp_path: Path) -> None:
    # It lasts for a minute if it is let.
    demo = process("demo", "--rate", "80", env={**os.environ, "TMPDIR": str(tmp_path)})
    wait_for(lambda: any(log.stat().st_size for log in tmp_path.glob("imapipe-demo-*/*.log")))
    (child,) = psutil.Process(demo.pid).children()
    demo.send_signal(signal.SIGINT)
    _, err = demo.communicate(timeout=PATIENCE_SECONDS)
    # Where it took long, it has told before how far it is.
    assert (demo.returncode, err.splitlines()[-1]) == (130, "imapipe: interrupted")
    assert not child.is_running()
    assert not list(tmp_path.iterdir())


def test_what_is_logged_is_shown_where_it_is_asked_for(process: Start, call: Call) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"imap://ann@127.0.0.1:{unused.getsockname()[1]}"
        command = ("scan", url, "INBOX", "--outage", "0.3", "--quiet")
        line = "imapipe.pipeline.outage: waiting for the server"
        assert line not in call(*command).err
        # In a process: what is set up for logs is for all of it.
        _, err = process(*command, "--log-level", "warning").communicate(timeout=PATIENCE_SECONDS)
        assert line in err


def test_a_shell_gets_its_completion(process: Start) -> None:
    env = {**os.environ, "_IMAPIPE_COMPLETE": "complete_bash", "COMP_WORDS": "imapipe sc", "COMP_CWORD": "1"}
    out, _ = process(env=env).communicate(timeout=PATIENCE_SECONDS)
    assert out.split() == ["scan"]
