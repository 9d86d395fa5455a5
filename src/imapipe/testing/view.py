"""What a session sees of its selected mailbox: message numbers, and the changes it has not been told yet.

Invariant: message numbers are positions in ``view``, which changes only where EXPUNGE (or VANISHED) and
EXISTS are written.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence

from .arguments import BadCommand
from .host import Host
from .link import Link
from .mailbox import Mailbox
from .mailboxes import encode_mailbox_name
from .ranges import IndexRanges, format_uids, resolve_set
from .stored import SYSTEM_FLAGS
from .structure import nstring


class MailboxView:
    """The selected mailbox of a session, and what was enabled."""

    def __init__(self, server: Host, link: Link) -> None:
        self.server = server
        self.link = link
        self.mailbox: Mailbox | None = None
        self.mailbox_name = ""
        self.read_only = True
        self.view: Sequence[int] = array("I")
        self.enabled: set[str] = set()
        self.saved: array[int] = array("I")
        self._visible_from = 0
        self._visible_to = 0xFFFFFFFF
        self._known_next = 1
        self._expunged: dict[int, frozenset[str]] = {}
        self._told_keywords = 0
        self._flagged: dict[int, None] = {}
        self._bye = ""

    def has(self, extension: str) -> bool:
        """Whether the server offers an extension."""
        return extension in self.server.extensions

    @property
    def uid_only(self) -> bool:
        """Whether UIDONLY is enabled (RFC 9586)."""
        return "UIDONLY" in self.enabled

    @property
    def utf8(self) -> bool:
        """Whether UTF8=ACCEPT is enabled (RFC 6855)."""
        return "UTF8=ACCEPT" in self.enabled

    def write_name(self, name: str) -> bytes:
        """A mailbox name as the session wants it."""
        if self.utf8:
            return nstring(name.encode("utf-8"), "quoted", utf8=True)
        return nstring(encode_mailbox_name(name), "literal" if self.server.strings == "literal" else "quoted")

    def untagged(self, text: bytes) -> None:
        """Write ``* text``."""
        self.link.write(b"* " + text + b"\r\n")

    # What the mailbox tells.

    def on_expunge(self, gone: Mapping[int, frozenset[str]]) -> None:
        """Messages are gone: told when the protocol allows it."""
        self._expunged.update(gone)
        self.link.wake()

    def on_flags(self, uids: Sequence[int]) -> None:
        """Flags have changed: told with the next reply."""
        self._flagged.update(dict.fromkeys(uids))
        self.link.wake()

    def on_append(self) -> None:
        """Messages were added: told with the next reply."""
        self.link.wake()

    def on_close(self, text: str) -> None:
        """The mailbox is no longer what was selected: BYE at the next chance."""
        self._bye = text
        self.link.wake()

    # Selecting and numbering.

    @property
    def selected(self) -> Mailbox:
        """The selected mailbox.

        Raises:
            BadCommand: There is none.
        """
        if self.mailbox is None:
            raise BadCommand("No mailbox selected")
        return self.mailbox

    def enter_mailbox(self, name: str, mailbox: Mailbox, read_only: bool) -> None:
        """Select a mailbox; its messages as of now are the view."""
        self.leave_mailbox()
        self.mailbox, self.mailbox_name, self.read_only = mailbox, name, read_only
        mailbox.subscribe_listener(self)
        self.show_all()

    def show_all(self) -> None:
        """Take the mailbox as it is now for the view, under the server's limit of visible messages."""
        uids = self.selected.uids
        limit = self.server.visible_limit
        self._visible_from, self._visible_to = 0, 0xFFFFFFFF
        if limit is not None and not self.uid_only and len(uids) > limit:
            if self.server.visible_side == "newest":
                self._visible_from = uids[-limit]
            else:
                self._visible_to = uids[limit - 1]
        self.view = self._visible(uids)
        self._known_next = self.selected.uidnext
        self._told_keywords = len(self.selected.keywords)
        self._expunged.clear()
        self._flagged.clear()

    def leave_mailbox(self) -> None:
        """Unselect."""
        if self.mailbox is not None:
            self.mailbox.unsubscribe_listener(self)
        self.mailbox = None
        self.view = array("I")
        self.saved = array("I")
        self._expunged.clear()
        self._flagged.clear()

    def _visible(self, uids: Sequence[int]) -> Sequence[int]:
        if self._visible_from == 0 and self._visible_to == 0xFFFFFFFF:
            return uids
        return uids[bisect_left(uids, self._visible_from) : bisect_right(uids, self._visible_to)]

    def resolve(self, text: bytes, by_uid: bool) -> IndexRanges:
        """The messages a set names, as index ranges into the view.

        Raises:
            BadCommand: A number that is not there, a number where UIDs are required, or ``$`` not offered.
        """
        if not by_uid and self.uid_only:
            raise BadCommand("Message numbers cannot be used once UIDONLY is enabled", "UIDREQUIRED")
        if text == b"$":
            if not self.has("SEARCHRES"):
                raise BadCommand("Unknown message set $")
            text = format_uids(self.saved)
            return resolve_set(text, self.view, True) if text else []
        return resolve_set(text, self.view, by_uid)

    def number_of(self, uid: int) -> int:
        """Message number of a UID in the view, 0 when it is not there."""
        index = bisect_left(self.view, uid)
        return index + 1 if index < len(self.view) and self.view[index] == uid else 0

    def untold_flags(self, uid: int) -> frozenset[str] | None:
        """Flags that a message had which is gone and not told of, None when there is no such message."""
        return self._expunged.get(uid)

    def require_mod_sequences(self) -> None:
        """Find that the selected mailbox keeps mod-sequences.

        Raises:
            BadCommand: It does not (NOMODSEQ; RFC 7162 3.1.2.2).
        """
        if not self.selected.mod_sequences:
            raise BadCommand("The mailbox keeps no mod-sequences", "NOMODSEQ")

    def write_highest_modseq(self) -> None:
        """Write HIGHESTMODSEQ, or NOMODSEQ, of the selected mailbox where CONDSTORE is offered."""
        if not self.has("CONDSTORE"):
            return
        if self.selected.mod_sequences:
            self.untagged(b"OK [HIGHESTMODSEQ %d] Highest" % self.selected.highest_modseq)
        else:
            self.untagged(b"OK [NOMODSEQ] No permanent mod-sequences")

    def write_flag_names(self) -> None:
        """Write FLAGS and PERMANENTFLAGS of the selected mailbox."""
        box = self.selected
        self._told_keywords = len(box.keywords)
        names = [*SYSTEM_FLAGS, *box.keywords]
        self.untagged(f"FLAGS ({' '.join(names)})".encode("latin-1"))
        lasting = [] if self.read_only else names
        if box.permanent_keywords is not None and lasting:
            lasting = [*SYSTEM_FLAGS, *sorted(box.permanent_keywords)]
        elif lasting:
            lasting = [*names, "\\*"]
        self.untagged(f"OK [PERMANENTFLAGS ({' '.join(lasting)})] Flags permitted".encode("latin-1"))

    def write_new_keywords(self) -> None:
        """Write FLAGS again if there are keywords that the client has not been told of."""
        if self.mailbox is not None and len(self.mailbox.keywords) > self._told_keywords:
            self.write_flag_names()

    def on_told_new(self, uids: Sequence[int]) -> None:
        """The client has just been told that these are there."""

    def flags_told(self, uid: int) -> None:
        """The client has just been told of this message's flags."""
        self._flagged.pop(uid, None)

    def write_updates(self, expunges: bool) -> None:
        """Tell what has changed in the selected mailbox."""
        box = self.mailbox
        if box is None:
            return
        if self._expunged and expunges:
            self._write_expunged()
            self.view = self._visible(box.uids)
        if box.uidnext > self._known_next:
            fresh = self._visible(box.uids[bisect_left(box.uids, self._known_next) :])
            self._known_next = box.uidnext
            if fresh:
                self._grow(box, fresh)
                self.untagged(b"%d EXISTS" % len(self.view))
                self.on_told_new(fresh)
        self.write_new_keywords()
        if self._flagged:
            self._write_flags(box)

    def _grow(self, box: Mailbox, fresh: Sequence[int]) -> None:
        if not self._expunged:
            self.view = self._visible(box.uids)
            return
        # Messages that are gone but not told of keep their numbers.
        grown = array("I", self.view)
        grown.extend(fresh)
        self.view = grown

    def _write_expunged(self) -> None:
        gone = sorted(uid for uid in self._expunged if self.number_of(uid))
        self._expunged.clear()
        if not gone:
            return
        if self.saved:
            lost = set(gone)
            self.saved = array("I", (uid for uid in self.saved if uid not in lost))
        if self.uid_only or "QRESYNC" in self.enabled:
            self.untagged(b"VANISHED " + format_uids(gone))
            return
        for already, uid in enumerate(gone):
            self.untagged(b"%d EXPUNGE" % (self.number_of(uid) - already))

    def _write_flags(self, box: Mailbox) -> None:
        changed, self._flagged = self._flagged, {}
        for uid in changed:
            message, number = box.get(uid), self.number_of(uid)
            if message is None or not number:
                continue
            modseq = b" MODSEQ (%d)" % message.modseq if "CONDSTORE" in self.enabled else b""
            if self.uid_only:
                self.untagged(b"%d UIDFETCH (FLAGS %s%s)" % (uid, message.flags_text, modseq))
            else:
                shown = b"UID %d " % uid if modseq else b""
                self.untagged(b"%d FETCH (%sFLAGS %s%s)" % (number, shown, message.flags_text, modseq))
