"""Attachments: each content once, and a list of what belongs to which message."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from tests.sinks.conftest import Shop, files_below

from imapipe import sinks


def _with_file(name: str, content: bytes) -> bytes:
    head = f'Subject: s\r\nContent-Type: application/pdf; name="{name}"\r\nContent-Disposition: attachment\r\n\r\n'
    return head.encode() + content


@pytest.mark.asyncio
async def test_each_content_is_there_once_and_each_message_tells_where(shop: Shop, tmp_path: Path) -> None:
    same = _with_file("one.pdf", b"the same\r\n")
    shop.add("Files", same, _with_file("../../two.pdf", b"the same\r\n"), _with_file("x", b"other\r\n"), same)
    for _ in range(2):
        assert (await shop.job(mailbox="Files").run(sinks.Attachments(tmp_path))).done == 4
    rows = [json.loads(line) for line in (tmp_path / "attachments.jsonl").read_bytes().splitlines()]
    assert [(row["uid"], row["filename"]) for row in rows] == [
        (1, "one.pdf"),
        (2, "../../two.pdf"),
        (3, "x"),
        (4, "one.pdf"),
    ]
    for row in rows:
        content = (tmp_path / row["path"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == row["sha256"]
        assert len(content) == row["size"]
    assert len([path for path in files_below(tmp_path) if len(path.parent.name) == 2]) == 2


@pytest.mark.asyncio
async def test_all_attachments_of_ordinary_mail(shop: Shop, tmp_path: Path) -> None:
    assert (await shop.job().run(sinks.Attachments(tmp_path))).complete
    rows = [json.loads(line) for line in (tmp_path / "attachments.jsonl").read_bytes().splitlines()]
    wanted = []
    async for message in shop.job():
        wanted += [(message.uid, a.filename, hashlib.sha256(a.content).hexdigest()) for a in message.attachments]
    assert [(row["uid"], row["filename"], row["sha256"]) for row in rows] == wanted
    assert wanted
