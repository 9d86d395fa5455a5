"""`kill -9` at random moments of mirroring, while another client changes the mailbox: in the end it is a mirror."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.sinks.mirrors import MIRRORS

from dovecot_server import DovecotServer
from imapipe.testing.messages import make_messages

KILLS = 20
MESSAGES = 200


@pytest.mark.slow
def test_twenty_deaths_while_another_client_changes_everything(dovecot: DovecotServer, tmp_path: Path) -> None:
    user = dovecot.new_user()
    dovecot.fill(user, "INBOX", make_messages(MESSAGES, seed=5))
    moments = random.Random(7)
    program = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("mirroring_job.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )

    def run(seconds: float) -> str:
        assert program.stdin is not None
        assert program.stdout is not None
        order = {"url": dovecot.url(user), "password": dovecot.password, "folder": str(tmp_path)}
        program.stdin.write(json.dumps({**order, "kill_after_seconds": seconds}) + "\n")
        program.stdin.flush()
        return program.stdout.readline().strip()

    with program, dovecot.login(user) as client:
        assert run(60.0) == "ended 0"
        client.select("INBOX")
        kills = 0
        for _ in range(400):
            client.uid(
                "STORE", f"{moments.randint(1, MESSAGES)}:*", "FLAGS", moments.choice(["(\\Seen)", "(\\Flagged)", "()"])
            )
            client.uid("STORE", f"{moments.randint(1, MESSAGES)}", "+FLAGS", "(\\Deleted)")
            client.expunge()
            client.append("INBOX", "(\\Seen)", "", b"Subject: new\r\n\r\nnew\r\n")
            kills += run(moments.uniform(0.02, 0.35)) == "killed"
            if kills >= KILLS:
                break
        assert kills == KILLS
        assert run(60.0) == "ended 0"
        _, answers = client.uid("FETCH", "1:*", "(FLAGS)")
        flags: dict[int, frozenset[str]] = {}
        for answer in answers:
            words = answer.decode().replace("(", " ").replace(")", " ").split()
            uid = int(words[words.index("UID") + 1])
            flags[uid] = frozenset(word for word in words if word.startswith("\\")) - {"\\Recent"}
        assert program.stdin is not None
        program.stdin.close()
        assert program.wait(timeout=60) == 0
    assert len(flags) > MESSAGES // 2
    for kind, (_, read) in MIRRORS.items():
        found = {uid: had for (_, uid), had in read(tmp_path / kind).items()}
        assert found == flags, kind
