"""Two kinds of charts as SVG, small and without scripts: bars, and lines over a logarithmic scale."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

_NAMESPACE: Final = "http://www.w3.org/2000/svg"
_WIDTH: Final = 760
_BAR: Final = 18
_STEP: Final = 28
_LEFT: Final = 190
_RIGHT: Final = 170
_TOP: Final = 56
_LINES_TOP: Final = 80
_PLOT_HEIGHT: Final = 300
_INK, _FAINT, _GRID = "#24292f", "#6e7781", "#d8dee4"
_STRONG, _PLAIN, _PALE = "#0a6c74", "#9fb4c7", "#c9ced4"
_LINES: Final = ("#0a6c74", "#8a8d91", "#b35900", "#5b4b9a", "#a0305c", "#4d7c0f", "#1f6feb", "#7a5c2e")


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Attributes:
        label: To its left.
        value: Its length.
        low: The lowest value that was measured.
        high: The highest.
        text: To its right.
        kind: "ours", "reference" or "": its colour.
    """

    label: str
    value: float
    low: float
    high: float
    text: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One line: points (x, y) with x ascending; the first of a chart's lines is the thick one."""

    label: str
    points: Sequence[tuple[float, float]]


def bar_chart(title: str, subtitle: str, bars: Sequence[Bar]) -> str:
    """Draw horizontal bars from 0, with a whisker from the lowest to the highest value."""
    longest = max(bar.value for bar in bars) or 1.0
    unit = (_WIDTH - _LEFT - _RIGHT) / longest
    parts = []
    for i, bar in enumerate(bars):
        top, middle = _TOP + i * _STEP, _TOP + i * _STEP + _BAR / 2
        fill = {"ours": _STRONG, "reference": _PALE}.get(bar.kind, _PLAIN)
        # A single slow run may reach beyond the chart; the table has the figure.
        low, high = _LEFT + bar.low * unit, min(_LEFT + bar.high * unit, _WIDTH - _RIGHT + 20)
        end = max(_LEFT + bar.value * unit, high)
        weight = "bold" if bar.kind == "ours" else "normal"
        parts += [
            _text(_LEFT - 8, middle + 4, bar.label, anchor="end", weight=weight),
            f'<path d="M{_LEFT} {top}h{max(bar.value * unit, 1):.1f}v{_BAR}H{_LEFT}z" fill="{fill}"/>',
            f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="{_FAINT}" stroke-width="1"/>',
            _text(end + 6, middle + 4, bar.text, weight=weight),
        ]
    return _page(title, subtitle, _TOP + len(bars) * _STEP + 8, parts)


def line_chart(title: str, subtitle: str, x_label: str, y_label: str, lines: Sequence[Line]) -> str:
    """Draw lines: x evenly spaced by its different values, y logarithmic."""
    xs = sorted({x for line in lines for x, _ in line.points})
    values = [y for line in lines for _, y in line.points]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    left, right, bottom = 70, _WIDTH - _RIGHT, _LINES_TOP + _PLOT_HEIGHT
    spot = {x: left + 20 + i * (right - left - 40) / max(len(xs) - 1, 1) for i, x in enumerate(xs)}

    def height(value: float) -> float:
        return bottom - (math.log10(value) - low) / (high - low) * _PLOT_HEIGHT

    parts = []
    for power in range(low, high + 1):
        for factor in (1, 2, 5):
            y = height(factor * 10.0**power)
            if y < _LINES_TOP - 0.5:
                continue
            parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="{_GRID}" stroke-width="1"/>')
            parts.append(_text(left - 6, y + 4, f"{factor * 10.0**power:g}", anchor="end", fill=_FAINT))
    parts += [
        _text(spot[x], bottom + 18, f"{x:,g}" if x < 1e6 else f"{x:,.0f}", anchor="middle", fill=_FAINT) for x in xs
    ]
    parts.append(_text((left + right) / 2, bottom + 38, x_label, anchor="middle", fill=_FAINT))
    parts.append(_text(left, _LINES_TOP - 12, y_label, fill=_FAINT))
    ends = _spread_out([height(line.points[-1][1]) for line in lines])
    for i, (line, end) in enumerate(zip(lines, ends, strict=True)):
        colour = _LINES[i % len(_LINES)]
        path = "L".join(f"{spot[x]:.1f} {height(y):.1f}" for x, y in line.points)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="{3 if i == 0 else 1.6}"/>')
        parts += [f'<circle cx="{spot[x]:.1f}" cy="{height(y):.1f}" r="3" fill="{colour}"/>' for x, y in line.points]
        parts.append(_text(spot[line.points[-1][0]] + 10, end + 4, line.label, fill=colour))
    return _page(title, subtitle, bottom + 52, parts)


def _spread_out(heights: Sequence[float]) -> list[float]:
    """Move labels apart that would cover each other, keeping their order."""
    placed = list(heights)
    order = sorted(range(len(placed)), key=lambda i: placed[i])
    for before, after in itertools.pairwise(order):
        placed[after] = max(placed[after], placed[before] + 15)
    return placed


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", fill: str = _INK, size: int = 13
) -> str:
    style = f'font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{fill}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _page(title: str, subtitle: str, height: float, parts: Iterable[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="{_NAMESPACE}" viewBox="0 0 {_WIDTH} {height:.0f}" role="img" font-family="sans-serif">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{_WIDTH}" height="{height:.0f}" rx="6" fill="#ffffff"/>',
            _text(16, 24, title, weight="bold", size=15),
            _text(16, 42, subtitle, fill=_FAINT, size=12),
            *parts,
            "</svg>\n",
        ]
    )
