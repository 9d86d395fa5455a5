"""The programs of docs/logging-in.md run as they stand there; what needs a provider's package is compiled."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from tests.oauth.authorization_server import AuthorizationServer

from imapipe.oauth import OAuthClient, Token, TokenFile
from imapipe.testing import Server

PAGE = (Path(__file__).parents[2] / "docs" / "logging-in.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.asyncio
async def test_a_program_logs_in_with_the_file(
    authority: AuthorizationServer,
    oauth_client: OAuthClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    given = authority.token()
    await TokenFile("ann.token").save(oauth_client, Token(str(given["access_token"]), 0.0, str(given["refresh_token"])))
    async with Server({"INBOX": 1, "Archive": 0}, token="") as server:
        authority.on_token = lambda token: setattr(server, "token", token)
        code = PROGRAMS[0].replace("imaps://ann@gmail.com@imap.gmail.com", server.url)
        compiled = compile(code, "logging-in.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        await eval(compiled, {})
    assert capsys.readouterr().out == "2\n"


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_every_program_can_be_compiled(number: int) -> None:
    compile(PROGRAMS[number], "logging-in.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
