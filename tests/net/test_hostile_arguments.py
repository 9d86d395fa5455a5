"""No argument of a connection's methods becomes a command of its own: it is refused before anything is sent."""

from __future__ import annotations

import asyncio
import inspect
import io
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from imapipe import search as q
from imapipe.errors import AuthenticationFailed
from imapipe.net.authentication import Credentials
from imapipe.net.connection import Connection
from imapipe.net.dataplane import Dataplane
from imapipe.net.options import PlaneOptions
from imapipe.net.session import SelectedMailbox, Session
from imapipe.search import LiteralArgument, SearchProgram
from imapipe.wire.command.append import NewMessage
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.command.store import FlagChange
from imapipe.wire.literal_argument import Body
from imapipe.wire.uid_set import UidSet
from scripted_server import FakeTransport

CAPABILITIES = (
    "IMAP4REV1 IMAP4REV2 CONDSTORE ENABLE ESEARCH ID LIST-STATUS LITERAL+ MOVE MULTIAPPEND PARTIAL QUOTA SEARCHRES "
    "STATUS=SIZE UIDBATCHES UIDPLUS UNSELECT".split()
)
BREAKS = ["a\r\nX1 DELETE INBOX", "a\nX1 DELETE INBOX", "a\rX1 DELETE INBOX", "a\0", "\r\n", "\ud800"]
SPLITS = [*BREAKS, "", "a b", "a)", "(a", 'a"', "a]", "{5}", "{5+}", "a\\", "é", "a\t", "*"]
ONE = UidSet.parse("1")
ALL = SearchProgram((b"ALL",), None)

Call = Callable[[Connection, str], Awaitable[object] | object]


def nothing(_: object) -> None:
    """Takes messages."""


def program(key: q.SearchKey) -> SearchProgram:
    return key.program(today=datetime(2024, 6, 1, tzinfo=UTC).date())


