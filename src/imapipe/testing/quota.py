"""A limit of what the account may hold (RFC 9208)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .mailbox import Mailbox


@dataclass(slots=True)
class Quota:
    """The one quota root of the account.

    Attributes:
        storage_bytes: Bytes of all messages together, None for no limit. On the wire it is in units of 1,024.
        messages: Number of all messages, None for no limit.
        root: Name of the quota root.
    """

    storage_bytes: int | None = None
    messages: int | None = None
    root: str = "User quota"

    def usage(self, boxes: Iterable[Mailbox]) -> dict[str, tuple[int, int]]:
        """Usage and limit of each resource that has a limit, in the units of the wire."""
        held = list(boxes)
        out: dict[str, tuple[int, int]] = {}
        if self.storage_bytes is not None:
            out["STORAGE"] = (-(-sum(box.total_size for box in held) // 1024), self.storage_bytes // 1024)
        if self.messages is not None:
            out["MESSAGE"] = (sum(len(box) for box in held), self.messages)
        return out

    def is_exceeded(self, boxes: Iterable[Mailbox], count: int, size: int) -> bool:
        """Whether ``count`` more messages of ``size`` bytes together are too much."""
        held = list(boxes)
        if self.messages is not None and sum(len(box) for box in held) + count > self.messages:
            return True
        return self.storage_bytes is not None and sum(box.total_size for box in held) + size > self.storage_bytes
