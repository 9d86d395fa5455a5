"""The part of a connection that lists mailboxes: LIST and STATUS, in one command where the server can, else in a few.

Invariants:

- A mailbox that the server lists is in the list. Where its STATUS is refused it is there without, whatever the
  others say; a line that cannot be read is noted (`net.learned`).
- What is asked of each mailbox goes out together, `MAX_IN_FLIGHT` commands at a time: a server without LIST-STATUS
  costs two round trips for nearly every account, and not one for each mailbox.
- An answer is its mailbox's by its name; one with a name that nobody asked for is that of the command it came for.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from imapipe.errors import CommandBad, CommandError, CommandNo, ConnectionLost, ProtocolError
from imapipe.models.mailbox import MailboxEntry, MailboxStatus, with_own_places
from imapipe.net.command import Command, Company
from imapipe.net.conversation import Conversation
from imapipe.net.signals import to_error
from imapipe.net.ways import may_be_the_way
from imapipe.wire.command.encoder import atoms
from imapipe.wire.command.get_quota_root import get_quota_root
from imapipe.wire.command.list import list_
from imapipe.wire.command.lsub import lsub
from imapipe.wire.command.status import status
from imapipe.wire.mailbox_name import MailboxName, decode_mailbox_name, decode_mailbox_names
from imapipe.wire.response.quota import Quota
from imapipe.wire.response.response import ListItem, Response
from imapipe.wire.response.response import MailboxStatus as StatusResponse

STATUS_ITEMS = ("MESSAGES", "UIDNEXT", "UIDVALIDITY", "UNSEEN")
MAX_IN_FLIGHT: Final = 400
"""STATUS commands on their way at a time: those of nearly every account are one flight, and fit into 64 KiB."""

_STATUS_NEEDS: Final = {"HIGHESTMODSEQ": "CONDSTORE", "SIZE": "STATUS=SIZE", "MAILBOXID": "OBJECTID"}
# What an extended LIST tells of each mailbox only when it is asked (RFC 5258 §3, RFC 6154 §2), and what that needs.
_LIST_RETURNS: Final = {"SUBSCRIBED": "LIST-EXTENDED", "CHILDREN": "LIST-EXTENDED", "SPECIAL-USE": "SPECIAL-USE"}


@dataclass(slots=True)
class _Counts:
    """What came of asking several mailboxes for their STATUS."""

    found: dict[str, MailboxStatus] = field(default_factory=dict)
    refused: dict[str, CommandError] = field(default_factory=dict)


class Listing(Conversation):
    """What tells which mailboxes there are, and how much is in them."""

    __slots__ = ()

    async def list(
        self, pattern: str = "*", *, reference: str = "", status_items: Sequence[str] = ()
    ) -> list[MailboxEntry]:
        """LIST the mailboxes: their attributes, subscriptions and special uses where the server tells those.

        Args:
            pattern: Which; `*` stands for anything, `%` for anything up to a separator.
            reference: The name before which the pattern is to be thought.
            status_items: What to tell of each besides, in the same round trip where LIST-STATUS is offered. A mailbox
                whose STATUS the server refuses is listed without.

        Raises:
            ValueError: A line end or NUL in a name, or an item of STATUS that is none.

        Otherwise it raises as `execute` does.
        """
        # All are looked at: whether one is refused must not depend on the server.
        atoms(("MESSAGES", *status_items), "an item of STATUS")
        items = self._offered_items(status_items) if status_items else []
        entries, counts = self._read_list(await self._ask_list(pattern, reference, items))
        unknown = [entry.name for entry in entries.values() if entry.is_selectable and entry.name not in counts]
        if items and unknown:
            more = await self._count(unknown, items)
            counts |= more.found
            for error in more.refused.values():
                self.ways.learned.passed_over("status", f"a mailbox is listed without counts: {error}")
        listed = with_own_places(entries.values())
        return [entry.with_status(counts[entry.name]) if entry.name in counts else entry for entry in listed]

    async def status(self, mailbox: str, items: Sequence[str] = STATUS_ITEMS) -> MailboxStatus:
        """STATUS of a mailbox that is not selected (RFC 9051 §6.3.11); items not offered are left out.

        Raises:
            CommandNo: There is no such mailbox.
            ValueError: A line end or NUL in the name, or an item that is none.

        Otherwise it raises as `execute` does.
        """
        atoms(("MESSAGES", *items), "an item of STATUS")
        name = self._spelled(mailbox)
        counts = await self._count([name], self._offered_items(items))
        if isinstance(counts.refused.get(name), CommandNo) and (spelled := await self._spelling_of(mailbox)):
            name = spelled
            counts = await self._count([name], self._offered_items(items))
        if name in counts.refused:
            raise counts.refused[name]
        if name not in counts.found:
            raise ProtocolError("STATUS was answered OK without a STATUS response")
        return replace(counts.found[name], name=str(mailbox))

    async def subscribed(self) -> frozenset[str]:
        """LSUB: the names that are subscribed to; for servers whose LIST does not tell that (no LIST-EXTENDED).

        Raises as `execute` does.
        """
        responses = (await self._ask(lsub(self._dialect)))[1]
        found = [r for r in responses if isinstance(r, ListItem) and "\\Noselect" not in r.attributes]
        return frozenset(decode_mailbox_names([each.name for each in found], utf8=self._dialect.utf8).values())

    async def quota(self, mailbox: str = "INBOX") -> Sequence[Quota]:
        """GETQUOTAROOT (RFC 9208): the limits that a mailbox is under; none where the server does not tell.

        Raises:
            ValueError: A line end or NUL in the name.

        Otherwise it raises as `execute` does.
        """
        found: list[Response] = []

        async def ask() -> None:
            found.extend((await self._ask(get_quota_root(mailbox, self._dialect)))[1])

        await self.try_optional("QUOTA", ask)
        return [response for response in found if isinstance(response, Quota)]

    def _spelled(self, mailbox: str) -> str:
        """The name as the server spells it, as far as that is known.

        A name that comes with its spelling is remembered: what is told of mailboxes and messages is the text alone.
        """
        if isinstance(mailbox, MailboxName):
            self.ways.learned.spellings[str(mailbox)] = mailbox
            return mailbox
        return self.ways.learned.spellings.get(mailbox) or mailbox

    async def _spelling_of(self, mailbox: str) -> str | None:
        """The name under which the server has a mailbox that it does not find, or None; it is listed for that once.

        Names of more than ASCII can be written in several ways, and servers tell mailboxes apart by spelling: modified
        UTF-7 of another kind than the standard's, or characters that are composed in another way.
        """
        spellings = self.ways.learned.spellings
        if mailbox in spellings or isinstance(mailbox, MailboxName) or (mailbox.isascii() and "&" not in mailbox):
            return None
        spellings[mailbox] = None
        with suppress(CommandError):
            meant = {_composed(mailbox), _composed(decode_mailbox_name(mailbox.encode("utf-8", "replace")))}
            listed = [entry.name for entry in await self.list()]
            spellings[mailbox] = next((name for name in listed if _composed(name) in meant), None)
        return spellings[mailbox]

    async def _ask_list(self, pattern: str, reference: str, items: Sequence[str]) -> Iterable[Response]:
        """In the way that tells most: what a server is not asked for in an extended LIST it need not tell."""

        async def ask(returns: Sequence[str] = (), status_items: Sequence[str] = ()) -> Iterable[Response]:
            request = list_(pattern, self._dialect, reference=reference, returns=returns, status_items=status_items)
            answers = list((await self._ask(request))[1])
            if (returns or status_items) and pattern in ("*", "%") and not reference and not _has_inbox(answers):
                # DavMail takes RETURN (SPECIAL-USE) for a choice, and lists nothing else.
                raise ProtocolError("an extended LIST of all mailboxes was answered without INBOX")
            return answers

        extended = ("LIST-STATUS", "LIST-EXTENDED")
        is_extended = any(map(self.ways.may, extended))
        returns = [name for name, needed in _LIST_RETURNS.items() if is_extended and self.ways.may(needed)]
        ways: dict[str, Callable[[], Awaitable[Iterable[Response]]]] = {}
        if items and self.ways.may("LIST-STATUS", "LIST RETURN (STATUS)"):
            ways["LIST RETURN (STATUS)"] = partial(ask, returns, items)
        if returns and any(self.ways.may(name, "LIST RETURN") for name in extended):
            ways["LIST RETURN"] = partial(ask, returns)
        return await self.ways.first(ways, ask)

    def _read_list(self, responses: Iterable[Response]) -> tuple[dict[str, MailboxEntry], dict[str, MailboxStatus]]:
        found = [r for r in responses if isinstance(r, ListItem | StatusResponse)]
        names = decode_mailbox_names([response.name for response in found], utf8=self._dialect.utf8)
        entries: dict[str, MailboxEntry] = {}
        counts: dict[str, MailboxStatus] = {}
        for response in found:
            name = names[response.name]
            if isinstance(response, ListItem):
                entries[name] = MailboxEntry(name, response.delimiter, response.attributes)
            else:
                counts[name] = MailboxStatus.from_items(name, response.values)
        return entries, counts

    def _offered_items(self, items: Sequence[str]) -> Sequence[str]:
        return [item for item in items if self._may_ask_for(item)] or ["MESSAGES"]

    def _may_ask_for(self, item: str) -> bool:
        needed = _STATUS_NEEDS.get(item)
        return needed is None or self.ways.may(needed, "STATUS (more)")

    async def _count(self, mailboxes: Sequence[str], items: Sequence[str]) -> _Counts:
        """STATUS of several mailboxes; where one is refused, of that one without what not every server can tell."""
        counts = await self._count_once(mailboxes, items)
        plain = [item for item in items if item not in _STATUS_NEEDS] or ["MESSAGES"]
        again = [name for name, error in counts.refused.items() if may_be_the_way(error)]
        if not again or len(plain) == len(items):
            return counts
        more = await self._count_once(again, plain)
        if more.found and not counts.found:
            self.ways.refused.add("STATUS (more)")
        refused = {
            name: more.refused.get(name, error) for name, error in counts.refused.items() if name not in more.found
        }
        return _Counts(counts.found | more.found, refused)

    async def _count_once(self, mailboxes: Sequence[str], items: Sequence[str]) -> _Counts:
        """Ask them all, several at a time; a refusal is that of its mailbox, unless the server asks for less."""
        waiting = deque(mailboxes)
        flight: deque[tuple[str, Command]] = deque()
        counts = _Counts()
        answered: dict[str, Sequence[StatusResponse]] = {}
        stop: CommandError | None = None
        while flight or (waiting and stop is None):
            while waiting and stop is None and len(flight) < MAX_IN_FLIGHT:
                name = waiting.popleft()
                command = Command.of(status(name, items, self._dialect), company=Company.STATUS)
                self.plane.submit(command)
                flight.append((name, command))
            name, command = flight.popleft()
            try:
                tagged = await asyncio.shield(command.finished)
                responses = await self._responses(command)
            except asyncio.CancelledError:
                self.abort(ConnectionLost("STATUS was cancelled"))
                raise
            finally:
                command.let_go()
            self._measure(command)
            if tagged.status == "OK":
                answered[name] = [r for r in responses if isinstance(r, StatusResponse)]
                continue
            error = to_error(command.name, tagged)
            if isinstance(error, CommandNo | CommandBad):
                counts.refused[name] = error
            else:
                stop = error
        if stop is not None:
            raise stop
        counts.found = self._match(answered)
        return counts

    def _match(self, answered: dict[str, Sequence[StatusResponse]]) -> dict[str, MailboxStatus]:
        """Whose an answer is."""
        names = decode_mailbox_names(
            [response.name for responses in answered.values() for response in responses], utf8=self._dialect.utf8
        )
        found: dict[str, MailboxStatus] = {}
        for asked, responses in answered.items():
            for response in responses:
                name = names[response.name]
                name = name if name in answered else asked
                if name == asked or name not in found:
                    found[name] = MailboxStatus.from_items(name, response.values)
        return found


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", str(name))


def _has_inbox(responses: Iterable[Response]) -> bool:
    return any(isinstance(r, ListItem) and r.name.upper() == b"INBOX" for r in responses)