# Arguments that may be any text but what no string can hold.
STRINGS: dict[str, list[Call]] = {
    "examine": [lambda c, bad: c.examine(bad), lambda c, bad: c.examine(bad, condstore=True)],
    "select": [lambda c, bad: c.select(bad)],
    "status": [lambda c, bad: c.status(bad)],
    "quota": [lambda c, bad: c.quota(bad)],
    "list": [lambda c, bad: c.list(bad), lambda c, bad: c.list(reference=bad)],
    "identify": [lambda c, bad: c.identify({bad: "x"}), lambda c, bad: c.identify({"name": bad})],
    "create": [lambda c, bad: c.create(bad)],
    "delete": [lambda c, bad: c.delete(bad)],
    "rename": [lambda c, bad: c.rename(bad, "x"), lambda c, bad: c.rename("x", bad)],
    "subscribe": [lambda c, bad: c.subscribe(bad)],
    "unsubscribe": [lambda c, bad: c.unsubscribe(bad)],
    "uid_copy": [lambda c, bad: c.uid_copy(ONE, bad)],
    "uid_move": [lambda c, bad: c.uid_move(ONE, bad)],
    "append": [lambda c, bad: c.append(bad, NewMessage(b"x"))],
    "watch": [
        lambda c, bad: c.watch(
            nothing, asyncio.Event(), renew_seconds=9, answer_seconds=9, renewed=lambda: None, notify=[bad]
        )
    ],
    "uid_search": [
        lambda c, bad: c.uid_search(program(q.subject(bad))),
        lambda c, bad: c.uid_search(program(q.header("X-A", bad))),
        lambda c, bad: c.uid_search(program(q.gmail(bad))),
        lambda c, bad: c.uid_search(SearchProgram((bad.encode("utf-8", "surrogatepass"),), None)),
    ],
}
# Arguments that are words: everything that would end one is refused as well.
WORDS: dict[str, list[Call]] = {
    "enable": [lambda c, bad: c.enable(bad), lambda c, bad: c.enable("CONDSTORE", bad)],
    "status": [lambda c, bad: c.status("INBOX", [bad]), lambda c, bad: c.status("INBOX", ["MESSAGES", bad])],
    "list": [lambda c, bad: c.list(status_items=[bad]), lambda c, bad: c.list(status_items=["UIDNEXT", bad])],
    "uid_store": [lambda c, bad: c.uid_store(ONE, FlagChange.ADD, [bad]), lambda c, bad: c.uid_store(ONE, bad, [])],  # type: ignore[arg-type]
    "append": [lambda c, bad: c.append("INBOX", NewMessage(b"x", flags=["\\Seen", bad]))],
    "uid_search": [
        lambda c, bad: c.uid_search(program(q.keyword(bad))),
        lambda c, bad: c.uid_search(SearchProgram((b"ALL",), bad)),
        lambda c, bad: c.uid_search(program(q.uid(bad or "x"))) if bad != "*" else c.enable(bad),
    ],
    "uid_fetch": [
        lambda c, bad: c.uid_fetch(ONE, Fetch(bad), nothing),
        lambda c, bad: c.uid_fetch(ONE, Fetch(section=bad or "x"), nothing),
        lambda c, bad: c.uid_fetch(ONE, Fetch(header_fields=["A", bad]), nothing),
    ],
}
# Search text sent as it is, raw or in a program made by hand.
SEARCHES = [*BREAKS[:-1], "", "(ALL", "ALL)", ")(", 'SUBJECT "a', 'SUBJECT "a\\"', "SUBJECT {5}", "SUBJECT {5+}", "é"]
NUMBERS: dict[str, list[Callable[[Connection, object], Awaitable[object] | object]]] = {
    "uid_batches": [lambda c, bad: c.uid_batches(bad)],  # type: ignore[arg-type]
    "uid_search_page": [lambda c, bad: c.uid_search_page(ALL, bad, above=5)],  # type: ignore[arg-type]
    "uid_fetch": [lambda c, bad: c.uid_fetch(ONE, Fetch(partial=(0, bad)), nothing)],  # type: ignore[arg-type]
    "uid_store": [lambda c, bad: c.uid_store(ONE, FlagChange.ADD, [], unchanged_since=bad)],  # type: ignore[arg-type]
    "append": [lambda c, bad: c.append("INBOX", NewMessage(Body(io.BytesIO(b"x"), bad)))],  # type: ignore[arg-type]
}
BAD_NUMBERS: list[object] = ["1\r\nX1 DELETE INBOX", -1, True, 1.5, 2**64]
# What is no set of UIDs, and the empty one, which the grammar cannot say.
SETS: dict[str, list[Callable[[Connection, UidSet], Awaitable[object] | object]]] = {
    "uid_store": [lambda c, bad: c.uid_store(bad, FlagChange.ADD, [])],
    "uid_copy": [lambda c, bad: c.uid_copy(bad, "x")],
    "uid_move": [lambda c, bad: c.uid_move(bad, "x")],
    "uid_expunge": [lambda c, bad: c.uid_expunge(bad)],
    "uid_fetch": [lambda c, bad: c.uid_fetch(bad, Fetch("flags"), nothing)],
}
# They take nothing that goes into a command, or what was sealed before.
WITHOUT = {
    *(
        "abort",
        "adopt",
        "ask_capabilities",
        "believe",
        "execute",
        "fetched",
        "logout",
        "namespace",
        "noop",
        "offers",
        "hold",
    ),
    *("require", "try_optional", "unselect"),
    # Its sets and items are values, and a name is only compared with what is being opened.
    *("subscribed", "uid_fetch_ahead"),
}


class World:
    """A connection that stands, and what is written to it."""

    def __init__(self) -> None:
        session = Session(capabilities=frozenset(CAPABILITIES), logged_in=True, greeted=True)
        session.selected = SelectedMailbox("INBOX", read_only=False)
        # Short, so that what is sent all the same fails soon.
        self.plane = Dataplane(session, PlaneOptions(command_timeout_seconds=0.5))
        self.transport = FakeTransport(self.plane)
        self.plane.greeting.set_result(b"")
        self.connection = Connection(None, self.plane, session)

    async def refuses(self, call: Callable[[Connection], Awaitable[object] | object]) -> str:
        """Make a call that must be refused; gives what it says."""
        with pytest.raises((ValueError, AuthenticationFailed)) as caught:  # noqa: PT012 - some calls are made at once, others when awaited
            made = call(self.connection)
            if inspect.isawaitable(made):
                await made
        assert self.transport.take_sent() == b""
        assert not self.plane.is_busy
        assert self.plane.error is None
        return str(caught.value)


def every(calls: dict[str, list[Call]]) -> list[object]:
    return [pytest.param(call, id=f"{name}-{i}") for name, found in calls.items() for i, call in enumerate(found)]


def test_every_public_method_is_looked_at() -> None:
    public = {name for name, _ in inspect.getmembers(Connection, inspect.isfunction) if not name.startswith("_")}
    public.add("adopt")
    assert public == WITHOUT | STRINGS.keys() | WORDS.keys() | NUMBERS.keys() | SETS.keys()


