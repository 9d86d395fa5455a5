"""What tells a message apart whatever UID it has."""

from __future__ import annotations

from typing import NamedTuple


class Identity(NamedTuple):
    """Digests of what tells a message apart; what is not known is None.

    Attributes:
        email: Of EMAILID (RFC 8474).
        content: Of Message-ID, Date and size; None without a Message-ID.
    """

    email: bytes | None = None
    content: bytes | None = None
