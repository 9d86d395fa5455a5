"""A set of UIDs that only becomes more: of a million of them a process keeps the ranges, and no object for each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from imapipe.wire.uid_set import UidSet

# So many are joined to the ranges in one go, which takes a few milliseconds however many there are.
_GROUP: Final = 2_048


class GrowingSet:
    """The set.

    Args:
        uids: What is in it.
    """

    __slots__ = ("_kept", "_recent")

    def __init__(self, uids: UidSet | None = None) -> None:
        self._kept = UidSet() if uids is None else uids
        self._recent: set[int] = set()

    def __contains__(self, uid: object) -> bool:
        return uid in self._recent or uid in self._kept

    def add(self, uid: int) -> None:
        """It is in it from now on."""
        self.update((uid,))

    def update(self, uids: Iterable[int]) -> None:
        """They are in it from now on. Raises ValueError: one of them is no UID."""
        if isinstance(uids, UidSet):
            self._kept |= uids
            return
        self._recent.update(uids)
        if len(self._recent) >= _GROUP:
            self._join()

    def all(self) -> UidSet:
        """What is in it now; as a value, which any thread may compute with."""
        if self._recent:
            self._join()
        return self._kept

    def _join(self) -> None:
        self._kept |= UidSet.from_numbers(self._recent)
        self._recent = set()
