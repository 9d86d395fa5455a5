"""An aiohttp face for jobs and messages: `pip install "imapipe[aiohttp]"`.

::

    service = Service(JobManager(Pools(open_pool), folder="jobs"))
    app = web.Application()
    service.add_to(app, prefix="/mail")

Who may ask is the application's to say, in a middleware: no route here knows of users.
"""

from __future__ import annotations

import asyncio
import reprlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Final, TypeVar, cast

import orjson

try:
    from aiohttp import web
    from aiohttp_sse import sse_response
except ModuleNotFoundError as error:
    advice = "a service with aiohttp needs an extra: pip install 'imapipe[aiohttp]'"
    raise ModuleNotFoundError(advice, name=error.name) from error

from imapipe.contrib.errors import WrongParameters
from imapipe.contrib.exposition import CONTENT_TYPE
from imapipe.contrib.job import ENDED, JobState
from imapipe.contrib.job_events import Subscription, is_number
from imapipe.contrib.message_lines import MessageLines
from imapipe.contrib.service import ServiceCore, ServiceHealth, status_of
from imapipe.errors import ImapipeError
from imapipe.models.json_value import JSON

__all__ = ["MessageLines", "Service", "ServiceHealth"]

NDJSON: Final = "application/x-ndjson"
_FETCHES: Final = ("flags", "size", "envelope", "structure", "headers", "text")
_STATES: Final = ENDED | {"waiting", "running", "cancelling"}
# As FastAPI takes them.
_WORDS: Final = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True),
    **dict.fromkeys(("0", "false", "f", "no", "n", "off"), False),
}
# A client that went away while there was nothing to send is noticed within this.
_LOOK_SECONDS: Final = 1.0
T = TypeVar("T")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Service(ServiceCore):
    """Jobs and messages as routes of aiohttp.

    Args:
        jobs: The jobs, and the pools that they use.
    """

    def add_to(self, app: web.Application, *, prefix: str = "") -> None:
        """Add the routes to an application, and have pools and jobs opened and closed with it.

        Jobs and streams end when the application shuts down, before it waits for the answers under way.
        """
        app.cleanup_ctx.append(self._context)
        app.on_shutdown.append(self._shut_down)
        # HEAD would fetch all that GET streams, for nothing.
        get, post = partial(web.get, allow_head=False), web.post
        app.add_routes(
            [
                get(f"{prefix}/kinds", _told(self._list_kinds)),
                post(f"{prefix}/jobs", _told(self._start_job)),
                get(f"{prefix}/jobs", _told(self._list_jobs)),
                get(f"{prefix}/jobs/{{job_id}}", _told(self._get_job)),
                post(f"{prefix}/jobs/{{job_id}}/cancel", _told(self._cancel_job)),
                get(f"{prefix}/jobs/{{job_id}}/result", _told(self._get_result)),
                get(f"{prefix}/jobs/{{job_id}}/events", _told(self._stream_events)),
                get(f"{prefix}/jobs/{{job_id}}/events.ndjson", _told(self._stream_event_lines)),
                get(f"{prefix}/messages", _told(self._stream_messages)),
                get(f"{prefix}/health", _told(self._get_health)),
                get(f"{prefix}/metrics", _told(self._get_metrics)),
            ]
        )

    async def _context(self, app: web.Application) -> AsyncIterator[None]:
        async with self:
            yield

    async def _shut_down(self, app: web.Application) -> None:
        await self.end()

    async def _list_kinds(self, request: web.Request) -> web.Response:
        return _json(
            [
                {"name": each.name, "description": each.description, "parameters": each.parameters}
                for each in self.jobs.functions.values()
            ]
        )

    async def _start_job(self, request: web.Request) -> web.Response:
        wanted = await _body(request)
        name, account, parameters = wanted.get("name"), wanted.get("account"), wanted.get("parameters", {})
        is_known = wanted.keys() <= {"name", "account", "parameters"}
        if not (isinstance(name, str) and isinstance(account, str) and isinstance(parameters, dict) and is_known):
            raise WrongParameters('a job is started by {"name": text, "account": text, "parameters": object}')
        job = await self.jobs.start(name, account, parameters)
        response = _json(job.status.to_dict(), HTTPStatus.ACCEPTED)
        response.headers["Location"] = f"{request.path}/{job.id}"
        return response

    async def _list_jobs(self, request: web.Request) -> web.Response:
        state = request.query.get("state")
        if state is not None and state not in _STATES:
            raise WrongParameters(f"there is no state {state!r}; there are: {', '.join(sorted(_STATES))}")
        chosen = self.jobs.list(state=cast("JobState | None", state), account=request.query.get("account"))
        return _json([job.status.to_dict() for job in chosen])

    async def _get_job(self, request: web.Request) -> web.Response:
        return _json(self.jobs.get(request.match_info["job_id"]).status.to_dict())

    async def _cancel_job(self, request: web.Request) -> web.Response:
        job = await self.jobs.cancel(request.match_info["job_id"])
        return _json(job.status.to_dict(), HTTPStatus.ACCEPTED)

    async def _get_result(self, request: web.Request) -> web.Response:
        job = self.jobs.get(request.match_info["job_id"])
        status = job.status
        error = None if status.error is None else status.error.to_dict()
        return _json({"state": status.state, "error": error, "report": job.result})

    def _listen(self, request: web.Request) -> Subscription:
        after = request.headers.get("Last-Event-ID") or request.query.get("after")
        subscription = self.jobs.get(request.match_info["job_id"]).events(after)
        if subscription.is_at_end:
            # What tells an EventSource not to come again.
            raise web.HTTPNoContent
        return subscription

    async def _stream_events(self, request: web.Request) -> web.StreamResponse:
        subscription = self._listen(request)
        async with sse_response(request, sep="\n") as response:
            async for event in _while_there(request, subscription):
                await response.send(event.text, id=event.id, event=event.kind)
        return response

    async def _stream_event_lines(self, request: web.Request) -> web.StreamResponse:
        subscription = self._listen(request)
        response = web.StreamResponse(headers={"Content-Type": NDJSON, "Cache-Control": "no-cache"})
        await response.prepare(request)
        async for event in _while_there(request, subscription):
            await response.write(event.line.encode())
        return response

    async def _stream_messages(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        fetch, limit = query.getall("fetch", ["envelope"]), query.get("limit")
        if "account" not in query:
            raise WrongParameters("account= is missing")
        if unknown := [each for each in fetch if each not in _FETCHES]:
            raise WrongParameters(f"fetch= takes {', '.join(_FETCHES)}, not {unknown[0]!r}")
        if limit is not None and not is_number(limit):
            raise WrongParameters(f"limit= takes a number, not {reprlib.repr(limit)}")
        lines = await self.messages(
            query["account"],
            query.get("mailbox", "INBOX"),
            search=query.get("search", "ALL"),
            fetch=fetch,
            columns=query.getall("column", None),
            limit=None if limit is None else int(limit),
            newest_first=_is_true(query, "newest_first"),
        )
        try:
            response = web.StreamResponse(headers={"Content-Type": NDJSON})
            await response.prepare(request)
            async for chunk in _while_there(request, lines):
                await response.write(chunk)
        finally:
            await self.close_messages(lines)
        return response

    async def _get_health(self, request: web.Request) -> web.Response:
        health = self.health
        return _json(health.to_dict(), HTTPStatus.OK if health.is_serving else HTTPStatus.SERVICE_UNAVAILABLE)

    async def _get_metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=self.metrics(), headers={"Content-Type": CONTENT_TYPE})


