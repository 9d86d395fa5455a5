"""Every mistake has one sentence that says what to do, and a status of its kind; the docs show the same."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from anyio.from_thread import start_blocking_portal
from tests.cli.mistakes import MISTAKES, Mistake, table, words_of

from imapipe.testing import Server, make_messages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Call

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One for all: a mistake changes nothing."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Server({"INBOX": make_messages(5), "Archive": 0})) as server,
    ):
        yield server


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: f"{mistake.words} ({mistake.password})")
def test_a_mistake_is_told_in_one_sentence(
    mistake: Mistake, server: Server, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken").write_text("{")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1])
        places = {"URL": server.url, "PORT": str(server.port), "UNUSED": port}
        outcome = call(*words_of(mistake, **places), password=mistake.password)
    told = mistake.told
    for name in ("PORT", "UNUSED"):
        told = told.replace(name, places[name])
    assert outcome.sentence == told
    assert outcome.status == mistake.status
    assert (tmp_path / "broken").read_text() == "{"
    assert len(server.mailboxes["INBOX"]) == 5


@pytest.mark.skipif(not PAGE.is_file(), reason="the docs are not part of the wheel")
def test_the_docs_have_the_same_table() -> None:
    assert table() in PAGE.read_text(encoding="utf-8"), (
        "put what `python -m tests.cli.mistakes` says into docs/errors.md"
    )
