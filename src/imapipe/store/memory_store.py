"""Checkpoints in memory: for tests of jobs, and the shortest store there is."""

from __future__ import annotations

from imapipe.store.simple_store import SimpleCheckpointStore


class MemoryCheckpointStore(SimpleCheckpointStore):
    """Keeps checkpoints as long as it lives.

    Attributes:
        values: What is kept.
    """

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, bytes] = {}

    def read(self, name: str) -> bytes | None:
        """What is kept under a name."""
        return self.values.get(name)

    def write(self, name: str, value: bytes) -> None:
        """Keep a value."""
        self.values[name] = value

    def remove(self, name: str) -> None:
        """Forget a name."""
        self.values.pop(name, None)
