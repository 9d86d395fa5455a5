"""The sums over the reports of many mailboxes, and their table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from imapipe.models.document import Document
from imapipe.models.report import OUTCOMES, shown

BESIDE_OUTCOMES: Final = ("unaccounted", "changed", "change_failed", "bytes_received")
"""What else of messages is added up."""


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
    def unaccounted(self) -> int:
        """Messages that searches did not find although the mailboxes hold them."""
        return self._sum("unaccounted")

    @property
    def changed(self) -> int:
        """Messages of which the change that follows them is made (`on_done=`, `on_failed=`)."""
        return self._sum("changed")

    @property
    def change_failed(self) -> int:
        """Messages of which it failed."""
        return self._sum("change_failed")

    @property
    def bytes_received(self) -> int:
        """Bytes of FETCH responses, after decompression."""
        return self._sum("bytes_received")


class Outcomes(Protocol):
    """What tells what became of messages, by numbers of the names in `OUTCOMES`."""

    @property
    def planned(self) -> int:
        """How many there are."""

    @property
    def complete(self) -> bool:
        """Whether nothing is left over."""


def outcome_table(reports: Mapping[str, Outcomes]) -> list[str]:
    """Lines of a table: one for each mailbox in which something happened, and the sums.

    Args:
        reports: What became of the messages of a mailbox, by its name.
    """
    counts = {name: [getattr(report, column) for column in OUTCOMES] for name, report in reports.items()}
    rows: list[tuple[str, ...]] = [("mailbox", *OUTCOMES)]
    for name, numbers in counts.items():
        if reports[name].planned or not reports[name].complete:
            rows.append((shown(name) or "-", *(f"{number:,}" for number in numbers)))
    sums = map(sum, zip(*counts.values(), strict=True)) if counts else [0] * len(OUTCOMES)
    rows.append(("sum", *(f"{number:,}" for number in sums)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join((name.ljust(widths[0]), *map(str.rjust, numbers, widths[1:]))).rstrip() for name, *numbers in rows
    ]
