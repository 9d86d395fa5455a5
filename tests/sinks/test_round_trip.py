"""Out to every format and back, read by programs that are not ours: the same bytes, or the same fields.

What is to be there is read by `imaplib`, not by us. `nox -s proof` does the same with 20,000 messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import email
import hashlib
import imaplib
import json
import mailbox
import os
import re
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from tests.sinks import mutt
from tests.sinks.conftest import ODD
from tests.sinks.test_mbox import read_mboxrd

import imapipe
from dovecot_server import DovecotServer
from imapipe import search as q
from imapipe import sinks
from imapipe.testing import Server
from imapipe.testing.messages import make_messages

MESSAGES: Final = int(os.environ.get("IMAPIPE_PROOF_MESSAGES", "100"))
CONNECTIONS: Final = (1, 4) if MESSAGES > 1000 else (4,)

AWKWARD: Final = (
    *(body for body in ODD if body.endswith(b"\n")),
    b"From nobody Thu Jan  1 00:00:00 1970\r\nSubject: begins like an mbox\r\n\r\nx\r\n\r\nFrom x\r\n",
    b"Subject: bare CR\r\n\r\none\rFrom two\rthree\r\n",
    "Subject: \u00fcn\u00efc\u00f6de without encoding\r\nFrom: J\u00f6rg <j@example.org>\r\n\r\n\u00e9\r\n".encode(
        "latin-1"
    ),
    b"no header at all, and no empty line\r\n",
    b"Subject: only a header\r\n\r\n",
    b"Subject: no content\r\n\r\n\r\n\r\n\r\n",
    b"Message-ID: <same@example.org>\r\nSubject: twin\r\n\r\none\r\n",
    b"Message-ID: <same@example.org>\r\nSubject: twin\r\n\r\ntwo\r\n",
    b"Message-ID: <same@example.org>\r\nSubject: twin\r\n\r\ntwo\r\n",
    b"Subject: " + b'\\/:*?"<>| . ' * 40 + b"\r\n\r\nlong name\r\n",
    b"Subject: one line\r\n\r\n" + b"z" * 200_000 + b"\r\n",
    b'Subject: CON\r\nContent-Type: application/x; name="../../NUL"\r\nContent-Disposition: attachment\r\n\r\nfile\r\n',
)


def messages() -> Iterator[bytes]:
    """All that is in the mailbox."""
    yield from AWKWARD
    yield from make_messages(MESSAGES - len(AWKWARD), seed=11, size=None if MESSAGES <= 2000 else 3000)


class Source:
    """A mailbox on a server, and what another client finds in it."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        self.user = user
        self.password = password

    def bodies(self) -> dict[int, bytes]:
        """Every message by UID, as `imaplib` reads it."""
        found: dict[int, bytes] = {}
        port = int(self.url.rsplit(":", 1)[1].rstrip("/"))
        with imaplib.IMAP4("127.0.0.1", port) as client:
            client.login(self.user, self.password)
            client.select("INBOX", readonly=True)
            for first in range(1, MESSAGES + 1, 500):
                _, answer = client.uid("FETCH", f"{first}:{first + 499}", "(UID BODY.PEEK[])")
                for part in answer:
                    if isinstance(part, tuple):
                        uid = re.search(rb"UID (\d+)", part[0])
                        assert uid is not None
                        found[int(uid[1])] = part[1]
        return found


@pytest_asyncio.fixture(params=["embedded", pytest.param("dovecot", marks=pytest.mark.dovecot)])
async def source(request: pytest.FixtureRequest) -> AsyncIterator[Source]:
    """The mailbox, on either server."""
    if request.param == "dovecot":
        server: DovecotServer = request.getfixturevalue("dovecot")
        user = server.new_user("proof")
        server.fill(user, "INBOX", messages())
        yield Source(server.url(user), user, server.password)
        return
    async with Server(list(messages())) as embedded:
        yield Source(embedded.url, embedded.user, embedded.password)


