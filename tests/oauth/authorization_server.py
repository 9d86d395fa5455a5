"""An OAuth server on loopback for tests: it checks what RFC 6749, 7636 and 8628 say, and shares no code with ours."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlencode, urlsplit

SCOPE = "mail"


class Refuse(Exception):
    def __init__(self, error: str, description: str = "", status: int = 400) -> None:
        self.status, self.document = status, {"error": error, "error_description": description}


@dataclass
class AuthorizationServer:
    """Gives tokens. Each refresh token is taken once (rotation), unless `rotates` is False.

    Attributes:
        valid: Access tokens that a mail server may take.
        script: What to answer to the next requests at the token endpoint: words of errors; "" is the right answer.
        asked: How often each grant was asked for.
        requests: The forms that came, in order.
        on_token: Called with each access token that is given.
    """

    client_id: str = "me"
    client_secret: str = ""
    expires_in: int = 3600
    rotates: bool = True
    interval: float = 0.0
    code_seconds: float = 60
    script: list[str] = field(default_factory=list)
    valid: set[str] = field(default_factory=set)
    asked: Counter[str] = field(default_factory=Counter)
    requests: list[dict[str, str]] = field(default_factory=list)
    on_token: Callable[[str], None] = lambda token: None
    # A request at the token endpoint waits for it.
    gate: asyncio.Event | None = None
    # One came.
    came: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self._codes: dict[str, dict[str, str]] = {}
        self._refresh_tokens: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.device_code = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
            method, target, _ = head.splitlines()[0].split(" ")
            fields = {name.lower(): value for name, _, value in (x.partition(": ") for x in head.splitlines()[1:])}
            body = await reader.readexactly(int(fields.get("content-length", "0")))
            sent = target.partition("?")[2] if method == "GET" else body.decode("ascii")
            form = {name: values[0] for name, values in parse_qs(sent).items()}
            self.requests.append(form)
            self.came.set()
            status, headers, document = await self._answer(urlsplit(target).path, form)
            content = json.dumps(document).encode("ascii")
            lines = [f"HTTP/1.1 {status} x", "Content-Type: application/json", f"Content-Length: {len(content)}"]
            writer.write("\r\n".join([*lines, *headers, "", ""]).encode("ascii") + content)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.transport.abort()

    async def _answer(self, path: str, form: dict[str, str]) -> tuple[int, list[str], dict[str, object]]:
        try:
            if path == "/authorize":
                return 302, [f"Location: {self._authorize(form)}"], {}
            if path == "/device":
                return 200, [], self._begin_device(form)
            assert path == "/token", path
            if self.gate is not None:
                await self.gate.wait()
            return 200, [], self._give(form)
        except Refuse as refusal:
            return refusal.status, [], dict(refusal.document)

    def _authorize(self, form: dict[str, str]) -> str:
        assert form["response_type"] == "code"
        assert form["code_challenge_method"] == "S256"
        assert form["scope"] == SCOPE
        assert form["client_id"] == self.client_id
        answer = {"state": form["state"]}
        if self.script and (error := self.script.pop(0)):
            answer |= {"error": error, "error_description": "no"}
        else:
            code = f"code-{next(self._numbers)}"
            self._codes[code] = form
            answer["code"] = code
        return f"{form['redirect_uri']}/?{urlencode(answer)}"

    def _begin_device(self, form: dict[str, str]) -> dict[str, object]:
        assert form["client_id"] == self.client_id
        self.device_code = f"device-{next(self._numbers)}"
        where = {"verification_uri": f"{self.url}/type", "user_code": "ABCD-EFGH"}
        return {"device_code": self.device_code, "expires_in": self.code_seconds, "interval": self.interval, **where}

    def _give(self, form: dict[str, str]) -> dict[str, object]:
        grant = form["grant_type"]
        self.asked[grant] += 1
        if self.script and (error := self.script.pop(0)):
            raise Refuse(error, f"it said {form.get('refresh_token', '')}", 503 if error == "broken" else 400)
        if (form["client_id"], form.get("client_secret", "")) != (self.client_id, self.client_secret):
            raise Refuse("invalid_client", status=401)
        match grant:
            case "authorization_code":
                self._check_code(form)
            case "refresh_token":
                if form["refresh_token"] not in self._refresh_tokens:
                    raise Refuse("invalid_grant", f"AADSTS70000: not {form['refresh_token']}\r\nTrace: 1")
                if self.rotates:
                    self._refresh_tokens.remove(form["refresh_token"])
            case "client_credentials":
                return self.token(with_refresh=False)
            case _:
                assert grant == "urn:ietf:params:oauth:grant-type:device_code"
                assert form["device_code"] == self.device_code
        return self.token(with_refresh=grant != "refresh_token" or self.rotates)

    def _check_code(self, form: dict[str, str]) -> None:
        asked = self._codes.pop(form["code"], None)
        digest = hashlib.sha256(form["code_verifier"].encode("ascii")).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
        is_long = 43 <= len(form["code_verifier"]) <= 128
        if asked is None or not is_long or challenge != asked["code_challenge"]:
            raise Refuse("invalid_grant", "PKCE")
        if form["redirect_uri"] != asked["redirect_uri"]:
            raise Refuse("invalid_grant", "redirect_uri")

    def token(self, *, with_refresh: bool = True) -> dict[str, object]:
        """What is given, and counts from now on."""
        number = next(self._numbers)
        given: dict[str, object] = {"access_token": f"access-{number}", "token_type": "bearer"}
        given["expires_in"] = self.expires_in
        self.valid = {f"access-{number}"}
        self.on_token(f"access-{number}")
        if with_refresh:
            self._refresh_tokens.add(f"refresh-{number}")
            given["refresh_token"] = f"refresh-{number}"
        return given
