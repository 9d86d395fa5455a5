"""The part of a connection that waits for news: IDLE (RFC 2177), and NOTIFY (RFC 5465).

Invariants:

- Whatever the server says between two IDLEs is heard: the next one is in the queue before the one before it ends, and
  the first one before NOTIFY is answered.
- A server that has died silently is noticed: IDLE is ended and begun anew every so often, and the end has to be
  answered in the time that any command may be silent for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from imapipe.errors import CommandTimeout, ConnectionLost, ProtocolError
from imapipe.models.mailbox import MailboxStatus
from imapipe.models.news import News
from imapipe.net.command import Command
from imapipe.net.listing import Listing
from imapipe.net.signals import to_error
from imapipe.wire.command.idle import DONE, idle
from imapipe.wire.command.notify import notify_set
from imapipe.wire.mailbox_name import decode_mailbox_name
from imapipe.wire.response.literal import Literal
from imapipe.wire.response.response import Code, Exists, Expunge, ListItem, Status, Vanished, parse_response
from imapipe.wire.response.response import MailboxStatus as StatusResponse

# While it idles a server need not say a word; whoever watches ends that much earlier.
_MOST_SECONDS: Final = 3600.0


class _Idle(Command):
    """IDLE: the continuation request says that it has begun, DONE ends it.

    Args:
        heard: Called with each response, whatever it is.
    """

    __slots__ = ("_heard", "_is_over", "begun")

    def __init__(self, heard: Callable[[bytes, tuple[Literal, ...]], None]) -> None:
        request = idle()
        super().__init__(request.name, request.pieces, keeps_asking=True)
        self._heard = heard
        self._is_over = False
        self.begun = False

    def next_piece(self, text: bytes) -> bytes | None:
        """The server has begun; it may be over already."""
        if self.begun:
            return None
        self.begun = True
        self.quiet_seconds = _MOST_SECONDS
        return DONE if self._is_over else None

    def keep(self, text: bytes, literals: tuple[Literal, ...]) -> None:
        """Hand it on; nothing is kept."""
        self._heard(text, literals)

    def end(self, write: Callable[[bytes], None]) -> None:
        """Send DONE, and not before the server has begun."""
        was_over, self._is_over = self._is_over, True
        if self.begun and not was_over:
            write(DONE)

    @property
    def is_endless(self) -> bool:
        """Until it is to end."""
        return not self._is_over


class Watching(Listing):
    """What waits for news."""

    __slots__ = ()

    async def watch(
        self,
        heard: Callable[[News], None],
        until: asyncio.Event,
        *,
        renew_seconds: float,
        answer_seconds: float,
        renewed: Callable[[], None],
        notify: Sequence[str] | None = None,
    ) -> None:
        """IDLE until an event is set, or for ever; for the open mailbox, or with NOTIFY for others too.

        Args:
            heard: Called with what the server tells, while it is read: quick, and raises nothing.
            until: Ends it.
            renew_seconds: When to end IDLE and begin it anew: servers end sessions that idle for long.
            answer_seconds: How long the server may take to answer the end.
            renewed: Called whenever the server has answered.
            notify: Say NOTIFY first, for these mailboxes or (none) for all. Once for a connection, which nobody else
                can use afterwards: Dovecot 2.3 tells nothing any more after a second one, nor of names that it is
                given and that are not ASCII.

        Raises:
            CommandNo, CommandBad: The server refuses to.
            ConnectionLost, CommandTimeout, ServerBye, ProtocolError: The connection ended.

        Cancelling it ends the connection.
        """

        def hear(text: bytes, literals: tuple[Literal, ...]) -> None:
            news = self._news(text, literals)
            if news is not None:
                heard(news)

        try:
            asked = None
            if notify is not None:
                asked = Command.of(notify_set([self._spelled(name) for name in notify], self._dialect))
                self.plane.submit(asked)
            current = _Idle(hear)
            self.plane.submit(current)
            if asked is not None:
                try:
                    await self._answer(asked)
                    for text, literals in asked.untagged:
                        hear(text, literals)
                finally:
                    asked.let_go()
                renewed()
            while True:
                await self._wait(current, until, renew_seconds)
                if current.finished.done():
                    await self._answer(current)
                    # Begun anew at once, it might end at once again, without an end.
                    raise ProtocolError("IDLE was ended by the server, which is for the client to do")
                following = None if until.is_set() else _Idle(hear)
                if following is not None:
                    self.plane.submit(following)
                current.end(self.plane.write)
                try:
                    async with asyncio.timeout(answer_seconds):
                        await self._answer(current)
                except TimeoutError:
                    # Unless the connection has ended already, and this is what it ended with.
                    self.abort(CommandTimeout("IDLE", timeout_seconds=answer_seconds))
                    await self._answer(current)
                renewed()
                if following is None:
                    return
                current = following
        except asyncio.CancelledError:
            self.abort(ConnectionLost("IDLE was cancelled"))
            raise

    async def _wait(self, current: _Idle, until: asyncio.Event, renew_seconds: float) -> None:
        """Wait until there is a reason to end it."""
        ended = asyncio.ensure_future(until.wait())
        try:
            await asyncio.wait((ended, current.finished), timeout=renew_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()

    async def _answer(self, command: Command) -> None:
        tagged = await asyncio.shield(command.finished)
        self.used_at = asyncio.get_running_loop().time()
        if tagged.status != "OK":
            raise to_error(command.name, tagged)

    def _news(self, text: bytes, literals: tuple[Literal, ...]) -> News | None:
        """What a response tells, where it is news of any kind; what cannot be read is none."""
        try:
            response = parse_response(text, literals)
        except ProtocolError:
            return None
        match response:
            case StatusResponse():
                name = decode_mailbox_name(response.name, utf8=self._dialect.utf8)
                return News(status=MailboxStatus.from_items(str(name), response.values))
            case Exists() | Expunge() | Vanished() if self.session.selected is not None:
                # The session has heard it first.
                return News(exists=self.session.selected.exists)
            case ListItem():
                return News(has_new_names=True)
            case Status(code=Code(name="NOTIFICATIONOVERFLOW")):
                return News(has_gaps=True)
            case _:
                return None
