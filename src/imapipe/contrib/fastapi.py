"""A FastAPI face for jobs and messages: `pip install "imapipe[fastapi]"`.

::

    service = Service(JobManager(Pools(open_pool), folder="jobs"))
    app = FastAPI(lifespan=service.lifespan)
    app.include_router(service.router(), prefix="/mail", dependencies=[Depends(whoever_may)])

Who may ask is the application's to say: no route here knows of users.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import reduce
from http import HTTPStatus
from operator import or_
from typing import Annotated, Any, Final, Literal

import orjson

try:
    from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Request, Response
    from fastapi.responses import StreamingResponse
    from fastapi.routing import APIRoute
    from pydantic import BaseModel, ConfigDict, Field, JsonValue, create_model
    from starlette.types import Receive, Scope, Send
except ModuleNotFoundError as error:
    advice = "a service with FastAPI needs an extra: pip install 'imapipe[fastapi]'"
    raise ModuleNotFoundError(advice, name=error.name) from error

import imapipe
from imapipe.contrib.exposition import CONTENT_TYPE
from imapipe.contrib.job import JobState, JobStatus
from imapipe.contrib.job_events import MOST_DIGITS, Subscription
from imapipe.contrib.message_lines import MessageLines
from imapipe.contrib.models import ToldError, model_of
from imapipe.contrib.service import ServiceCore, ServiceHealth, status_of
from imapipe.errors import ImapipeError

__all__ = ["JobKind", "JobStart", "MessageLines", "Service", "ServiceHealth"]

NDJSON: Final = "application/x-ndjson"
# What stands between may end a connection that is silent.
_PING_SECONDS: Final = 15.0
_REPORTS: Final = (
    imapipe.RunReport,
    imapipe.AccountReport,
    imapipe.FollowReport,
    imapipe.AccountMirrorReport,
    imapipe.IndexReport,
    imapipe.UndoReport,
)


class JobStart(BaseModel):
    """A job to be started."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="What kind of job: a name of `GET /kinds`.")
    account: str = Field(description="The account that it is for.")
    parameters: dict[str, JsonValue] = Field(default_factory=dict, description="What the job takes.")


class JobKind(BaseModel):
    """A kind of job."""

    name: str
    description: str
    parameters: dict[str, JsonValue] = Field(description="What it takes, as a JSON schema.")


_Status: Final = model_of(JobStatus)
_Health: Final = model_of(ServiceHealth)
_Report: Any = reduce(or_, map(model_of, _REPORTS))
_Result: Final = create_model(
    "JobResult",
    __doc__="What came of a job.",
    state=(JobState, ...),
    error=(ToldError | None, Field(description="What ended it, where it could not be done.")),
    report=(_Report | None, Field(description="The report, with details of the first 100 failures.")),
)


class Service(ServiceCore):
    """Jobs and messages as routes of FastAPI.

    Args:
        jobs: The jobs, and the pools that they use.
    """

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """The lifespan of an application: `FastAPI(lifespan=service.lifespan)`, or `async with service:` in your own.

        Jobs and streams end when the process is told to end, before the server waits for the answers under way.
        """
        async with self:
            yield

    def router(self) -> APIRouter:
        """The routes: jobs, their events, messages, health, metrics. Give it dependencies that say who may ask."""
        router = APIRouter(route_class=_Route, tags=["imapipe"])
        for add in (_add_jobs, _add_events, _add_messages, _add_health):
            add(router, self)
        return router


