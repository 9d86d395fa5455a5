"""However a run has ended: no byte counts as held, and no temporary file is open, whoever refers to it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest
from tests.pipeline.world import OpenWorld, Watched, World

import imapipe
from imapipe.testing import SyntheticMailbox

MESSAGES = 40
LARGE = b"Subject: x\r\n\r\n" + b"y" * 20_000


class Boom(Exception):
    """What a consumer raises."""


class Consumer:
    """A handler and a sink that lets go of each message it is done with, and raises at one of them."""

    def __init__(self, at: int) -> None:
        self.seen = 0
        self._at = at

    async def handle(self, message: imapipe.Message) -> None:
        """The handler."""
        self.seen += 1
        await asyncio.sleep(0)
        if self.seen == self._at:
            raise Boom(message.uid)
        # Done with: nothing else closes what its user may keep.
        message.discard()

    async def open(self, run: object) -> None:
        """See `Sink`."""

    async def write(self, messages: Sequence[imapipe.Message]) -> Mapping[int, Exception]:
        """See `Sink`."""
        for message in messages:
            await self.handle(message)
        return {}

    async def commit(self) -> None:
        """See `Sink`."""

    async def close(self) -> None:
        """See `Sink`."""


@contextmanager
def discarded(*messages: imapipe.Message) -> Iterator[None]:
    """What an iterator gave is its reader's, who is done with it at the end."""
    try:
        yield
    finally:
        for message in messages:
            message.discard()


async def use(world: World, how: str, dice: random.Random) -> None:
    """One use of a run that reads 40 messages of 3 kB, each in a file of its own."""
    at = dice.randint(1, MESSAGES)
    consumer = Consumer(at if dice.random() < 0.5 else 0)
    job = world.job(dice.choice(["full", "text"])).batch(dice.randint(1, 12))
    if how == "run":
        await job.run(consumer.handle, on_error="raise", concurrency=dice.randint(1, 4))
    elif how == "sink":
        await job.run(consumer)
    elif how == "stream":
        async with job.stream() as stream:
            async for message in stream:
                with discarded(message):
                    await consumer.handle(message)
                if consumer.seen == at:
                    break
    else:
        async with job.batches() as batches:
            async for batch in batches:
                with discarded(*batch):
                    for message in batch:
                        await consumer.handle(message)
                if consumer.seen >= at:
                    break


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("how", ["run", "sink", "stream", "batches"])
async def test_nothing_is_held_when_a_run_has_ended(
    open_world: OpenWorld, watched: Watched, how: str, seed: int
) -> None:
    dice = random.Random(f"{how} {seed}")
    world = await open_world(SyntheticMailbox(MESSAGES, size=20_000), options={"spool_above": 1024, "max_size": 2})
    errors: list[BaseException] = []
    for _ in range(5):
        task = asyncio.create_task(use(world, how, dice))
        if dice.random() < 0.7:
            for _ in range(dice.randint(0, 300)):
                await asyncio.sleep(0)
            task.cancel()
        try:
            await task
        except (Boom, asyncio.CancelledError) as error:
            # It is kept, and with it every frame that it came through.
            errors.append(error)
        assert watched.open_files == 0
        assert not any(any(held) for held in watched.held)
    assert watched.stores


@pytest.mark.asyncio
async def test_what_was_handed_over_is_its_users(open_world: OpenWorld, watched: Watched) -> None:
    """A run ends, and its user still reads what he keeps; what is closed says why it cannot be read."""
    world = await open_world([LARGE] * 5, options={"spool_above": 1024})
    kept = [message async for message in world.job("full")]
    assert watched.open_files == 5
    assert [len(message.body) for message in kept] == [message.size for message in kept]
    with kept[0].open() as file:
        file.read(10)
        for message in kept:
            message.discard()
        file.seek(0)
        with pytest.raises(imapipe.SpoolError, match="the temporary file of a body is gone"):
            file.read()
    with pytest.raises(imapipe.SpoolError, match="the temporary file of a body is gone"):
        kept[0].body  # noqa: B018
    assert watched.open_files == 0


@pytest.mark.asyncio
async def test_the_last_message_of_a_loop_that_is_left_can_be_read(open_world: OpenWorld, watched: Watched) -> None:
    world = await open_world([LARGE] * 5, options={"spool_above": 1024})
    async with world.job("full").stream() as stream:
        message = await anext(aiter(stream))
    assert len(message.body) == message.size
    assert watched.open_files == 1
    assert not any(any(held) for held in watched.held)
