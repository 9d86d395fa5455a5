"""The text format of Prometheus (exposition format 0.0.4), as far as counters and gauges go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Family:
    """The values of one metric.

    Attributes:
        name: Its name; that of a counter ends in `_total`.
        kind: What it is.
        help: What it counts, in a sentence.
        values: The values, by their labels.
    """

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    values: dict[Labels, float] = field(default_factory=dict)

    def add(self, value: float, **labels: str) -> None:
        """Add to the value with these labels."""
        key = tuple(labels.items())
        self.values[key] = self.values.get(key, 0) + value


def exposition(families: Iterable[Family]) -> str:
    """What a scrape gets."""
    lines: list[str] = []
    for family in families:
        lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
        lines += [f"{family.name}{_labels(dict(labels))} {value:.17g}" for labels, value in family.values.items()]
    return "\n".join((*lines, ""))


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    printable = value.encode("utf-8", "backslashreplace").decode()
    return printable.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
