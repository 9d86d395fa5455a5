"""Response codes: the bracketed facts in a status response (RFC 9051 §7.1, production `resp-text-code`).

A `Code` keeps its arguments as they came; a property gives them parsed. Every property is None when the code has
another name, and when its arguments make no sense or are larger than the RFCs allow: a response code is advice, and
bad advice is no advice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from imapipe.errors import ProtocolError
from imapipe.wire.response.limits import LONG_BYTES
from imapipe.wire.response.token import QUOTED, Cursor, split_words
from imapipe.wire.sequence_set import parse_sequence_set
from imapipe.wire.uid_set import UidSet

MAX_NUMBER: Final = 2**32 - 1
"""`number` (RFC 9051 §9): UIDNEXT and all that counts messages."""

MAX_NUMBER64: Final = 2**63 - 1
"""`number64`, and `mod-sequence-value` (RFC 7162 §7)."""

# The arguments may hold strings and lists with brackets in them; what is broken ends at the first bracket.
_ARGUMENTS = rb'(?:[^\]"(]++|' + QUOTED + rb'|\((?:[^()"]++|' + QUOTED + rb")*+\))*+"
_CODE = re.compile(rb"\[ *+([^\] ]++)(?: ++(" + _ARGUMENTS + rb"))?\] *+")
_ROUGH_CODE = re.compile(rb"\[ *+([^\] ]++)(?: ++([^\]]*+))?\] *+")
# Codes with sets of UIDs, which may be long for good reason.
_LONG_CODE = re.compile(rb"\[ *+(?:COPYUID|MODIFIED|APPENDUID) ++[0-9:, ]*+\]", re.IGNORECASE)


class CopyUid(NamedTuple):
    """What a COPY or MOVE made (RFC 4315 §3).

    Attributes:
        uidvalidity: UIDVALIDITY of the mailbox that was copied into.
        source: The UIDs that were copied.
        destination: The UIDs of the copies.
        arguments: Both sets as the server wrote them: the order pairs them.
    """

    uidvalidity: int
    source: UidSet
    destination: UidSet
    arguments: tuple[bytes, bytes]

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Each copied UID with the UID of its copy, in the order of the server."""
        yield from zip(*map(_in_order, self.arguments), strict=False)


class AppendUid(NamedTuple):
    """Where an APPEND put its messages (RFC 4315 §3); several UIDs with MULTIAPPEND."""

    uidvalidity: int
    uids: UidSet


class MessageLimit(NamedTuple):
    """An answer that is not complete (RFC 9738 §3.1).

    Attributes:
        limit: The number of messages that one command may process.
        uid: The lowest UID that was processed: go on below it. None when the server does not say.
    """

    limit: int
    uid: int | None

    def left_out(self, uids: UidSet) -> UidSet:
        """Those of the messages of a command that it did not come to.

        Raises:
            ProtocolError: It came to none, or does not say how far.
        """
        if self.uid is None:
            if len(uids) <= self.limit:
                return UidSet()
            raise ProtocolError("MESSAGELIMIT: the server does not say how far a command got")
        return left_out(uids, self.uid)


def left_out(uids: UidSet, below: int) -> UidSet:
    """Those of some messages that a command did not come to, which ended at a UID (RFC 9738 §3.2).

    Raises:
        ProtocolError: It came to none.
    """
    if below <= 1:
        return UidSet()
    rest = uids & UidSet.from_ranges([(1, below - 1)])
    if len(rest) == len(uids):
        raise ProtocolError("MESSAGELIMIT: a command does not get any further")
    return rest


class InProgress(NamedTuple):
    """How far a long command is (RFC 9585 §4); what the server does not say is None."""

    tag: str | None
    done: int | None
    total: int | None


