"""Both faces of a service, on real sockets, by the same requests."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from tests.contrib.faces import FACES, Running, running, sse

from imapipe.testing import Server, Stall, SyntheticMailbox

pytestmark = pytest.mark.parametrize("face", FACES)


@pytest.mark.asyncio
async def test_a_job_from_its_start_to_its_result(face: str) -> None:
    async with Server(30) as server, running(face, server) as it:
        kinds = (await it.http.get("/kinds")).json()
        assert kinds[0] == {
            "name": "scan",
            "description": "Look at every message.",
            "parameters": {
                "type": "object",
                "properties": {"mailbox": {"type": "string", "default": "INBOX"}},
                "required": [],
                "additionalProperties": False,
            },
        }
        path = await it.start()
        events = await it.events(path)
        assert [kind for _, kind, _ in events if kind != "progress"] == ["state", "state", "failures", "end"]
        assert events[-1][2]["state"] == "partial"

        # Whoever knows the last event is told not to come again; behind another one the rest is told.
        answer = await it.http.get(f"{path}/events", headers={"Last-Event-ID": events[-1][0]})
        assert answer.status_code == 204
        assert await it.events(path, **{"Last-Event-ID": events[-2][0]}) == events[-1:]
        lines = (await it.http.get(f"{path}/events.ndjson", params={"after": events[1][0]})).text.splitlines()
        assert [(told["id"], told["event"], told["data"]) for told in map(json.loads, lines)] == events[2:]

        result = (await it.http.get(f"{path}/result")).json()
        assert (result["state"], result["error"]) == ("partial", None)
        assert (result["report"]["done"], result["report"]["failures"]["7"]["detail"]) == (29, "no room")
        status = (await it.http.get(path)).json()
        assert (status["state"], status["progress"]["failed"]) == ("partial", 1)
        assert (await it.http.get("/jobs", params={"state": "partial", "account": "ann"})).json() == [status]
        assert (await it.http.get("/jobs", params={"state": "running"})).json() == []

        health = (await it.http.get("/health")).json()
        assert (health["is_serving"], health["jobs"], list(health["pools"])) == (True, {"partial": 1}, ["ann"])


@pytest.mark.asyncio
async def test_prometheus_reads_the_metrics(face: str) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    async with Server(30) as server, running(face, server) as it:
        await it.events(await it.start())
        answer = await it.http.get("/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        told = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in parser.text_string_to_metric_families(answer.text)
            for sample in family.samples
        }
        assert told["imapipe_jobs", ("name", "scan"), ("state", "partial")] == 1
        assert told["imapipe_job_messages_total", ("name", "scan"), ("outcome", "done")] == 29
        assert told["imapipe_job_messages_total", ("name", "scan"), ("outcome", "failed")] == 1
        assert told["imapipe_pools",] == 1


@pytest.mark.asyncio
async def test_what_is_wrong_is_said_with_its_status(face: str) -> None:
    async with Server(30) as server, running(face, server) as it:
        held = await it.start("held")
        # What a page of another site can have a browser send.
        scan = b'{"name": "scan", "account": "ann"}'
        nan = b'{"name": "scan", "account": "ann", "parameters": {"mailbox": NaN}}'
        job = {"name": "scan", "account": "ann"}

        async def said(method: str, path: str, **request: object) -> tuple[int, str]:
            answer = await it.http.request(method, path, **request)  # type: ignore[arg-type]
            return answer.status_code, answer.text

        for wanted, text, (status, said_text) in [
            (404, "there is no job 'x'", await said("GET", "/jobs/x")),
            (404, "there is no job 'x'", await said("POST", "/jobs/x/cancel")),
            (404, "there is no job 'x'", await said("GET", "/jobs/x/events")),
            (409, "has not ended", await said("GET", f"{held}/result")),
            (422, "no job 'y'; there are: held, scan", await said("POST", "/jobs", json={"name": "y", "account": "a"})),
            (404, "no account 'nobody'", await said("POST", "/jobs", json={"name": "scan", "account": "nobody"})),
            (422, "name", await said("POST", "/jobs", json={"account": "ann"})),
            (422, "", await said("POST", "/jobs", json={**job, "mailbox": "INBOX"})),
            (422, "made of these", await said("POST", "/jobs", json={**job, "parameters": {"mailbox": ""}})),
            (422, "", await said("POST", "/jobs", content=nan, headers={"Content-Type": "application/json"})),
            (422, "JSON", await said("POST", "/jobs", content=b"{", headers={"Content-Type": "application/json"})),
            (422, "", await said("POST", "/jobs", content=scan, headers={"Content-Type": "text/plain"})),
            (405, "", await said("HEAD", f"{held}/events")),
            (422, "running", await said("GET", "/jobs", params={"state": "odd"})),
            (422, "account", await said("GET", "/messages")),
            (404, "no account 'nobody'", await said("GET", "/messages", params={"account": "nobody"})),
            (404, "EXAMINE", await said("GET", "/messages", params={"account": "ann", "mailbox": "Nowhere"})),
            (422, "SINS", await said("GET", "/messages", params={"account": "ann", "search": "SINS 3"})),
            (422, "'colour' is no column", await said("GET", "/messages", params={"account": "a", "column": "colour"})),
            (422, "column 'text'", await said("GET", "/messages", params={"account": "ann", "column": "text"})),
            (422, "envelope", await said("GET", "/messages", params={"account": "ann", "fetch": "everything"})),
            (422, "limit", await said("GET", "/messages", params={"account": "ann", "limit": "-1"})),
            (422, "limit", await said("GET", "/messages", params={"account": "ann", "limit": "9" * 5000})),
            (422, "limit", await said("GET", "/messages", params={"account": "ann", "limit": "9" * 19})),
            (422, "newest_first", await said("GET", "/messages", params={"account": "ann", "newest_first": "odd"})),
            (502, "LOGIN", await said("GET", "/messages", params={"account": "mallory"})),
        ]:
            assert (status, text in said_text) == (wanted, True), said_text


@pytest.mark.asyncio
async def test_a_job_is_cancelled(face: str, tmp_path: Path) -> None:
    async with Server(30) as server, running(face, server, tmp_path) as it:
        path = await it.start("held")
        async with it.http.stream("GET", f"{path}/events") as answer:
            events = sse(answer)
            while (await anext(events))[1] != "progress":
                pass
            cancelled = await it.http.post(f"{path}/cancel")
            assert cancelled.status_code == 202
            assert cancelled.json()["state"] in {"cancelling", "cancelled"}
            assert [told["state"] async for _, kind, told in events if kind == "end"] == ["cancelled"]
        assert (await it.http.get(f"{path}/result")).json() == {"state": "cancelled", "error": None, "report": None}


@pytest.mark.asyncio
async def test_messages_come_as_lines_with_the_report_at_the_end(face: str) -> None:
    async with Server(30) as server, running(face, server) as it:
        answer = await it.http.get("/messages", params={"account": "ann"})
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        *rows, last = map(json.loads, answer.text.splitlines())
        assert [row["uid"] for row in rows] == list(range(1, 31))
        assert {"mailbox", "from", "subject", "flags", "size"} <= set(rows[0])
        assert (last["report"]["planned"], last["report"]["complete"]) == (30, True)
        query = {"account": "ann", "search": "UID 1:9", "limit": "2", "newest_first": "True", "column": "size"}
        *rows, last = map(json.loads, (await it.http.get("/messages", params=query)).text.splitlines())
        assert [sorted(row) for row in rows] == [["account", "mailbox", "size", "uid", "uidvalidity"]] * 2
        assert {row["uid"] for row in rows} == {8, 9}
        assert last["report"]["done"] == 2


@pytest.mark.asyncio
async def test_a_reader_that_is_slow_holds_the_fetch_and_one_that_goes_ends_it(face: str) -> None:
    box = SyntheticMailbox(200_000, size=500)
    async with Server(box, bandwidth_bytes_per_second=None) as server, running(face, server) as it:
        query = {"account": "ann", "fetch": "envelope"}
        async with it.http.stream("GET", "/messages", params=query) as answer:
            lines = answer.aiter_lines()
            assert json.loads(await anext(lines))["uid"] == 1
            asked = -1
            while asked != len(server.commands):
                asked = len(server.commands)
                await asyncio.sleep(0.3)
            assert sum(record.messages for record in server.commands.named("UID FETCH")) < 100_000
            (stats,) = it.service.jobs.pools.stats.values()
            assert stats.leased == 1
        await _no_lease(it)


@pytest.mark.asyncio
async def test_a_reader_that_goes_while_there_is_nothing_to_send_ends_the_fetch(face: str) -> None:
    async with Server(300, faults=[Stall(30_000, command="UID FETCH")]) as server, running(face, server) as it:
        async with it.http.stream("GET", "/messages", params={"account": "ann"}) as answer:
            assert json.loads(await anext(answer.aiter_lines()))["uid"] == 1
        await _no_lease(it)


async def _no_lease(it: Running) -> None:
    """Wait until every connection was given back."""
    for _ in range(500):
        (stats,) = it.service.jobs.pools.stats.values()
        if not stats.leased:
            return
        await asyncio.sleep(0.02)
    pytest.fail("a connection is still leased")


@pytest.mark.asyncio
async def test_streams_end_when_the_service_does(face: str) -> None:
    """Otherwise the server would wait for them for ever."""
    async with Server(SyntheticMailbox(200_000, size=500)) as server, running(face, server) as it:
        # Before the job, which takes all connections that are left and keeps them.
        async with it.http.stream("GET", "/messages", params={"account": "ann"}) as reading:
            path = await it.start("held")
            async with it.http.stream("GET", f"{path}/events") as listening:
                events = sse(listening)
                while (await anext(events))[1] != "progress":
                    pass
                it.service.begin_to_end()
                assert [told["state"] async for _, kind, told in events if kind == "end"] == ["interrupted"]
            lines = [line async for line in reading.aiter_lines()]
            assert "report" not in json.loads(lines[-1])
            await it.service.end()
        health = await it.http.get("/health")
        assert (health.status_code, health.json()["is_serving"]) == (503, False)
        refused = await it.http.post("/jobs", json={"name": "scan", "account": "ann"})
        assert refused.status_code == 503


@pytest.mark.asyncio
async def test_openapi_tells_of_reports_and_progress(face: str) -> None:
    if face == "aiohttp":
        pytest.skip("aiohttp has no OpenAPI; docs/schemas.json tells the same")
    async with Server(1) as server, running(face, server) as it:
        schemas = (await it.http.get("/openapi.json")).json()["components"]["schemas"]
        assert {"JobStatus", "ProgressSnapshot", "RunReport", "AccountReport", "ServiceHealth"} <= set(schemas)
        with pytest.raises(httpx.HTTPStatusError):
            (await it.http.get("/nowhere")).raise_for_status()
