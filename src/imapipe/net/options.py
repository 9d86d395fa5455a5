"""What a connection may take: time, memory, disk."""

from __future__ import annotations

from dataclasses import dataclass, field

from imapipe.wire.response.framing import BUFFER_BYTES, DIRECT_BYTES
from imapipe.wire.response.limits import Limits

MAX_HELD_BYTES = 8 * 1024 * 1024
MAX_SPOOL_BYTES = 1024 * 1024 * 1024
SPOOL_ABOVE = 1024 * 1024
MINIMUM_BYTES_PER_SECOND = 256.0


@dataclass(frozen=True, slots=True)
class PlaneOptions:
    """The bounds of one connection.

    Attributes:
        command_timeout_seconds: How long the server may be silent while a command waits.
        stall_timeout_seconds: How long it may be silent in the middle of an answer.
        minimum_bytes_per_second: How slowly bytes may come or go; `net.patience` says what a command may take in all.
        max_held_bytes: Bytes received and not released above which reading pauses.
        spool_above: Literals longer than this many bytes go to temporary files, but for small ones.
        spool_dir: Where those are made; None is the system's folder for them.
        max_spool_bytes: Bytes in temporary files, handed over and not released, above which reading pauses.
        limits: The largest responses taken.
    """

    command_timeout_seconds: float = 60.0
    stall_timeout_seconds: float = 30.0
    minimum_bytes_per_second: float = MINIMUM_BYTES_PER_SECOND
    max_held_bytes: int = MAX_HELD_BYTES
    spool_above: int = SPOOL_ABOVE
    spool_dir: str | None = None
    max_spool_bytes: int = MAX_SPOOL_BYTES
    limits: Limits = field(default_factory=Limits)

    @property
    def least_spooled(self) -> int:
        """Literals longer than this go to files: small ones never do, since a process has few descriptors."""
        return max(self.spool_above, DIRECT_BYTES)

    @property
    def most_bytes(self) -> tuple[int, int, int, int]:
        """What may be held, be in files, be kept, and be kept whatever others keep (`net.holdings`)."""
        own = self.least_spooled + BUFFER_BYTES
        return self.max_held_bytes, self.max_spool_bytes, self.limits.kept_bytes, own
