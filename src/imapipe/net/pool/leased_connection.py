"""A lease: a connection for one holder, which is taken away from him when he gives it back.

A lease is a `Connection` with the state of the leased one, so that its methods are those of `Connection`. When it
ends, that state is out of reach, and so whatever the holder kept raises `LeaseEnded`: the lease, a bound method of it,
its client (`imap`) and that client's protocol object, its data plane. The next holder's mailbox cannot be changed
by the last one.

Runs use connections without a lease around them: what is slower here is on no path of bulk data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from imapipe.errors import CommandNo, LeaseEnded
from imapipe.net.bridge import end_client, lend_client
from imapipe.net.command import Command
from imapipe.net.connection import Connection
from imapipe.net.dataplane import Dataplane
from imapipe.net.ended import ENDED
from imapipe.wire.response.response import Tagged


class Lease(Connection):
    """A connection of a pool, for the time of one `async with pool.acquire()` block.

    After the block everything asked of it raises `LeaseEnded`.

    Args:
        connection: The connection.
        look: Called before each command: ends the connection where it may not be used any more.
    """

    __slots__ = ("_holds", "_is_over", "_leased", "_lent_imap", "_lent_plane")

    def __init__(self, connection: Connection, look: Callable[[], None]) -> None:
        # Not that of Connection: the state is the leased connection's.
        self._leased = connection
        self._is_over = False
        self._lent_imap = lend_client(connection.imap)
        self._lent_plane = LentPlane(connection.plane, look)
        self._holds = _held(connection.plane)

    def __repr__(self) -> str:
        return "<Lease that has ended>" if self._is_over else f"<Lease of {self._leased!r}>"

    def end(self) -> None:
        """Take the connection away from its holder. The second time it raises `LeaseEnded`, as everything does."""
        connection = self._leased
        end_client(self._lent_imap, connection.imap)
        self._lent_plane.end()
        self._leased = cast(Connection, ENDED)
        self._is_over = True
        if _held(connection.plane) > self._holds:
            # Nobody can release that any more, and a connection that holds too much stops reading.
            connection.abort()


class LentPlane(Dataplane):
    """The data plane of a lease: the connection's, until `end`."""

    def __init__(self, plane: Dataplane, look: Callable[[], None]) -> None:
        # Not that of Dataplane: every attribute is the other one's.
        object.__setattr__(self, "_lent", plane)
        object.__setattr__(self, "_look", look)

    async def run(self, command: Command) -> Tagged:
        """As that of the connection, which a command that is under way is left to."""
        look: Callable[[], None] = object.__getattribute__(self, "_look")
        look()
        lent: Dataplane = object.__getattribute__(self, "_lent")
        return await lent.run(command)

    def end(self) -> None:
        """Lead nowhere."""
        object.__setattr__(self, "_lent", ENDED)

    if not TYPE_CHECKING:
        # Type checkers are to know the attributes of Dataplane and no others.

        def __getattr__(self, name):
            """Called for what is not in the class, so for the whole state."""
            return getattr(object.__getattribute__(self, "_lent"), name)

        def __setattr__(self, name, value):
            setattr(object.__getattribute__(self, "_lent"), name, value)


def _of_the_leased(name: str) -> property:
    def read(lease: Lease) -> object:
        return getattr(lease._leased, name)

    def write(lease: Lease, value: object) -> None:
        setattr(lease._leased, name, value)

    return property(read, write)


def _lent(name: str) -> property:
    def read(lease: Lease) -> object:
        if lease._is_over:
            raise LeaseEnded
        return getattr(lease, name)

    return property(read)


# What a connection keeps in its slots, whatever they are, is looked up in the leased one.
for _class in Connection.__mro__:
    for _name in getattr(_class, "__slots__", ()):
        setattr(Lease, _name, _of_the_leased(_name))
setattr(Lease, "imap", _lent("_lent_imap"))  # noqa: B010 - it overrides what mypy knows as an attribute
setattr(Lease, "plane", _lent("_lent_plane"))  # noqa: B010


def _held(plane: Dataplane) -> int:
    return plane.holdings.held_bytes + plane.holdings.spooled_bytes


async def open_as_wished(connection: Connection, mailbox: str | None, *, write: bool) -> None:
    """See to it that a mailbox is open in the mode that is wished, and its numbers new; or that none is open.

    Raises:
        CommandNo: There is no such mailbox, or it cannot be opened for writing.
    """
    selected = connection.selected
    if mailbox is None:
        await connection.unselect()
        return
    if selected is not None and selected.name == mailbox and selected.read_only is not write:
        before = (selected.exists, selected.expunged)
        await connection.noop()
        if (selected.exists, selected.expunged) == before:
            return
        # NOOP tells how many messages there are, and not the new UIDNEXT.
    if not write:
        await connection.examine(mailbox)
    elif (await connection.select(mailbox)).read_only:
        raise CommandNo("SELECT", "READ-ONLY", f"{mailbox!r} cannot be opened for writing")
