"""The accounts of the example: who serves them, who works on them and who checks the result know the same ones.

Sizes are uneven, as they are in a company: a few accounts have most of the mail, and most mailboxes are small. All of
it follows from two numbers, so a process needs no more than these to know what each message says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from imapipe.testing import SyntheticMailbox

PASSWORD: Final = "secret"
MESSAGE_BYTES: Final = 600
# The mailboxes of each account, and what part of its mail is in them; INBOX has the rest.
_PARTS: Final[Mapping[str, float]] = {"Archive": 0.2, "Sent": 0.07, "Work/2025": 0.02, "Work/2026": 0.01}
# Of five accounts in a row, each has so many times the usual mail; the mean is 1.
_WEIGHTS: Final = (2.4, 0.3, 1.1, 0.7, 0.5)


@dataclass(frozen=True, slots=True)
class Account:
    """One account.

    Attributes:
        name: Its name, which is the user's at the server too.
        mailboxes: How many messages each mailbox has.
        connections: How many connections its server wants to see at most.
        messages_per_second: How many messages may be asked for in a second; None is no limit.
    """

    name: str
    mailboxes: Mapping[str, int]
    connections: int
    messages_per_second: float | None

    @property
    def messages(self) -> int:
        """How many messages there are in all of its mailboxes."""
        return sum(self.mailboxes.values())

    def mailbox(self, name: str) -> SyntheticMailbox:
        """The content of a mailbox."""
        return SyntheticMailbox(self.mailboxes[name], size=MESSAGE_BYTES, seed=_seed(self.name, name), templates=8)

    def digests(self, name: str) -> Iterator[tuple[int, str]]:
        """UID and digest of every message of a mailbox."""
        content = self.mailbox(name)
        for uid in content.uids:
            yield uid, digest(content[uid].content.raw)


def population(accounts: int, messages: int) -> list[Account]:
    """That many accounts, with so many messages each on average."""
    weights = [_WEIGHTS[number % len(_WEIGHTS)] for number in range(accounts)]
    total, left = accounts * messages, accounts * messages
    made = []
    for number, weight in enumerate(weights):
        size = left if number == accounts - 1 else min(left, round(total * weight / sum(weights)))
        left -= size
        parts = {name: int(size * part) for name, part in _PARTS.items()}
        made.append(
            Account(
                name=f"user-{number:03}",
                mailboxes={"INBOX": size - sum(parts.values()), **parts},
                connections=2 + number % 3,
                messages_per_second=150.0 if number % 5 == 2 else None,
            )
        )
    return made


def digest(raw: bytes) -> str:
    """A short name for what a message says."""
    return hashlib.blake2b(raw, digest_size=8).hexdigest()


def _seed(account: str, mailbox: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{account}/{mailbox}".encode(), digest_size=4).digest(), "big")
