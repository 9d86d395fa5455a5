"""What is done with jobs beside their own coroutines: sinks, changes of mail, following, mirrors, an index.

Each use is found by itself where there are several of a kind: every sink of `imapipe.sinks`, every step that changes
mail. It may raise what the docstrings of what it calls say, as `fuzz.methods` has it.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

import imapipe
from fuzz.dialogs import SILENCE_SECONDS, Client
from imapipe import search as q
from imapipe import sinks
from imapipe.errors import ImapipeError
from imapipe.pipeline.delivery.sink import Sink
from imapipe.pipeline.steps import ChangeSteps

FOLLOWED_SECONDS: Final = 3 * SILENCE_SECONDS

_Way: TypeAlias = Literal["notify", "idle", "poll"]
_WAYS: Final[tuple[_Way, ...]] = ("notify", "idle", "poll")

# What a step that changes mail is given.
_STEPS: Final[dict[str, tuple[str, ...]]] = {
    "add_flags": ("\\Seen", "$x"),
    "remove_flags": ("\\Seen",),
    "set_flags": (),
    "change_flags": ("+\\Seen", "-$x"),
    "move_to": ("Archive",),
    "copy_to": ("Archive",),
    "delete": (),
}


class NotReached(Exception):
    """What a use needs could not be had from this server."""


class Scene(NamedTuple):
    """Where something is used.

    Attributes:
        pool: Of the account.
        other: Of another one, at a server that answers nearly right, too.
        client: Makes jobs.
        folder: For files.
        chance: Decides.
    """

    pool: imapipe.Pool
    other: imapipe.Pool
    client: Client
    folder: Path
    chance: random.Random

    @property
    def job(self) -> imapipe.Pipeline:
        """A job with whole messages."""
        return self.client.pipeline(self.pool).fetch("full")


Call: TypeAlias = Callable[[Scene], Awaitable[object]]


class Use(NamedTuple):
    """Something that is done.

    Attributes:
        name: What.
        of: The functions whose docstrings say what it raises, each a class and a name, or a function alone.
        call: Does it.
    """

    name: str
    of: tuple[tuple[type | None, object], ...]
    call: Call


def find() -> Iterator[Use]:
    """All uses.

    Raises:
        LookupError: A step that changes mail takes what no table knows.
    """
    run = (imapipe.Pipeline, "run")
    for name in sinks.__all__:
        kind: object = getattr(sinks, name)
        if isinstance(kind, type) and hasattr(kind, "commit"):
            own = tuple((kind, method) for method in ("open", "write", "commit", "close"))
            yield Use(f"Pipeline.run to {name}", (run, *own), partial(_run_to, name))
    for name, _ in inspect.getmembers(ChangeSteps, inspect.isfunction):
        if name.startswith("_") or name in dir(imapipe.AccountPipeline):
            continue
        if name not in _STEPS and name not in dir(ChangeSteps.__mro__[1]):
            raise LookupError(f"fuzz.uses does not know what to give to {name}")
        if name in _STEPS:
            yield Use(f"{name}, run", ((imapipe.ChangePipeline, "run"),), partial(_change, name))
            yield Use(f"{name}, plan", ((imapipe.ChangePipeline, "plan"),), partial(_plan_change, name))
    for way in _WAYS:
        yield Use(f"Pipeline.follow by {way}", ((imapipe.Pipeline, "follow"),), partial(_follow, way, False))
        of_all = ((imapipe.AccountPipeline, "follow"),)
        yield Use(f"AccountPipeline.follow by {way}", of_all, partial(_follow, way, True))
    yield Use("Pipeline.run with changes behind it", (run,), _run_and_change)
    yield Use("SearchResult.refine", ((imapipe.SearchResult, "refine"),), _refine)
    yield Use("Changes.mirror", ((imapipe.Changes, "mirror"),), _mirror)
    yield Use("MailboxGroup.mirror", ((imapipe.MailboxGroup, "mirror"),), _mirror_all)
    yield Use("MessageIndex.update", ((imapipe.MessageIndex, "update"),), _index)
    yield Use("undo", ((None, imapipe.undo), (None, imapipe.plan_undo)), _undo)
    yield Use("map_folders", ((None, sinks.map_folders),), _map_folders)


async def _handle(_: imapipe.Message) -> None:
    return None


@asynccontextmanager
async def _reaching() -> AsyncIterator[None]:
    """What comes before; it is looked at elsewhere."""
    try:
        yield
    except (ImapipeError, OSError, ValueError) as error:
        raise NotReached from error


def _sink(name: str, scene: Scene) -> Sink:
    if name == "Account":
        return sinks.Account(scene.other, state=str(scene.folder / "state"), outage_seconds=0.0)
    if name == "Tee":
        return sinks.Tee(sinks.Mbox(scene.folder / "mbox"), sinks.Maildir(scene.folder / "maildir"))
    try:
        made: Sink = getattr(sinks, name)(scene.folder / "out", durable=False)
    except ModuleNotFoundError as error:
        raise NotReached from error
    return made


async def _run_to(name: str, scene: Scene) -> None:
    await scene.job.run(_sink(name, scene), commit_every_messages=scene.chance.randrange(1, 4))


async def _run_and_change(scene: Scene) -> None:
    change = scene.chance.choice((imapipe.add_flags("$x"), imapipe.move_to("Archive"), imapipe.copy_to("Archive")))
    await scene.client.pipeline(scene.pool).run(_handle, on_done=change, on_failed=imapipe.add_flags("$failed"))


def _changed(name: str, scene: Scene) -> imapipe.ChangePipeline:
    changed: imapipe.ChangePipeline = getattr(scene.client.pipeline(scene.pool), name)(*_STEPS[name])
    return changed


async def _change(name: str, scene: Scene) -> None:
    await _changed(name, scene).run(journal=scene.chance.choice((None, scene.folder / "journal")))


async def _plan_change(name: str, scene: Scene) -> None:
    await _changed(name, scene).plan()


async def _follow(way: _Way, many: bool, scene: Scene) -> None:
    job = scene.pool.each("*").search(q.ALL).fetch("flags") if many else scene.job
    limit = asyncio.timeout(FOLLOWED_SECONDS)
    try:
        async with limit:
            if scene.chance.random() < 0.5:
                await job.follow(_handle, poll_seconds=SILENCE_SECONDS, way=way)
            else:
                async with job.follow(poll_seconds=SILENCE_SECONDS, way=way) as messages:
                    async for message in messages:
                        await _handle(message)
    except TimeoutError:
        if not limit.expired():
            raise


async def _refine(scene: Scene) -> None:
    async with _reaching():
        found = await scene.client.pipeline(scene.pool).uids()
    await found.refine(q.UNSEEN)


async def _mirror(scene: Scene) -> None:
    sink = sinks.Maildir(scene.folder / "mail", durable=False)
    async with _reaching():
        await scene.job.run(sink)
    await scene.pool.mailbox("INBOX").changes(str(scene.folder / "state.json")).mirror(sink, max_deletions=100)


async def _mirror_all(scene: Scene) -> None:
    sink = sinks.Sqlite(scene.folder / "mail", durable=False)
    async with _reaching():
        await scene.pool.each("*").search(q.ALL).fetch("full").run(sink)
    await scene.pool.each("*").mirror(sink, str(scene.folder / "state.json"), max_deletions="50%")


async def _index(scene: Scene) -> None:
    index = imapipe.MessageIndex(scene.folder / "index.sqlite")
    try:
        for _ in range(2):
            await index.update(scene.pool.mailbox("INBOX"))
    finally:
        await index.close()


async def _undo(scene: Scene) -> None:
    name = scene.chance.choice(("add_flags", "move_to", "copy_to"))
    async with _reaching():
        await _changed(name, scene).run(journal=scene.folder / "journal")
    await imapipe.plan_undo(scene.folder / "journal", scene.pool)
    await imapipe.undo(scene.folder / "journal", scene.pool)


async def _map_folders(scene: Scene) -> None:
    folders = await sinks.map_folders(scene.pool, scene.other, outage_seconds=0.0)
    await sinks.verify_copy(scene.pool, scene.other, folders, ["INBOX"])
