"""All mailboxes of the account, by name; names on the wire (RFC 3501 5.1.3)."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping

from .mailbox import Mailbox

SEPARATOR = "/"

_ENCODED = re.compile(rb"&([^-]*)-")
_RUN = re.compile(r"[^\x20-\x7e]+|&")


def encode_mailbox_name(name: str) -> bytes:
    """A name in modified UTF-7."""

    def encode(match: re.Match[str]) -> str:
        text = match.group()
        if text == "&":
            return "&-"
        data = base64.b64encode(text.encode("utf-16-be")).rstrip(b"=").replace(b"/", b",")
        return "&" + data.decode("ascii") + "-"

    return _RUN.sub(encode, name).encode("ascii")


def decode_mailbox_name(wire: bytes) -> str:
    """A name from modified UTF-7; 8-bit is taken for UTF-8, a broken run stays as it is."""

    def decode(match: re.Match[bytes]) -> bytes:
        run = match.group(1)
        if not run:
            return b"&"
        try:
            data = base64.b64decode(run.replace(b",", b"/") + b"=" * (-len(run) % 4), validate=True)
            return data.decode("utf-16-be").encode("utf-8")
        except ValueError:
            return match.group()

    return _ENCODED.sub(decode, wire).decode("utf-8", "replace")


class Mailboxes(Mapping[str, Mailbox]):
    """The mailboxes by name. ``INBOX`` is found in any case."""

    def __init__(self) -> None:
        self._boxes: dict[str, Mailbox] = {}
        self._next_uidvalidity = 1_600_000_000

    def __getitem__(self, name: str) -> Mailbox:
        return self._boxes[canonical(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._boxes)

    def __len__(self) -> int:
        return len(self._boxes)

    def add(self, name: str, mailbox: Mailbox | None = None) -> Mailbox:
        """Add a mailbox, an empty one when none is given.

        Raises:
            ValueError: There is one of that name.
        """
        name = canonical(name)
        if name in self._boxes:
            raise ValueError(f"mailbox {name!r} exists")
        self._next_uidvalidity += 1
        box = mailbox if mailbox is not None else Mailbox(uidvalidity=self._next_uidvalidity)
        box.mailbox_id = f"F{self._next_uidvalidity}"
        self._boxes[name] = box
        return box

    def remove(self, name: str) -> Mailbox:
        """Take a mailbox out; sessions that have it selected get BYE.

        Raises:
            KeyError: There is none of that name.
        """
        box = self._boxes.pop(canonical(name))
        box.close_sessions("Mailbox was deleted")
        return box

    def rename(self, old: str, new: str) -> None:
        """Rename a mailbox and all below it.

        Raises:
            KeyError: There is none of the old name.
            ValueError: There is one of the new name.
        """
        old, new = canonical(old), canonical(new)
        if old not in self._boxes:
            raise KeyError(old)
        if new in self._boxes:
            raise ValueError(f"mailbox {new!r} exists")
        below = old + SEPARATOR
        self._boxes = {
            new + name[len(old) :] if name == old or name.startswith(below) else name: box
            for name, box in self._boxes.items()
        }

    def has_children(self, name: str) -> bool:
        """Whether there is a mailbox below this one."""
        return any(other.startswith(name + SEPARATOR) for other in self._boxes)

    def matching(self, reference: str, pattern: str) -> list[str]:
        """Names that a LIST pattern matches, sorted, INBOX first."""
        whole = canonical(reference + pattern)
        parts = (".*" if char == "*" else f"[^{SEPARATOR}]*" if char == "%" else re.escape(char) for char in whole)
        compiled = re.compile("".join(parts), re.DOTALL)
        found = [name for name in self._boxes if compiled.fullmatch(name)]
        return sorted(found, key=lambda name: (name != "INBOX", name))


def canonical(name: str) -> str:
    """``INBOX`` in upper case, every other name as it is."""
    head, separator, tail = name.partition(SEPARATOR)
    return "INBOX" + separator + tail if head.upper() == "INBOX" else name