def _same(read: list[bytes], wanted: dict[int, bytes]) -> None:
    """The same bytes, each as often; told by digests, for the difference may be large."""
    have, want = Counter(map(_digest, read)), Counter(map(_digest, wanted.values()))
    assert (have - want, want - have) == (Counter(), Counter())


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _check_files(folder: Path, wanted: dict[int, bytes]) -> None:
    _same([path.read_bytes() for path in (folder / "maildir/cur").iterdir()], wanted)
    _same([path.read_bytes() for path in (folder / "eml").rglob("*.eml")], wanted)
    _same(read_mboxrd((folder / "all.mbox").read_bytes()), wanted)
    with contextlib.closing(sqlite3.connect(folder / "all.sqlite")) as database:
        rows = database.execute("SELECT uid, raw FROM messages JOIN contents ON message = id").fetchall()
    assert {uid: _digest(raw) for uid, raw in rows} == {uid: _digest(body) for uid, body in wanted.items()}
    with contextlib.closing(mailbox.Maildir(folder / "maildir", create=False)) as maildir:
        assert len(maildir) == len(wanted)
    with contextlib.closing(mailbox.mbox(folder / "all.mbox", create=False)) as mbox:
        assert len(mbox) == len(wanted)


def _check_rows(folder: Path, wanted: dict[int, bytes]) -> None:
    """The subject and the attachments, as the standard library's e-mail package tells them where it can."""
    rows = {row["uid"]: row for row in map(json.loads, (folder / "all.jsonl").read_bytes().splitlines())}
    assert rows.keys() == wanted.keys()
    compared = 0
    for uid, body in wanted.items():
        parsed = email.message_from_bytes(body)
        assert rows[uid]["size"] == len(body)
        if (identifier := parsed["Message-ID"]) is not None and not parsed.defects:
            compared += 1
            assert rows[uid]["message_id"] == identifier.strip()
    assert compared >= (len(wanted) - len(AWKWARD)) * 0.9
    listed = [json.loads(line) for line in (folder / "attachments/attachments.jsonl").read_bytes().splitlines()]
    assert Counter(row["uid"] for row in listed) == Counter(
        {uid: len(row["attachments"]) for uid, row in rows.items() if row["attachments"]}
    )
    for row in listed:
        assert hashlib.sha256((folder / "attachments" / row["path"]).read_bytes()).hexdigest() == row["sha256"]


def _check_parquet(folder: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    polars = pytest.importorskip("polars")
    lines = {row["uid"]: row for row in map(json.loads, (folder / "all.jsonl").read_bytes().splitlines())}
    frame = polars.read_parquet(folder / "parquet/*.parquet")
    assert frame.height == len(lines)
    for row in frame.to_dicts():
        other = lines[row["uid"]]
        for name in ("subject", "message_id", "text", "from", "to", "cc", "flags", "size", "attachments"):
            assert row[name] == other[name], (row["uid"], name)
    told = duckdb.sql(f"select count(*), count(distinct uid), sum(size) from '{folder}/parquet/*.parquet'").fetchall()
    assert told == [(len(lines), len(lines), sum(row["size"] for row in lines.values()))]


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("connections", CONNECTIONS)
async def test_every_format_and_back(source: Source, connections: int, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    everywhere = sinks.Tee(
        sinks.Maildir(tmp_path / "maildir"),
        sinks.Mbox(tmp_path / "all.mbox"),
        sinks.EmlFolder(tmp_path / "eml", pattern="{date:%Y}/{uid} {subject}.eml"),
        sinks.JsonLines(tmp_path / "all.jsonl"),
        sinks.Attachments(tmp_path / "attachments"),
        sinks.Sqlite(tmp_path / "all.sqlite"),
        sinks.Parquet(tmp_path / "parquet", rows_per_file=max(MESSAGES // 4, 1)),
    )
    async with imapipe.create_pool(
        source.url, user=source.user, password=source.password, max_size=connections, spool_above=100_000
    ) as pool:
        report = await pool.mailbox("INBOX").search(q.ALL).batch(64).fetch("full").run(everywhere)
    assert report.complete
    assert report.done == MESSAGES
    wanted = await asyncio.to_thread(source.bodies)
    assert len(wanted) == MESSAGES
    _check_files(tmp_path, wanted)
    _check_rows(tmp_path, wanted)
    _check_parquet(tmp_path)
    if mutt.is_there():
        for name in ("maildir", "all.mbox"):
            await asyncio.to_thread(mutt.copy_all, tmp_path / name, tmp_path / f"copy-of-{name}", tmp_path)
            with contextlib.closing(mailbox.Maildir(tmp_path / f"copy-of-{name}", create=False)) as copy:
                assert len(copy) == MESSAGES
