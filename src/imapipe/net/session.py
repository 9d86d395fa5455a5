"""The state of one connection as the server tells it: capabilities, login, the selected mailbox.

The data plane calls it for every command sent, every untagged response and every tagged reply, also for those
of a user's own commands on a leased connection. So nobody else keeps a copy that could differ.

Invariants:

- While SELECT or EXAMINE is under way, what is heard belongs to the new mailbox, unless `[CLOSED]` says that it was
  about the old one. When it is refused, no mailbox is selected (RFC 9051 §6.3.2).
- Capabilities are forgotten after login unless the server tells them with it.
- Behind the OK of STARTTLS nothing is believed that was said before it: what is offered or enabled, alerts.
- `unknown_commands` is raised by anything whose effect on this state we do not know.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from imapipe.errors import MAX_TEXT, ProtocolError
from imapipe.net.command import Command
from imapipe.runtime.defect import DEFECTS, tell_defect
from imapipe.wire.command.encoder import Piece
from imapipe.wire.response.literal import Literal
from imapipe.wire.response.response import (
    Capability,
    Code,
    Enabled,
    Exists,
    Expunge,
    Flags,
    Response,
    Status,
    Tagged,
    Vanished,
    parse_response,
)
from imapipe.wire.uid_set import UidSet

# Commands that leave the session as it is, or whose effect is followed here.
_FOLLOWED = frozenset(
    """APPEND AUTHENTICATE CAPABILITY CHECK CLOSE COMPRESS COPY CREATE DELETE ENABLE EXAMINE EXPUNGE FETCH GETQUOTA
    GETQUOTAROOT ID IDLE LIST LOGIN LOGOUT LSUB MOVE MYRIGHTS NAMESPACE NOOP RENAME SEARCH SELECT SORT STARTTLS STATUS
    STORE SUBSCRIBE THREAD UIDBATCHES UNSELECT UNSUBSCRIBE""".split()
)

# A SEARCH answer of megabytes, or the FETCH data of a user's own command, is not for us.
_ABOUT_STATE = re.compile(
    rb"[\0 ]*(?:\* *)?(?:OK|NO|BAD|BYE|PREAUTH|\[|CAPABILITY|ENABLED|FLAGS|VANISHED(?! *\(EARLIER)"
    rb"|\d+ +(?:EXISTS|EXPUNGE))",
    re.IGNORECASE,
)

_EXPUNGED = re.compile(rb"\* \d{1,9} EXPUNGE")

# No state needs more words than this, but for a list of messages, which is read elsewhere (`net.long_responses`).
_STATE_BYTES = 64 * 1024
# What is enabled adds up, and there are not so many extensions.
_MAX_ENABLED = 1000

# Commands that take RETURN (SAVE).
_SAVERS = frozenset(("SEARCH", "SORT", "THREAD"))


@dataclass(slots=True)
class SelectedMailbox:
    """What the server says of the selected mailbox; kept up to date while it is selected.

    Attributes:
        name: Its name.
        read_only: Opened with EXAMINE, or the server says READ-ONLY.
        exists: The number of messages.
        uidvalidity: UIDVALIDITY; 0 where the server gave none.
        uidnext: The UID the next message will have, or None.
        highest_modseq: HIGHESTMODSEQ (RFC 7162), or None.
        flags: The flags in use.
        permanent_flags: The flags that can be changed; None where the server does not say.
        expunged: How many messages were expunged since it was selected.
        mailbox_id: MAILBOXID (RFC 8474), or "".
        condstore: HIGHESTMODSEQ was asked for when it was opened.
        saved: What `$` stands for (RFC 5182), where that is known; some of it may be expunged.
    """

    name: str
    read_only: bool = True
    exists: int = 0
    uidvalidity: int = 0
    uidnext: int | None = None
    highest_modseq: int | None = None
    flags: frozenset[str] = frozenset()
    permanent_flags: frozenset[str] | None = None
    expunged: int = 0
    mailbox_id: str = ""
    condstore: bool = False
    saved: UidSet | None = None


@dataclass(slots=True)
class Session:
    """Follows one connection (`net.dataplane.Owner`).

    Attributes:
        capabilities: Upper-case names, empty when they have to be asked for again.
        enabled: What ENABLE switched on.
        logged_in: Whether the server knows who we are.
        logged_out: Whether it said goodbye to LOGOUT.
        selected: The selected mailbox, or None.
        alerts: Texts of `[ALERT]`, which a person should see (at most 20).
        unknown_commands: How many commands were sent whose effect is not followed here.
        greeted: Whether the greeting was read.
        error: Why the connection ended, or None while it lives.
        lost_listeners: Called when the connection has ended.
        on_status: Called for every status, tagged or not, with its kind, code and text.
        on_news: Called with every untagged response that is no answer to a FETCH in flight, before it is read.
    """

    capabilities: frozenset[str] = frozenset()
    enabled: frozenset[str] = frozenset()
    logged_in: bool = False
    logged_out: bool = False
    greeted: bool = False
    selected: SelectedMailbox | None = None
    alerts: list[str] = field(default_factory=list)
    unknown_commands: int = 0
    lost_listeners: list[Callable[[BaseException], None]] = field(default_factory=list)
    on_status: Callable[[str, Code | None, str], None] | None = None
    on_news: Callable[[bytes], None] | None = None
    error: BaseException | None = None
    _selecting: SelectedMailbox | None = None
    _capabilities_told: bool = False

    @property
    def is_opening(self) -> bool:
        """Whether a mailbox is being opened now."""
        return self._selecting is not None

    @property
    def messages(self) -> int:
        """How many messages the selected mailbox holds; 0 where none is."""
        return self.selected.exists if self.selected is not None else 0

    def sending(self, command: Command) -> None:
        """A command is about to be written."""
        name = _verb(command.name)
        if name not in _FOLLOWED:
            self.unknown_commands += 1
        if name in ("SELECT", "EXAMINE"):
            self._selecting = SelectedMailbox(command.mailbox, read_only=name == "EXAMINE")
        elif self.selected is not None and name in _SAVERS and any(map(_saves, command.pieces)):
            # Even when it is refused, `$` is not what it was (RFC 5182 §2.1).
            self.selected.saved = None
        self._capabilities_told = False

    def heard(self, text: bytes, literals: tuple[Literal, ...], response: Response | None = None) -> None:
        """An untagged response; those that say nothing of the state are not even parsed."""
        if self.on_news is not None:
            self.on_news(text)
        if response is None:
            if _EXPUNGED.fullmatch(text) is not None:
                # A MOVE tells one for each message.
                self._heard_expunged(1)
                return
            if not _ABOUT_STATE.match(text) or len(text) > _STATE_BYTES:
                return
            try:
                response = parse_response(text, literals)
            except ProtocolError:
                # It costs nobody a message; the command it belongs to reports it when it reads its answers.
                return
        mailbox = self._selecting or self.selected
        match response:
            case Status():
                self._heard_status(response.kind, response.code, response.text)
            case Capability():
                self.capabilities = response.names
                self._capabilities_told = True
            case Enabled():
                if len(self.enabled) < _MAX_ENABLED:
                    self.enabled |= response.names
            case Exists() if mailbox is not None:
                mailbox.exists = response.count
            case Expunge():
                self._heard_expunged(1)
            case Vanished() if mailbox is not None:
                if not response.earlier:
                    # The set may name UIDs that nobody ever had.
                    self._heard_expunged(min(len(response.uids), mailbox.exists))
            case Flags() if mailbox is not None:
                mailbox.flags = frozenset(response.flags)
            case _:
                return

    def _heard_expunged(self, count: int) -> None:
        mailbox = self._selecting or self.selected
        if mailbox is not None:
            mailbox.exists = max(0, mailbox.exists - count)
            mailbox.expunged += count

    def completed(self, command: Command, tagged: Tagged) -> None:
        """A tagged reply."""
        name = _verb(command.name)
        ok = tagged.status == "OK"
        if ok and name in ("LOGIN", "AUTHENTICATE"):
            self.logged_in = True
            if not self._capabilities_told:
                self.capabilities = frozenset()
        self._heard_status(tagged.status, tagged.code, tagged.text)
        if ok and name == "STARTTLS":
            self._forget()
        if name in ("SELECT", "EXAMINE"):
            self.selected = self._selecting if ok else None
            self._selecting = None
        elif ok and name in ("CLOSE", "UNSELECT"):
            self.selected = None
        elif ok and name == "LOGOUT":
            self.logged_out = True
            self.selected = None

    def _forget(self) -> None:
        """What was said before the handshake could be anybody's (RFC 9051 §6.2.1)."""
        self.capabilities = self.enabled = frozenset()
        self.alerts.clear()
        self.logged_in = self._capabilities_told = False
        self.selected = self._selecting = None

    def lost(self, error: BaseException) -> None:
        """The connection has ended."""
        self.error = error
        for listener in tuple(self.lost_listeners):
            try:
                listener(error)
            except DEFECTS as defect:
                tell_defect("a listener to the end of a connection failed", defect)

    def _heard_status(self, kind: str, code: Code | None, text: str) -> None:
        if self.on_status is not None:
            try:
                self.on_status(kind, code, text)
            except DEFECTS as error:
                tell_defect("a listener to what a server says failed", error)
        if code is None:
            return
        mailbox = self._selecting or self.selected
        if code.name == "CAPABILITY":
            self.capabilities = code.capabilities or frozenset()
            self._capabilities_told = True
        elif code.name == "ALERT":
            self.alerts.append(text[:MAX_TEXT])
            del self.alerts[:-20]
        elif mailbox is None:
            return
        elif code.name == "CLOSED" and self._selecting is not None:
            # What came before it was about the mailbox that was left (RFC 9051 §7.1).
            self._selecting = SelectedMailbox(mailbox.name, read_only=mailbox.read_only)
        elif code.name == "READ-ONLY":
            mailbox.read_only = True
        elif code.name == "UIDVALIDITY":
            mailbox.uidvalidity = code.uidvalidity or 0
        elif code.name == "UIDNEXT":
            mailbox.uidnext = code.uidnext
        elif code.name == "HIGHESTMODSEQ":
            mailbox.highest_modseq = code.highest_modseq
        elif code.name == "PERMANENTFLAGS":
            mailbox.permanent_flags = code.permanent_flags
        elif code.name == "MAILBOXID":
            mailbox.mailbox_id = code.mailbox_id or ""


def _saves(piece: Piece) -> bool:
    return isinstance(piece, bytes) and b"SAVE" in piece.upper()


def _verb(name: str) -> str:
    return name.removeprefix("UID ").partition(" ")[0].upper()
