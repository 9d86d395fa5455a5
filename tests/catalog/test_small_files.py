"""A file that is no database is left as it is, however small: SQLite takes a few bytes for an empty database."""

from __future__ import annotations

from pathlib import Path

import pytest

from imapipe import MessageIndex, MessageIndexError


@pytest.mark.asyncio
@pytest.mark.parametrize("content", [b"{", b"SQLite format", b"ann,2024\n" * 60])
async def test_a_file_of_somebody_is_not_made_into_an_index(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes"
    path.write_bytes(content)
    with pytest.raises(MessageIndexError, match="it is no database; name another file"):
        async with MessageIndex(path):
            pass
    assert path.read_bytes() == content


@pytest.mark.asyncio
async def test_an_empty_file_becomes_one(tmp_path: Path) -> None:
    path = tmp_path / "new"
    path.touch()
    async with MessageIndex(path):
        pass
    assert path.read_bytes().startswith(b"SQLite format 3\0")
