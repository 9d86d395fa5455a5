"""How many bytes an account received within the last 24 hours.

Bytes are counted by the hour, and an hour counts until the last byte of it is a day old: so no span of 24 hours ever
holds more than is said, and a count fits into a few numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from imapipe.models.json_value import JSON

_HOUR: Final = 3600
_DAY: Final = 24 * _HOUR


class ByteUsage:
    """Bytes by the hour; times are seconds since 1970."""

    __slots__ = ("_by_hour",)

    def __init__(self) -> None:
        self._by_hour: dict[int, int] = {}

    def add(self, now: float, count: int) -> None:
        """So many bytes were received."""
        if count > 0:
            hour = int(now // _HOUR)
            self._by_hour[hour] = self._by_hour.get(hour, 0) + count

    def add_all(self, other: ByteUsage) -> None:
        """What another one has counted was received besides."""
        for hour, count in other._by_hour.items():
            self._by_hour[hour] = self._by_hour.get(hour, 0) + count

    def used(self, now: float) -> int:
        """What counts now."""
        self._forget(now)
        return sum(self._by_hour.values())

    def steps(self, now: float) -> Iterator[tuple[float, int]]:
        """The times at which less counts, and how much that is then."""
        used = self.used(now)
        for hour in sorted(self._by_hour):
            used -= self._by_hour[hour]
            yield _expires(hour), used

    def to_note(self, under_way: int) -> JSON:
        """As JSON; `under_way` is what may have been received when this is read again."""
        return {"by_hour": {str(hour): count for hour, count in self._by_hour.items()}, "under_way": under_way}

    def recall(self, note: JSON, now: float) -> None:
        """Add what `to_note` gave, in this process or in one that was killed.

        Where an hour is known already, the higher count is the right one: the other one is older.

        Raises:
            ValueError: The note is something else.
        """
        match note:
            case {"by_hour": dict(by_hour), "under_way": int(under_way)}:
                read = {int(hour): count for hour, count in by_hour.items()}
            case _:
                raise ValueError("no count of bytes")
        for hour, count in read.items():
            if not isinstance(count, int) or count < 0:
                raise ValueError("a count is no number")
            self._by_hour[hour] = max(count, self._by_hour.get(hour, 0))
        self.add(now, under_way)

    def _forget(self, now: float) -> None:
        # Hours that are far ahead come from a clock that was wrong.
        self._by_hour = {
            hour: count for hour, count in self._by_hour.items() if now < _expires(hour) <= now + 2 * _DAY + _HOUR
        }


def _expires(hour: int) -> float:
    return float((hour + 1) * _HOUR + _DAY)
