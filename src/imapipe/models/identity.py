"""What tells a message apart whatever UID it has."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

# No UIDVALIDITY is as high (RFC 9051 §9, `nz-number`).
_BEYOND = 2**32


class Identity(NamedTuple):
    """Digests of what tells a message apart; what is not known is None.

    Attributes:
        email: Of EMAILID (RFC 8474).
        content: Of Message-ID, Date and size; None without a Message-ID.
    """

    email: bytes | None = None
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Renumbered:
    """A mailbox whose messages have other UIDs now than when a job did them.

    Attributes:
        name: Of this renumbering; each has another.
        uidvalidity: Its UIDVALIDITY before, which may be that of now (UIDNEXT fell).
        uids: The UIDs of now, by those of before, of the messages that were found again.
    """

    name: str
    uidvalidity: int
    uids: Mapping[int, int]

    @property
    def apart(self) -> int:
        """What stands for the UIDVALIDITY of before where that is the one of now; no server has it."""
        return _BEYOND + zlib.crc32(self.name.encode())