def _told(handler: _Handler) -> _Handler:
    """The same, with errors of imapipe told as HTTP statuses."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except ImapipeError as error:
            return _json({"detail": str(error)}, status_of(error))

    return handle


async def _while_there(request: web.Request, items: AsyncIterator[T]) -> AsyncIterator[T]:
    """Items as they come, until the client goes away."""
    while True:
        following = asyncio.ensure_future(anext(items))
        try:
            while not following.done():
                await asyncio.wait([following], timeout=_LOOK_SECONDS)
                if request.transport is None or request.transport.is_closing():
                    return
        finally:
            following.cancel()
        try:
            item = following.result()
        except StopAsyncIteration:
            return
        yield item


def _json(document: JSON, status: int = HTTPStatus.OK) -> web.Response:
    return web.Response(body=orjson.dumps(document), status=status, content_type="application/json")


def _is_true(query: Mapping[str, str], name: str) -> bool:
    given = query.get(name, "false")
    if given.lower() not in _WORDS:
        raise WrongParameters(f"{name}= takes true or false, not {given!r}")
    return _WORDS[given.lower()]


async def _body(request: web.Request) -> Mapping[str, JSON]:
    # A browser sends JSON to another site only where that allows it; a form it sends to every one.
    if request.content_type != "application/json":
        raise WrongParameters("the body is to be JSON, with Content-Type: application/json")
    try:
        document = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise WrongParameters(f"the body is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise WrongParameters("the body is to be a JSON object")
    return document