class _Route(APIRoute):
    """Tells errors of imapipe as HTTP statuses."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except ImapipeError as error:
                raise HTTPException(status_of(error), str(error)) from error

        return handle


class _LinesResponse(StreamingResponse):
    """Sends the lines of messages; a client that goes away ends the fetch."""

    def __init__(self, lines: MessageLines, service: Service) -> None:
        super().__init__(lines, media_type=NDJSON)
        self._lines = lines
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._service.close_messages(self._lines)


class _EventsResponse(StreamingResponse):
    """Server-Sent Events.

    FastAPI's own (0.165) fails and logs that with a traceback where a client goes away in the middle of them.
    """

    media_type = "text/event-stream"


async def _sse(subscription: Subscription) -> AsyncIterator[str]:
    while True:
        try:
            async with asyncio.timeout(_PING_SECONDS):
                event = await anext(subscription)
        except TimeoutError:
            yield ": ping\n\n"
        except StopAsyncIteration:
            return
        else:
            yield f"id: {event.id}\nevent: {event.kind}\ndata: {event.text}\n\n"


def _json(document: object, status: int = HTTPStatus.OK, *, location: str | None = None) -> Response:
    headers = None if location is None else {"Location": location}
    return Response(orjson.dumps(document), status, headers, media_type="application/json")


def _add_jobs(router: APIRouter, service: Service) -> None:
    jobs = service.jobs

    @router.get("/kinds", summary="The kinds of jobs")
    async def list_kinds() -> list[JobKind]:
        return [
            JobKind(name=each.name, description=each.description, parameters=each.parameters)
            for each in jobs.functions.values()
        ]

    @router.post("/jobs", status_code=202, response_model=_Status, summary="Start a job")
    async def start_job(request: Request, wanted: JobStart) -> Response:
        """The job is kept when this answers: it outlives the request, and a restart of the service."""
        job = await jobs.start(wanted.name, wanted.account, wanted.parameters)
        return _json(job.status.to_dict(), HTTPStatus.ACCEPTED, location=f"{request.url.path}/{job.id}")

    @router.get("/jobs", response_model=list[_Status], summary="The jobs that are known, the newest first")  # type: ignore[valid-type]
    async def list_jobs(state: JobState | None = None, account: str | None = None) -> Response:
        return _json([job.status.to_dict() for job in jobs.list(state=state, account=account)])

    @router.get("/jobs/{job_id}", response_model=_Status, summary="How a job stands")
    async def get_job(job_id: str) -> Response:
        return _json(jobs.get(job_id).status.to_dict())

    @router.post("/jobs/{job_id}/cancel", status_code=202, response_model=_Status, summary="Have a job end")
    async def cancel_job(job_id: str) -> Response:
        """Its checkpoint is saved, and no restart goes on with it. What has ended stays as it is."""
        return _json((await jobs.cancel(job_id)).status.to_dict(), HTTPStatus.ACCEPTED)

    @router.get("/jobs/{job_id}/result", response_model=_Result, summary="What came of a job")
    async def get_result(job_id: str) -> Response:
        """409 while it goes on."""
        job = jobs.get(job_id)
        status = job.status
        error = None if status.error is None else status.error.to_dict()
        return _json({"state": status.state, "error": error, "report": job.result})


def _add_events(router: APIRouter, service: Service) -> None:
    async def listen(
        job_id: str,
        last_event_id: Annotated[str | None, Header(description="Go on behind this event.")] = None,
        after: Annotated[str | None, Query(description="The same, for whoever cannot set a header.")] = None,
    ) -> Subscription:
        subscription = service.jobs.get(job_id).events(last_event_id or after)
        if subscription.is_at_end:
            # What tells an EventSource not to come again.
            raise HTTPException(HTTPStatus.NO_CONTENT)
        return subscription

    listening = Depends(listen)

    @router.get("/jobs/{job_id}/events", response_class=_EventsResponse, summary="What happens in a job (SSE)")
    async def stream_events(subscription: Subscription = listening) -> StreamingResponse:
        """Events until the job ends; 204 where all are known. A listener that is slow is told how many it lost."""
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return _EventsResponse(_sse(subscription), headers=headers)

    @router.get("/jobs/{job_id}/events.ndjson", response_class=Response, summary="What happens in a job (NDJSON)")
    async def stream_event_lines(subscription: Subscription = listening) -> StreamingResponse:
        """A line for each event: `id`, `event`, `data`."""

        async def lines() -> AsyncIterator[str]:
            async for event in subscription:
                yield event.line

        return StreamingResponse(lines(), media_type=NDJSON)


def _add_messages(router: APIRouter, service: Service) -> None:
    @router.get("/messages", response_class=Response, summary="Messages of a search, as they come (NDJSON)")
    async def stream_messages(
        account: str,
        mailbox: str = "INBOX",
        search: Annotated[str, Query(description="In the language of IMAP: `UNSEEN FROM ann`.")] = "ALL",
        fetch: Annotated[Sequence[Literal["flags", "size", "envelope", "structure", "headers", "text"]], Query()] = (
            "envelope",
        ),
        column: Annotated[Sequence[str] | None, Query(description="All that is fetched, unless given.")] = None,
        limit: Annotated[int | None, Query(ge=0, lt=10**MOST_DIGITS)] = None,
        newest_first: bool = False,
    ) -> StreamingResponse:
        """A line for each message; the last line is `{"report": …}`, or `{"error": …}` where it could not go on."""
        lines = await service.messages(
            account, mailbox, search=search, fetch=fetch, columns=column, limit=limit, newest_first=newest_first
        )
        return _LinesResponse(lines, service)


def _add_health(router: APIRouter, service: Service) -> None:
    @router.get("/health", response_model=_Health, summary="How the service stands")
    async def get_health() -> Response:
        """503 where it takes no jobs."""
        health = service.health
        return _json(health.to_dict(), HTTPStatus.OK if health.is_serving else HTTPStatus.SERVICE_UNAVAILABLE)

    @router.get("/metrics", response_class=Response, summary="Numbers for Prometheus")
    async def get_metrics() -> Response:
        return Response(service.metrics(), media_type=CONTENT_TYPE)
