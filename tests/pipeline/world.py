"""A server, a pool, and what a test wants to know of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import imapipe
from imapipe import search as q
from imapipe.middleware.base import Layer, Run
from imapipe.net import spool
from imapipe.net.arrivals import Arrivals
from imapipe.testing import Server


class Always(imapipe.Middleware):
    """Gives every run the layer that it was made with."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer

    async def start(self, run: Run) -> Layer:
        return self._layer


class World:
    """A server with a pool, and a handler that keeps what it saw."""

    def __init__(self, server: Server, pool: imapipe.Pool) -> None:
        self.server = server
        self.pool = pool
        self.handled: list[int] = []

    def job(self, *fetch: str, mailbox: str = "INBOX") -> imapipe.Pipeline:
        """A job on all messages."""
        return self.pool.mailbox(mailbox).search(q.ALL).fetch(*(fetch or ("flags",)))

    async def handle(self, message: imapipe.Message) -> None:
        """Keep the UID."""
        self.handled.append(message.uid)

    @property
    def asked(self) -> list[str]:
        """The UID sets of all UID FETCHes, in order."""
        return [record.message_set for record in self.server.commands.named("UID FETCH")]

    @property
    def sizes(self) -> list[int]:
        """How many messages each UID FETCH asked for."""
        return [len(imapipe.UidSet.parse(text)) for text in self.asked]


class Watched:
    """What a test can see of all connections and all temporary files."""

    def __init__(self) -> None:
        self.arrivals: list[Arrivals] = []
        self.stores: list[spool._Store] = []

    @property
    def open_files(self) -> int:
        return sum(not store._file.closed for store in self.stores)

    @property
    def held(self) -> list[tuple[int, int, int]]:
        return [(a._holdings.held_bytes, a._holdings.spooled_bytes, a._holdings.kept_bytes) for a in self.arrivals]


OpenWorld = Callable[..., Awaitable[World]]
"""The fixture `open_world`: messages, `options` of the pool, and options of the server."""


def check_sums(report: imapipe.RunReport) -> None:
    """Every planned message has one outcome."""
    assert report.planned == report.done + report.skipped + report.vanished + report.failed
    assert report.unsettled == 0
    assert len(report.failed_uids) == report.failed
    is_changed = not report.change_failed and not report.changes_owed
    assert report.complete == (is_changed and not report.failed and not report.unaccounted and not report.may_be_short)
