"""What a session is told without asking, once it has said NOTIFY (RFC 5465).

Invariant: nothing is written by an edit itself; edits are noted, and told between two commands or in IDLE.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .fetch_items import FetchItem, RenderOptions, compile_item
from .host import Host
from .link import Link
from .mailbox import Change, Mailbox
from .mailboxes import SEPARATOR
from .status import status_line
from .stored import StoredMessage
from .view import MailboxView

MESSAGE_EVENTS = frozenset({"MessageNew", "MessageExpunge", "FlagChange"})
NAME_EVENTS = frozenset({"MailboxName", "SubscriptionChange"})

_EVENT_OF: dict[Change, str] = {
    "new": "MessageNew",
    "expunge": "MessageExpunge",
    "flags": "FlagChange",
    "labels": "FlagChange",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One event group of NOTIFY SET.

    Attributes:
        applies: Whether it is about a mailbox of that name.
        events: The events that are told, none for NONE.
        items: What is told of new messages; only for the selected mailbox.
        at_once: Whether EXPUNGE is told at once, not only with the next command.
    """

    applies: Callable[[str], bool]
    events: frozenset[str]
    items: tuple[FetchItem, ...] = ()
    at_once: bool = True


class Watcher(MailboxView):
    """The view of a session that may also watch mailboxes it has not selected."""

    def __init__(self, server: Host, link: Link) -> None:
        super().__init__(server, link)
        self._rules: list[Rule] = []
        self._selected_rule: Rule | None = None
        self._status_due: dict[str, None] = {}
        self._lines_due: list[bytes] = []

    def watch(self, selected: Rule | None, rules: Sequence[Rule]) -> None:
        """Tell of these events from now on.

        Args:
            selected: What is told of the selected mailbox, None for what is told without NOTIFY.
            rules: For the others: the first one that applies to a name decides.
        """
        self.unwatch()
        self._selected_rule, self._rules = selected, list(rules)
        if rules:
            self.server.mailboxes.watch(self)

    def unwatch(self) -> None:
        """Tell of no events; harmless when none are told of."""
        self.server.mailboxes.unwatch(self)
        self._selected_rule = None
        self._rules.clear()
        self._status_due.clear()
        self._lines_due.clear()

    def write_status_of_watched(self) -> None:
        """Write the STATUS of every watched mailbox that is not selected."""
        for name, box in self.server.mailboxes.items():
            if box is not self.mailbox and self._events(name) & MESSAGE_EVENTS:
                items = ["MESSAGES", "UIDNEXT", "UIDVALIDITY", "UNSEEN"]
                self.untagged(status_line(self, name, box, [*items, *self._modseq_item]))

    @property
    def _modseq_item(self) -> list[str]:
        return ["HIGHESTMODSEQ"] if "CONDSTORE" in self.enabled else []

    def _events(self, name: str) -> frozenset[str]:
        return next((rule.events for rule in self._rules if rule.applies(name)), frozenset())

    # What the account tells.

    def on_change(self, name: str, mailbox: Mailbox, change: Change, messages: Sequence[StoredMessage]) -> None:
        """Messages of a mailbox have changed."""
        if mailbox is not self.mailbox and _EVENT_OF[change] in self._events(name):
            self._status_due[name] = None
            self.link.wake()

    def on_name(self, name: str, old: str, mailbox: Mailbox | None) -> None:
        """A mailbox came, was renamed, or went."""
        if "MailboxName" not in self._events(name) | self._events(old or name):
            return
        attributes = "" if mailbox is not None else "\\NonExistent"
        line = f'LIST ({attributes}) "{SEPARATOR}" '.encode("ascii") + self.write_name(name)
        if old:
            line += b' ("OLDNAME" (' + self.write_name(old) + b"))"
        self._lines_due.append(line)
        self.link.wake()

    def on_subscription(self, name: str, subscribed: bool) -> None:
        """A name was subscribed to, or no longer is."""
        if "SubscriptionChange" in self._events(name):
            attributes = "\\Subscribed" if subscribed else ""
            line = f'LIST ({attributes}) "{SEPARATOR}" '.encode("ascii") + self.write_name(name)
            self._lines_due.append(line)
            self.link.wake()

    # What the client is told.

    def write_watched(self) -> None:
        """Write what has happened in mailboxes that are not selected."""
        lines, self._lines_due = self._lines_due, []
        for line in lines:
            self.untagged(line)
        names, self._status_due = self._status_due, {}
        for name in names:
            box = self.server.mailboxes.get(name)
            if box is not None and box is not self.mailbox:
                items = ["MESSAGES", "UIDNEXT", "UIDVALIDITY", "UNSEEN"]
                self.untagged(status_line(self, name, box, [*items, *self._modseq_item]))

    async def tell_watched(self) -> None:
        """Between two commands: send what NOTIFY is to tell at once."""
        self.write_watched()
        if self._selected_rule is not None:
            self.write_updates(self._selected_rule.at_once)
        await self.link.flush()

    def on_told_new(self, uids: Sequence[int]) -> None:
        """After EXISTS, what NOTIFY asked for of new messages."""
        rule, box = self._selected_rule, self.mailbox
        if rule is None or not rule.items or box is None:
            return
        options = RenderOptions(self.server.strings, self.utf8)
        renderers = [compile_item(item, options) for item in rule.items]
        for uid in uids:
            message = box.get(uid)
            if message is not None:
                values = b" ".join(render(message) for render in renderers)
                self.untagged(b"%d FETCH (%s)" % (self.number_of(uid), values))
                self.flags_told(uid)
