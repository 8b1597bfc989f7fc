"""Line charts as small SVG files, which any browser and GitHub show. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.sax.saxutils import escape

_WIDE, _HIGH = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 150, 28, 36
_COLOURS = ("#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#7f8c8d")
_POINTS_MAX = 400
_GAP = 0.05
"""Of the width: points that are further apart are not joined."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its name, and its points from left to right. ``dashed``: a limit, say."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


def chart(title: str, across: str, up: str, lines: Sequence[Line], *, log: bool = False) -> str:
    """An SVG. ``across`` and ``up`` name the axes with their units; ``log``: the upright one."""
    points = [point for line in lines for point in line.points]
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    low = min(y for _, y in points if y > 0 or not log) if log else 0.0
    high = max(max(y for _, y in points), low * 1.01, 1e-9)

    def x_of(x: float) -> float:
        return _LEFT + (x - left) / max(right - left, 1e-9) * (_WIDE - _LEFT - _RIGHT)

    def y_of(y: float) -> float:
        part = y / high
        if log:
            part = math.log(max(y, low) / low) / math.log(high / low)
        return _HIGH - _BOTTOM - part * (_HIGH - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {_HIGH}" '
        'font-family="sans-serif" font-size="11" fill="#333">',
        f'<rect width="{_WIDE}" height="{_HIGH}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="16" font-size="13">{escape(title)}</text>',
    ]
    for x in _round_numbers(left, right):
        at = f"{x_of(x):.1f}"
        parts.append(f'<text x="{at}" y="{_HIGH - 20}" text-anchor="middle">{x:g}</text>')
    for y in _decades(low, high) if log else _round_numbers(0, high):
        at = f"{y_of(y):.1f}"
        parts.append(f'<path d="M{_LEFT} {at}H{_WIDE - _RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at}" dy="4" text-anchor="end">{y:g}</text>')
    middle = (_WIDE - _RIGHT + _LEFT) / 2
    parts.append(
        f'<text x="{middle}" y="{_HIGH - 5}" text-anchor="middle">{escape(across)}</text>'
        f'<text transform="translate(13 {_HIGH / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(up)}</text>"
    )
    for number, line in enumerate(lines):
        colour = _COLOURS[number % len(_COLOURS)]
        thin = [*_thinned(line.points)]
        pen = ["M", *("M" if b[0] - a[0] > _GAP * (right - left) and not line.dashed else "L"
                      for a, b in pairwise(thin))]  # fmt: skip
        path = "".join(
            f"{move}{x_of(x):.1f} {y_of(y):.1f}" for move, (x, y) in zip(pen, thin, strict=True)
        )
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"{dash}/>')
        below = _TOP + 14 * number
        parts.append(
            f'<text x="{_WIDE - _RIGHT + 8}" y="{below}" fill="{colour}">{escape(line.name)}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _thinned(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """At most some hundred, of each group the highest, so that no peak is lost."""
    step = -(-len(points) // _POINTS_MAX)
    for first in range(0, len(points), step):
        yield max(points[first : first + step], key=lambda point: point[1])


def _round_numbers(low: float, high: float) -> list[float]:
    span = max(high - low, 1e-9)
    step = 10 ** math.floor(math.log10(span))
    step *= next(part for part in (0.2, 0.5, 1, 2) if span / (step * part) <= 6)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    return [10.0**power for power in range(first, last + 1)]