class Code(NamedTuple):
    """A response code.

    Attributes:
        name: Its name in capitals, such as `UIDVALIDITY`, `ALERT` or `THROTTLED`.
        arguments: What stands behind the name, as it came.
    """

    name: str
    arguments: bytes = b""

    @property
    def is_alert(self) -> bool:
        """Whether the text must be shown to a person."""
        return self.name == "ALERT"

    @property
    def is_throttled(self) -> bool:
        """Whether the server slows the client down (Gmail says it in the text instead)."""
        return self.name in ("THROTTLED", "OVERQUOTA", "LIMIT")

    @property
    def no_modseq(self) -> bool:
        """Whether the mailbox keeps no mod-sequences (RFC 7162 §3.1.2.2)."""
        return self.name == "NOMODSEQ"

    @property
    def uidvalidity(self) -> int | None:
        """UIDVALIDITY of the mailbox.

        It only tells mailboxes apart, so one of milliseconds (Dynadot, GreenMail), which takes more than the 32 bits of
        the RFC, is as good as any.
        """
        return self._number("UIDVALIDITY", MAX_NUMBER64)

    @property
    def uidnext(self) -> int | None:
        """UIDNEXT: the UID that the next message will get at least."""
        return self._number("UIDNEXT") or None

    @property
    def unseen(self) -> int | None:
        """UNSEEN: the sequence number of the first message not seen (RFC 3501)."""
        return self._number("UNSEEN") or None

    @property
    def highest_modseq(self) -> int | None:
        """HIGHESTMODSEQ of the mailbox (RFC 7162 §3.1.2.1)."""
        return self._number("HIGHESTMODSEQ", MAX_NUMBER64)

    @property
    def permanent_flags(self) -> frozenset[str] | None:
        r"""PERMANENTFLAGS: the flags that can be changed for good; `\*` means new keywords too."""
        if self.name != "PERMANENTFLAGS":
            return None
        try:
            return frozenset(flag.decode("utf-8", "replace") for flag in Cursor(self.arguments).atoms())
        except ProtocolError:
            return None

    @property
    def capabilities(self) -> frozenset[str] | None:
        """CAPABILITY: the names in capitals; none where there are more than anybody has."""
        if self.name != "CAPABILITY":
            return None
        try:
            return frozenset([word.decode("ascii", "replace").upper() for word in split_words(self.arguments)])
        except ProtocolError:
            return frozenset()

    @property
    def copy_uid(self) -> CopyUid | None:
        """COPYUID: which UIDs became which."""
        pieces = self.arguments.split(None, 3)
        if self.name != "COPYUID" or len(pieces) != 3 or not _is_number(pieces[0], MAX_NUMBER64):
            return None
        try:
            return CopyUid(int(pieces[0]), UidSet.parse(pieces[1]), UidSet.parse(pieces[2]), (pieces[1], pieces[2]))
        except ValueError:
            return None

    @property
    def append_uid(self) -> AppendUid | None:
        """APPENDUID: where the message went."""
        pieces = self.arguments.split(None, 2)
        if self.name != "APPENDUID" or len(pieces) != 2 or not _is_number(pieces[0], MAX_NUMBER64):
            return None
        try:
            return AppendUid(int(pieces[0]), UidSet.parse(pieces[1]))
        except ValueError:
            return None

    @property
    def message_limit(self) -> MessageLimit | None:
        """MESSAGELIMIT: the command stopped early."""
        numbers = self.arguments.split(None, 2)
        if self.name != "MESSAGELIMIT" or not numbers or not all(map(_is_number, numbers)):
            return None
        return MessageLimit(int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else None)

    @property
    def modified(self) -> UidSet | None:
        """MODIFIED: what a conditional STORE left alone (RFC 7162 §3.1.3)."""
        if self.name != "MODIFIED":
            return None
        try:
            return UidSet.parse(self.arguments.strip())
        except ValueError:
            return None

    @property
    def in_progress(self) -> InProgress | None:
        """INPROGRESS: a sign of life of a long command."""
        if self.name != "INPROGRESS":
            return None
        try:
            value = Cursor(self.arguments).parse_value() if self.arguments else None
        except ProtocolError:
            return None
        tag, done, total = value if isinstance(value, list) and len(value) == 3 else (None, None, None)
        return InProgress(
            tag.decode("ascii", "replace") if isinstance(tag, bytes) else None,
            int(done) if isinstance(done, bytes) and _is_number(done) else None,
            int(total) if isinstance(total, bytes) and _is_number(total) else None,
        )

    @property
    def mailbox_id(self) -> str | None:
        """MAILBOXID (RFC 8474 §4.1): stays with the mailbox when it is renamed."""
        value = self.arguments.strip(b"() ")
        return value.decode("ascii", "replace") if self.name == "MAILBOXID" and value else None

    @property
    def bad_charset(self) -> tuple[str, ...] | None:
        """BADCHARSET: the charsets that the server knows, as far as it says."""
        if self.name != "BADCHARSET":
            return None
        try:
            charsets = Cursor(self.arguments).atoms() if self.arguments else []
        except ProtocolError:
            return ()
        return tuple(charset.decode("ascii", "replace") for charset in charsets)

    def _number(self, name: str, most: int = MAX_NUMBER) -> int | None:
        return int(self.arguments) if self.name == name and _is_number(self.arguments, most) else None


def parse_response_text(text: bytes) -> tuple[Code | None, str]:
    """Split `resp-text` into its code, if it begins with one, and the text for people.

    The text may be missing after a code; RFC 3501 asked for it, and not every server obeys.
    """
    match = (_CODE.match(text) or _ROUGH_CODE.match(text)) if text[:1] == b"[" else None
    if match is None:
        return None, text.decode("utf-8", "replace")
    name = match[1].decode("ascii", "replace").upper()
    return Code(name, (match[2] or b"").rstrip()), text[match.end() :].decode("utf-8", "replace")


def shorten_text(text: bytes, offset: int) -> bytes:
    """A status of a length that is read at once: sets of UIDs in its code stay whole, and words are cut.

    Nobody reads so many words, and no other code is so long.

    Args:
        text: The status.
        offset: Where its `resp-text` begins.
    """
    code = _LONG_CODE.match(text, offset)
    return text[: (offset if code is None else code.end()) + LONG_BYTES]


def _is_number(text: bytes, most: int = MAX_NUMBER) -> bool:
    return text.isdigit() and len(text) <= 20 and int(text) <= most


def _in_order(text: bytes) -> Iterator[int]:
    """The UIDs of a set in the order of its text."""
    for first, last in zip(*parse_sequence_set(text, None), strict=True):
        yield from range(first, last + 1) if first <= last else range(first, last - 1, -1)
