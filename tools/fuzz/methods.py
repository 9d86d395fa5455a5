"""Every public coroutine, in dialogs with a server that answers nearly right: it raises what it documents.

They are found by themselves, so that a new one is covered on the day it is written; `find` fails where it takes what no
table here knows. What is done with sinks, steps that change mail and the like is in `fuzz.uses`. A docstring says what
is raised in its `Raises:` section, or that it `raises as X does`.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import re
import tempfile
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import imapipe
from fuzz import uses
from fuzz.dialogs import LONGEST_SECONDS, TODAY, Client, Hostile, where
from fuzz.parsers import documented
from fuzz.uses import NotReached, Scene
from imapipe import search as q
from imapipe.connection import Command, NewMessage
from imapipe.errors import ImapipeError
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.command.noop import noop
from imapipe.wire.command.store import FlagChange
from imapipe.wire.uid_set import UidSet

_REFERENCES: Final = re.compile(r"[Rr]aises as ((?:`[\w.]+`(?:, | and )?)+)")

KINDS: Final = {
    kind.__name__: kind
    for kind in (
        *(imapipe.Pool, imapipe.Mailbox, imapipe.Pipeline, imapipe.AccountPipeline, imapipe.Connection),
        *(imapipe.ChangePipeline, imapipe.SearchResult, imapipe.MailboxGroup, imapipe.Changes, imapipe.MessageIndex),
    )
}
ITERATED: Final = ("Pipeline.stream", "Pipeline.batches", "Mailbox.changes", "Pool.acquire")
"""No coroutines, but they give what is entered and iterated."""

# Several at once, in a parameter that elsewhere takes one after the other.
_SEVERAL: Final = frozenset(("Mailbox.append",))

NOT_CALLED: Final = frozenset(
    {
        # What they take comes out of other methods, which are called here.
        "Pipeline.compare",
        "Pipeline.find_within",
        "Mailbox.download",
        "Connection.watch",
        "Connection.try_optional",
        # Of a file, not of a server.
        "MessageIndex.close",
        "MessageIndex.find",
        # For those who write middleware.
        "SearchResult.believable_cursor",
    }
)

NOT_OF_A_SERVER: Final = frozenset(
    {
        # What they call is called by those of the tables.
        *("BatchStream", "Stream", "ChangeStream", "Lease"),
        # What users write, or give to a pipeline: a run calls them.
        *("Sink", "Mirror", "Middleware", "AdaptiveRateLimit", "ByteBudget", "Checkpoint", "Metrics", "OpenTelemetry"),
        *("Progress", "RateLimit", "Retry", "CheckpointHolding", "CheckpointStore"),
    }
)
"""Public classes with coroutines, none of which is to be called here."""


async def _handle(_: imapipe.Message) -> None:
    return None


ARGUMENTS: Final[dict[str, Callable[[], object]]] = {
    "above": lambda: 2,
    "capabilities": lambda: "CONDSTORE",
    "change": lambda: FlagChange.ADD,
    "command": lambda: Command.of(noop()),
    "count": lambda: 10,
    "flags": lambda: ("\\Seen",),
    "handler": lambda: _handle,
    "mailbox": lambda: "INBOX",
    "messages": lambda: NewMessage(b"Subject: x\r\n\r\nx\r\n"),
    "new_name": lambda: "Neu",
    "program": lambda: q.ALL.program(today=TODAY),
    "size": lambda: 10,
    "uids": lambda: UidSet.parse("1:40"),
}
"""What goes into a parameter of this name."""


# What can be called without more ado; of the others what is done with them is a use.
_CALLED_ALONE: Final = (imapipe.Pool, imapipe.Mailbox, imapipe.Pipeline, imapipe.AccountPipeline, imapipe.Connection)


class Method(NamedTuple):
    """A public method that talks to a server.

    Attributes:
        name: Its class and its name.
        raises: What its docstring says.
        parameters: What it has to be given.
        use: What is done in its place.
    """

    name: str
    raises: tuple[type[Exception], ...]
    parameters: tuple[str, ...]
    use: uses.Call | None = None


def find() -> list[Method]:
    """Every public coroutine of what a user holds, and every use of what has none.

    Raises:
        LookupError: One takes what no table knows.
    """
    for name in imapipe.__all__:
        kind = getattr(imapipe, name)
        if inspect.isclass(kind) and _has_coroutines(kind) and name not in KINDS and name not in NOT_OF_A_SERVER:
            raise LookupError(f"{name}: fuzz.methods does not know what to do with it")
    found = [Method(use.name, tuple(_raised(use)), (), use.call) for use in uses.find()]
    used = {full for use in uses.find() for full in (f"{kind.__name__}.{name}" for kind, name in use.of if kind)}
    for kind in KINDS.values():
        for name, function in inspect.getmembers(kind, inspect.isfunction):
            full = f"{kind.__name__}.{name}"
            if name.startswith("_") or full in NOT_CALLED or (full in used and kind not in _CALLED_ALONE):
                continue
            if inspect.iscoroutinefunction(function) or full in ITERATED:
                found.append(Method(full, raises(kind, name), _needed(full, function)))
    return found


def _has_coroutines(kind: type) -> bool:
    return any(
        inspect.iscoroutinefunction(function) and not name.startswith("_")
        for name, function in inspect.getmembers(kind, inspect.isfunction)
    )


def _raised(use: uses.Use) -> Iterator[type[Exception]]:
    for kind, name in use.of:
        yield from raises(kind, str(name)) if kind is not None else documented(name)


def raises(kind: type, name: str) -> tuple[type[Exception], ...]:
    """What the docstring of a method says that it raises, and what those say to which it refers."""
    function = getattr(kind, name)
    found = documented(function)
    text = " ".join((inspect.getdoc(function) or "").split())
    for references in _REFERENCES.findall(text):
        for reference in re.findall(r"`([\w.]+)`", references):
            other, _, method = reference.rpartition(".")
            found += raises(KINDS[other] if other else kind, method)
    return found


def _needed(full: str, function: Callable[..., object]) -> tuple[str, ...]:
    if full == "Mailbox.changes":
        return ("store",)
    parameters = list(inspect.signature(function).parameters.values())[1:]
    needed = [p.name for p in parameters if p.default is p.empty]
    unknown = [name for name in needed if name not in ARGUMENTS]
    if unknown:
        raise LookupError(f"{full}: fuzz.methods does not know what to give for {', '.join(unknown)}")
    return tuple(needed)


def play(
    methods: Iterable[Method],
    seeds: Iterable[int],
    run: Callable[[Coroutine[object, object, list[str]]], list[str]] = asyncio.run,
) -> list[str]:
    """Call each method in a dialog of its own for each seed, side by side; gives what was found."""

    async def play_all() -> list[str]:
        found = await asyncio.gather(*(_play(method, seed) for seed in seeds for method in methods))
        return [finding for findings in found for finding in findings]

    return run(play_all())


async def _play(method: Method, seed: int) -> list[str]:
    hostile = Hostile(seed)
    client = Client(hostile)
    with tempfile.TemporaryDirectory() as folder:
        async with hostile.serving() as port:
            try:
                async with asyncio.timeout(LONGEST_SECONDS), AsyncExitStack() as stack:
                    pool = await stack.enter_async_context(client.pool(port, folder))
                    if method.use is not None:
                        other = Hostile(seed + 1)
                        its_port = await stack.enter_async_context(other.serving())
                        its_pool = await stack.enter_async_context(Client(other).pool(its_port, folder))
                        await method.use(Scene(pool, its_pool, client, Path(folder), random.Random(seed)))
                        return []
                    target = await _target(method.name, pool, client, stack)
                    await _call(method, target, Path(folder), random.Random(seed))
            except NotReached:
                return []
            except method.raises:
                return []
            except Exception as error:  # noqa: BLE001 - that is what is looked for
                return [f"{method.name} of dialog {seed} raises {error!r}{where(error)}"]
    return []


async def _target(name: str, pool: imapipe.Pool, client: Client, stack: AsyncExitStack) -> object:
    kind = name.partition(".")[0]
    if kind == "Connection":
        try:
            return await stack.enter_async_context(pool.acquire("INBOX", write=True))
        except ImapipeError as error:
            raise NotReached from error
    made: dict[str, Callable[[], object]] = {
        "Pool": lambda: pool,
        "Mailbox": lambda: pool.mailbox("INBOX"),
        "Pipeline": lambda: client.pipeline(pool),
        "AccountPipeline": lambda: pool.each("*").search(q.ALL).fetch(Fetch("flags")),
    }
    return made[kind]()


async def _call(method: Method, target: object, folder: Path, chance: random.Random) -> None:
    function = getattr(target, method.name.partition(".")[2])
    given = {name: str(folder / "state.json") if name == "store" else ARGUMENTS[name]() for name in method.parameters}
    if method.name in _SEVERAL:
        given = {name: [value] for name, value in given.items()}
    # What comes before values in any number can be given by position only.
    counts = any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(function).parameters.values())
    result: Any = function(*given.values()) if counts else function(**given)
    if isinstance(result, Awaitable):
        await result
    elif hasattr(result, "__aenter__"):
        async with result as entered:
            if hasattr(entered, "__aiter__"):
                await _iterate(entered, chance)
    else:
        await _iterate(result, chance)


async def _iterate(values: AsyncIterable[object], chance: random.Random) -> None:
    async for _ in values:
        if chance.randrange(20) == 0:
            return
