"""The recipes do their jobs, run as a user would: as programs, with the account in the environment."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import pytest_asyncio

from imapipe.testing import Server, make_messages

RECIPES = Path(__file__).parents[2] / "examples" / "recipes"
# What a user writes for a job: lines that are neither blank nor a comment.
MOST_LINES = 30
NEWS = b"From: news@example.org\r\nSubject: Offers\r\nMessage-ID: <%d@news>\r\n\r\nBuy.\r\n"
# As many as the recipe says where the proof is made (`nox -s proof`).
NEWSLETTERS = 50_000 if "IMAPIPE_PROOF_MESSAGES" in os.environ else 10
POISON = b"From: ann@example.org\r\nSubject: Poison\r\n\r\nunreadable\r\n"

pytestmark = pytest.mark.skipif(not RECIPES.is_dir(), reason="the examples are not part of the wheel")


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    letters = [*make_messages(40), *(NEWS % number for number in range(10)), POISON]
    async with Server({"INBOX": letters, "Newsletters": 0, "Projects/One": 3}) as server:
        yield server


async def run(recipe: str, *arguments: str, server: Server, folder: Path, status: int = 0) -> str:
    """What the recipe prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(RECIPES / recipe),
        *arguments,
        cwd=folder,
        env={**os.environ, "IMAPIPE_URL": server.url, "IMAPIPE_PASSWORD": server.password},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == status, out.decode()
    return out.decode()


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.py")), ids=lambda path: path.stem)
def test_a_recipe_is_short(recipe: Path) -> None:
    lines = [line for line in recipe.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len([line for line in lines if not line.lstrip().startswith("#")]) <= MOST_LINES


def test_the_page_shows_every_recipe() -> None:
    page = (RECIPES.parents[1] / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert [path.name for path in RECIPES.glob("*.py") if f"recipes/{path.name}\n" not in page] == []


@pytest.mark.asyncio
async def test_the_metadata_becomes_a_table(server: Server, tmp_path: Path) -> None:
    for package in ("duckdb", "polars", "pyarrow"):
        pytest.importorskip(package)
    out = await run("tables.py", server=server, folder=tmp_path)
    assert out.startswith("51 messages, ")
    assert "year" in out
    (tmp_path / "empty").mkdir()
    async with Server({"INBOX": 0}) as empty:
        assert await run("tables.py", server=empty, folder=tmp_path / "empty", status=1) == "no messages\n"


@pytest.mark.asyncio
async def test_a_backup_brings_only_what_is_new_and_one_account_that_fails_stops_no_other(
    server: Server, tmp_path: Path
) -> None:
    account = f'url = "{server.url}"\npassword_env = '
    names = {"work": "IMAPIPE_PASSWORD", "home": "IMAPIPE_PASSWORD", "old": "NOT_THERE"}
    (tmp_path / "accounts.toml").write_text("".join(f'[{name}]\n{account}"{env}"\n' for name, env in names.items()))
    out = await run("backup.py", "accounts.toml", server=server, folder=tmp_path, status=1)
    assert {"work 54 new, 0 failed", "home 54 new, 0 failed"} <= set(out.splitlines())
    assert "NOT_THERE" in out
    server.mailboxes["INBOX"].append(POISON)
    out = await run("backup.py", "accounts.toml", server=server, folder=tmp_path, status=1)
    assert {"work 1 new, 0 failed", "home 1 new, 0 failed"} <= set(out.splitlines())
    assert sum(len(files) for folder, _, files in os.walk(tmp_path / "backup/work") if folder.endswith("cur")) == 55


@pytest.mark.asyncio
async def test_poison_is_skipped_when_the_texts_are_gone_on_with(server: Server, tmp_path: Path) -> None:
    assert await run("texts.py", server=server, folder=tmp_path) == "50 done, 0 before, 1 failed 51\n"
    server.mailboxes["INBOX"].append(NEWS % 11)
    assert await run("texts.py", server=server, folder=tmp_path) == "1 done, 50 before, 1 failed 51\n"


@pytest.mark.asyncio
async def test_newsletters_are_looked_at_moved_and_moved_back(tmp_path: Path) -> None:
    letters = [*make_messages(40), *(NEWS % number for number in range(NEWSLETTERS)), POISON]
    async with Server({"INBOX": letters, "Newsletters": 0}) as server:
        inbox, target = server.mailboxes["INBOX"], server.mailboxes["Newsletters"]
        assert (await run("newsletters.py", server=server, folder=tmp_path)).startswith(f"{NEWSLETTERS} messages, ")
        assert len(target) == 0
        moved = await run("newsletters.py", "move", server=server, folder=tmp_path)
        assert f"{NEWSLETTERS} moved, 0 gone before, 0 failed" in moved
        assert (len(inbox), len(target)) == (41, NEWSLETTERS)
        # Nothing is left to be moved, and that is no error.
        again = await run("newsletters.py", "move", server=server, folder=tmp_path)
        assert again == "0 messages, 0 bytes:\n0 moved, 0 gone before, 0 failed\n"
        assert {message.content.raw for message in target} == {NEWS % number for number in range(NEWSLETTERS)}
        assert await run("newsletters.py", "undo", server=server, folder=tmp_path) == f"{NEWSLETTERS} moved back\n"
        assert (len(inbox), len(target)) == (41 + NEWSLETTERS, 0)
        assert {message.content.raw for message in inbox} == set(letters)


@pytest.mark.asyncio
@pytest.mark.skipif(find_spec("fastapi") is None, reason="FastAPI is not installed")
async def test_the_service_runs_a_job_and_tells_of_it(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    httpx = pytest.importorskip("httpx")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMAPIPE_URL", server.url)
    monkeypatch.setenv("IMAPIPE_PASSWORD", server.password)
    space: dict[str, object] = {"__name__": f"service_{uuid.uuid4().hex}"}
    exec(compile((RECIPES / "service.py").read_text(encoding="utf-8"), "service.py", "exec", dont_inherit=True), space)
    transport = httpx.ASGITransport(space["app"])
    async with space["service"], httpx.AsyncClient(transport=transport, base_url="http://mail") as http:  # type: ignore[attr-defined]
        job = (await http.post("/mail/jobs", json={"name": "texts", "account": "ann"})).headers["Location"]
        events = (await http.get(f"{job}/events")).text
        assert "event: progress" in events
        assert (await http.get(f"{job}/result")).json()["report"]["done"] == 51
