"""Where a message comes from, and names of files and folders for that.

Invariants:

- Two mailboxes never get one name: what a file system cannot hold is escaped, not replaced. Where a file system takes
  names for one that differ in case alone, two such mailboxes share a folder, and whoever writes there
  looks whose the file is that has a name already.
- No name leads out of the folder that it is put into, on any system.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, NamedTuple

from imapipe.middleware.base import Run

# Reserved on one system or another, what escapes begin with, and control characters.
_RESERVED: Final = re.compile('[\x00-\x1f\x7f<>:"/\\\\|?*%]|^[. ]|[. ]\\Z')
_DEVICE: Final = re.compile(r"\A(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?=\.|\Z)", re.IGNORECASE)
_MAX_BYTES: Final = 200


class Place(NamedTuple):
    """A mailbox of an account, as long as its UIDs mean the same messages."""

    account: str
    mailbox: str
    uidvalidity: int

    @classmethod
    def of(cls, run: Run) -> Place:
        """Where a run reads."""
        return cls(run.account, run.mailbox, run.uidvalidity)

    @property
    def tag(self) -> str:
        """Eight characters that tell mailboxes of all accounts apart."""
        named = f"{self.account}\0{self.mailbox}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(named, digest_size=4).hexdigest()


def folder_names(mailbox: str, delimiter: str | None, *, taken: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """The names of the folders, one below the other, that stand for a mailbox.

    Args:
        mailbox: Its name.
        delimiter: What separates the levels of the name, or None.
        taken: Names in lower case that mean something else there.
    """
    levels = mailbox.split(delimiter) if delimiter else [mailbox]
    names = [escaped(level) for level in levels]
    return tuple(f"{_escape_character(name[0])}{name[1:]}" if name.lower() in taken else name for name in names)


def escaped(name: str) -> str:
    """A name that every file system takes, for any text; other text gives another name."""
    safe = _RESERVED.sub(_escape, name)
    safe = _DEVICE.sub(lambda found: f"{found[0][:-1]}{_escape_character(found[0][-1])}", safe) or "%"
    return shortened(safe)


def shortened(name: str) -> str:
    """An escaped name that a file system takes, however long; what had to be cut ends with a digest of the whole."""
    data = name.encode("utf-8", "surrogatepass")
    if len(data) <= _MAX_BYTES and name.encode("utf-8", "replace") == data:
        return name
    digest = hashlib.blake2b(data, digest_size=8).hexdigest()
    return f"{data[: _MAX_BYTES - 20].decode('utf-8', 'ignore')}%{digest}"


def _escape(match: re.Match[str]) -> str:
    return _escape_character(match[0])


def _escape_character(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())
