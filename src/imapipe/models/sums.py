"""The sums over the reports of many mailboxes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

from imapipe.models.report import printable


class Sums(ABC):
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


def error_fields(errors: Mapping[str, Exception]) -> dict[str, dict[str, str]]:
    """What ended the work on mailboxes, by name, as it stands in a JSON report."""
    return {
        printable(name): {"type": type(error).__name__, "text": printable(str(error))} for name, error in errors.items()
    }
