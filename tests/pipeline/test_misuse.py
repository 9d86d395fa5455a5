"""What users try that cannot work: it ends in an error that says so, never in a wait without an end."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

import imapipe
from imapipe.testing import Server


@pytest.mark.asyncio
@pytest.mark.parametrize("by_batch", [False, True])
async def test_two_tasks_at_one_stream(by_batch: bool) -> None:
    async with Server(30) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        job = pool.mailbox("INBOX").search().batch(5).fetch("flags")
        async with job.batches() if by_batch else job.stream() as stream:
            seen: list[object] = []

            async def consume() -> None:
                async for item in stream:
                    seen.extend(item if isinstance(item, list) else [item])

            async with asyncio.timeout(60):
                first, second = await asyncio.gather(consume(), consume(), return_exceptions=True)
        assert first is None
        assert isinstance(second, RuntimeError)
        assert "concurrency=" in str(second)
        assert len(seen) == 30
        assert stream.report.complete


@pytest.mark.asyncio
async def test_a_handler_waits_for_a_lease_before_its_run_takes_the_last_one() -> None:
    """The first lane's handlers wait while the second lane's connection is still being made."""
    async with Server(40) as server:
        async with imapipe.create_pool(
            server.url, password=server.password, max_size=2, acquire_timeout_seconds=None
        ) as pool:

            async def handle(_: imapipe.Message) -> None:
                async with pool.acquire() as connection:
                    await connection.noop()

            async with asyncio.timeout(60):
                report = await pool.mailbox("INBOX").search().batch(10).fetch("flags").run(handle, concurrency=4)
        assert report.done + report.failed == report.planned == 40
        assert set(Counter(failure.reason for failure in report.failures.values())) <= {"PoolTimeout"}
        assert all("own run holds all 2" in failure.detail for failure in report.failures.values())


def test_a_pool_of_an_event_loop_that_has_ended() -> None:
    with asyncio.Runner() as first, asyncio.Runner() as second:
        server = first.run(Server(5).__aenter__())
        pool = imapipe.create_pool(server.url, password=server.password)
        assert len(first.run(pool.mailbox("INBOX").search().uids())) == 5
        with pytest.raises(RuntimeError, match="another event loop"):
            second.run(pool.mailbox("INBOX").search().uids())
        first.run(pool.close())
        first.run(server.__aexit__(None, None, None))


_POOL_URL = "imap://ann@localhost"


@pytest.mark.parametrize(
    "options",
    [
        {"password": b"x"},
        {"token": "the token itself"},
        {"password": "x", "max_size": "4"},
        {"password": "x", "max_size": 2.5},
        {"password": "x", "acquire_timeout_seconds": "5"},
        {"password": "x", "command_timeout_seconds": None},
        {"password": "x", "spool_above": "1M"},
    ],
)
def test_arguments_of_the_wrong_kind_for_a_pool(options: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=rf"^{list(options)[-1]} takes "):
        imapipe.create_pool(_POOL_URL, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [None, 3, b"INBOX"])
def test_names_of_mailboxes_that_are_no_text(name: object) -> None:
    with pytest.raises(TypeError, match="name of a mailbox"):
        imapipe.create_pool(_POOL_URL, password="x").mailbox(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("step", ["limit", "depth", "batch"])
@pytest.mark.parametrize("value", ["10", None, 2.5])
def test_numbers_of_the_wrong_kind_in_steps(step: str, value: object) -> None:
    job = imapipe.create_pool(_POOL_URL, password="x").mailbox("INBOX").search()
    with pytest.raises(TypeError, match=rf"^{step}\(\) takes "):
        getattr(job, step)(value)


@pytest.mark.parametrize("policy", [imapipe.AdaptiveBatch, imapipe.FixedBatch])
def test_a_policy_that_was_not_called(policy: type) -> None:
    job = imapipe.create_pool(_POOL_URL, password="x").mailbox("INBOX").search()
    with pytest.raises(TypeError, match=r"AdaptiveBatch\(\)"):
        job.batch(policy)  # type: ignore[arg-type]


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["concurrency", "connections", "max_failures"])
@pytest.mark.parametrize("value", ["2", 2.5])
async def test_numbers_of_the_wrong_kind_for_a_run(name: str, value: object) -> None:
    async def handle(_: imapipe.Message) -> None:
        raise AssertionError

    job = imapipe.create_pool(_POOL_URL, password="x").mailbox("INBOX").search()
    with pytest.raises(TypeError, match=rf"^{name} takes a whole number"):
        await job.run(handle, **{name: value})  # type: ignore[arg-type]