@pytest.mark.parametrize("bad", BREAKS)
@pytest.mark.parametrize("call", every(STRINGS))
@pytest.mark.asyncio
async def test_strings(call: Call, bad: str) -> None:
    assert await World().refuses(lambda connection: call(connection, bad))


@pytest.mark.parametrize("bad", SPLITS)
@pytest.mark.parametrize("call", every(WORDS))
@pytest.mark.asyncio
async def test_words(call: Call, bad: str) -> None:
    assert await World().refuses(lambda connection: call(connection, bad))


@pytest.mark.parametrize("text", SEARCHES)
@pytest.mark.asyncio
async def test_search_text(text: str) -> None:
    world = World()
    await world.refuses(lambda connection: connection.uid_search(program(q.raw(text))))
    if text.isascii():
        made = SearchProgram((text.encode(),) if text else (), None)
        await world.refuses(lambda connection: connection.uid_search(made, save=True))
        await world.refuses(lambda connection: connection.uid_search_page(made, 5, above=0))
        literal = LiteralArgument(b"x", synchronising=True)
        beside = SearchProgram((b"BODY ", literal, b" " + text.encode()), "UTF-8")
        if text:
            await world.refuses(lambda connection: connection.uid_search(beside, within=ONE))


@pytest.mark.parametrize("bad", BAD_NUMBERS)
@pytest.mark.parametrize("call", every(NUMBERS))  # type: ignore[arg-type]
@pytest.mark.asyncio
async def test_numbers(call: Callable[[Connection, object], Awaitable[object] | object], bad: object) -> None:
    assert await World().refuses(lambda connection: call(connection, bad))


@pytest.mark.parametrize("bad", [UidSet(), "1\r\nX1 DELETE INBOX", None])
@pytest.mark.parametrize("call", every(SETS))  # type: ignore[arg-type]
@pytest.mark.asyncio
async def test_sets(call: Callable[[Connection, UidSet], Awaitable[object] | object], bad: UidSet) -> None:
    assert await World().refuses(lambda connection: call(connection, bad))


@pytest.mark.asyncio
async def test_too_much_for_id() -> None:
    world = World()
    for fields in ({"x" * 31: "y"}, {"x": "y" * 1025}, {f"x{i}": "y" for i in range(31)}):
        assert "ID" in await world.refuses(lambda connection, fields=fields: connection.identify(fields))  # type: ignore[misc]


@pytest.mark.asyncio
async def test_what_a_person_types_into_mailboxes() -> None:
    """`pool.mailboxes(pattern)` is `list(pattern, status_items=…)`."""
    world = World()
    for pattern in BREAKS:
        await world.refuses(lambda c, pattern=pattern: c.list(pattern, status_items=["MESSAGES"]))  # type: ignore[misc]


@pytest.mark.parametrize("break_", ["\r\n", "\n", "\r", "\0"])
@pytest.mark.parametrize("offered", [(), ("AUTH=PLAIN", "LOGINDISABLED"), ("AUTH=PLAIN", "SASL-IR")])
@pytest.mark.asyncio
async def test_names_and_passwords(break_: str, offered: tuple[str, ...]) -> None:
    world = World()

    async def log_in(credentials: Credentials) -> None:
        await credentials.begin("127.0.0.1", 143).run(world.plane.run, frozenset(offered))

    for user, password in ((f"ann{break_}x", "hidden"), ("ann", f"hidden{break_}x"), (f"é{break_}", "hidden")):
        said = await world.refuses(lambda _, u=user, p=password: log_in(Credentials(u, p, None)))  # type: ignore[misc]
        assert "hidden" not in said


@pytest.mark.parametrize("control", ["\x01auth=Bearer x", "\r\n", "\0"])
@pytest.mark.parametrize("offered", ["AUTH=OAUTHBEARER", "AUTH=XOAUTH2"])
@pytest.mark.asyncio
async def test_tokens(control: str, offered: str) -> None:
    world = World()

    async def log_in(user: str, token: str) -> None:
        async def give() -> str:
            return token

        await Credentials(user, None, give).begin("h", 143).run(world.plane.run, frozenset((offered,)))

    for user, token in ((f"ann{control}", "hidden"), ("ann", f"hidden{control}")):
        assert "hidden" not in await world.refuses(lambda _, u=user, t=token: log_in(u, t))  # type: ignore[misc]
