"""The sums over the reports of many mailboxes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from imapipe.models.document import Document


class Sums(Document, ABC):
    """What is counted in a report of each mailbox, added up."""

    __slots__ = ()

    @abstractmethod
    def _each(self) -> Iterable[object]:
        """The reports."""

    def _sum(self, name: str) -> int:
        return sum(getattr(report, name) for report in self._each())


class OutcomeSums(Sums):
    """The outcomes of messages, added up."""

    __slots__ = ()

    @property
    def planned(self) -> int:
        """Messages that were found."""
        return self._sum("planned")

    @property
    def done(self) -> int:
        """Messages that were handled."""
        return self._sum("done")

    @property
    def skipped(self) -> int:
        """Messages that an earlier run did."""
        return self._sum("skipped")

    @property
    def vanished(self) -> int:
        """Messages that were gone."""
        return self._sum("vanished")

    @property
    def failed(self) -> int:
        """Messages that failed."""
        return self._sum("failed")

    @property
    def changed(self) -> int:
        """Messages of which the change that follows them is made (`on_done=`, `on_failed=`)."""
        return self._sum("changed")

    @property
    def change_failed(self) -> int:
        """Messages of which it failed."""
        return self._sum("change_failed")
