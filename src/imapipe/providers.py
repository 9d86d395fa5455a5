"""What is known of mail providers: their limits, as data in one table.

It can be overridden wherever it is used, and an unknown host gets `UNKNOWN`. `docs/rate_limits.md` has what their
servers say when a limit is passed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Provider:
    """A mail provider.

    Attributes:
        name: What people call it.
        hosts: The ends of its IMAP servers' names.
        max_connections: How many connections of an account it allows at a time.
        bytes_per_day: How much may be fetched within a day; None where it does not say.
        connections: How many to use unless told otherwise.
        idle_seconds: When an IDLE is to be begun anew. RFC 2177 allows 29 minutes; Gmail ends some after 10, and what
            stands between (NAT, firewalls) forgets silent connections after 5.
    """

    name: str
    hosts: tuple[str, ...]
    max_connections: int
    bytes_per_day: int | None = None
    connections: int = 4
    idle_seconds: float = 240.0


PROVIDERS: Final = (
    Provider("Gmail", ("imap.gmail.com", "imap.googlemail.com"), 15, 2_500_000_000),
    Provider("Exchange Online", ("outlook.office365.com", "imap-mail.outlook.com", "outlook.office.com"), 20),
    Provider("Yahoo", ("imap.mail.yahoo.com", "imap.aol.com", "export.imap.aol.com"), 5, connections=2),
    Provider("iCloud", ("imap.mail.me.com",), 10),
)
UNKNOWN: Final = Provider("", (), 10)


def provider_of_account(account: str) -> Provider:
    """The provider of an account, which is `user@host:port`."""
    return provider_of(account.rpartition("@")[2].rpartition(":")[0])


def provider_of(host: str) -> Provider:
    """The provider whose server this is, by its name; `UNKNOWN` for any other."""
    host = host.lower().rstrip(".")
    return next(
        (each for each in PROVIDERS if any(host == end or host.endswith(f".{end}") for end in each.hosts)), UNKNOWN
    )
