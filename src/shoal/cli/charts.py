"""Curves as a picture: rows of letters for a terminal, SVG for everything else. Nothing to install, nothing to load."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

Curve = Sequence[tuple[float, float]]

_COLOURS = ("#0b6e99", "#d9822b", "#3f8f5f", "#9a4f96", "#c0392b", "#66727f")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# As many as there are letters to name them by.
MAX_CURVES = len(_LETTERS)
# Of a step's number, in pixels.
_LABEL_WIDTH = 48
# Points of a drawn line: one for every two pixels.
_MAX_POINTS = 300


def text_chart(curves: Mapping[str, Curve], *, title: str, width: int = 72, height: int = 14) -> str:
    """Draw curves with a letter for each, all on the same axes.

    Args:
        curves: by name, at most `MAX_CURVES`: (step, value) by growing step. Values that are not finite are left out.
        title: what the values are.
        width: columns of the drawing, without the axis.
        height: rows of it.
    """
    known = {name: _finite(curve) for name, curve in curves.items()}
    bounds = _bounds(known.values())
    if bounds is None:
        return f"{title}: no points"
    (left, right), (low, high) = bounds
    rows = [[" "] * width for _ in range(height)]
    for letter, curve in zip(_LETTERS, known.values(), strict=False):
        columns: dict[int, list[float]] = {}
        for step, value in curve:
            columns.setdefault(_place(step, left, right, width), []).append(value)
        for column, values in columns.items():
            # The mean of what falls into a column: one noisy point must not stand for a hundred.
            rows[height - 1 - _place(sum(values) / len(values), low, high, height)][column] = letter
    labels = {0: _number(high), height - 1: _number(low)}
    margin = max(map(len, labels.values()))
    lines = [f"{labels.get(index, '').rjust(margin)} |{''.join(row).rstrip()}" for index, row in enumerate(rows)]
    ends = f"{_number(left)}{f'step {_number(right)}'.rjust(width - len(_number(left)))}"
    legend = [f"{letter}  {name}" for letter, name in zip(_LETTERS, known, strict=False)]
    return "\n".join([title, *lines, f"{' ' * margin} +{'-' * width}", f"{' ' * margin}  {ends}", *legend])


def svg_chart(curves: Mapping[str, Curve], *, title: str, width: int = 760, height: int = 420) -> str:
    """Draw curves as one SVG document, with a legend.

    Args:
        curves: as for `text_chart`, in any number.
        title: what the values are.
        width: of the picture, in pixels.
        height: the same.
    """
    known = {name: _thinned(_finite(curve)) for name, curve in curves.items()}
    (left, right), (low, high) = _bounds(known.values()) or ((0, 1), (0, 1))
    x0, x1, y0, y1 = 64, width - 20, height - 44, 40

    def at(step: float, value: float) -> str:
        x = x0 + (step - left) / ((right - left) or 1) * (x1 - x0)
        y = y0 + (value - low) / ((high - low) or 1) * (y1 - y0)
        return f"{x:.1f},{y:.1f}"

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
            f'font-size="12" fill="#1d2733" viewBox="0 0 {width} {height}">'
        ),
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{x0}" y="22" font-size="14">{escape(title)}</text>',
    ]
    for value in _ticks(low, high):
        row = at(left, value).partition(",")[2]
        parts.append(f'<path d="M{x0},{row} H{x1}" stroke="#e4e8ec"/>')
        parts.append(f'<text x="{x0 - 8}" y="{row}" dy="4" text-anchor="end">{_number(value)}</text>')
    parts.append(f'<path class="axis" d="M{x0},{y1} V{y0} H{x1}" stroke="#66727f" fill="none"/>')
    # The origin has its number too, unless another one would stand on top of it.
    ticks = _ticks(left, right)
    crowded = ticks and (ticks[0] - left) / ((right - left) or 1) * (x1 - x0) < _LABEL_WIDTH
    for step in ticks if crowded and ticks[0] == left else [left, *(ticks[1:] if crowded else ticks)]:
        column = at(step, low).partition(",")[0]
        parts.append(f'<text x="{column}" y="{y0 + 18}" text-anchor="middle">{_number(step)}</text>')
    parts.append(f'<text x="{(x0 + x1) / 2:.0f}" y="{height - 8}" text-anchor="middle">step</text>')
    for index, (name, curve) in enumerate(known.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        line = " ".join(at(step, value) for step, value in curve)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        if curve and not math.isfinite(curves[name][-1][1]):
            mark = f"M{at(*curve[-1])} m-5,-5 l10,10 m-10,0 l10,-10"
            parts.append(
                f'<path d="{mark}" stroke="{colour}" stroke-width="2"><title>no number after this</title></path>'
            )
        y = y1 + 8 + 18 * index
        parts.append(f'<path d="M{x1 - 150},{y} h18" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{x1 - 126}" y="{y + 4}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _finite(curve: Curve) -> list[tuple[float, float]]:
    return [(step, value) for step, value in curve if math.isfinite(value)]


def _thinned(curve: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The means of even pieces, where there are more points than can be seen."""
    size = -(-len(curve) // _MAX_POINTS) or 1
    pieces = [curve[first : first + size] for first in range(0, len(curve), size)]
    return [(piece[-1][0], sum(value for _, value in piece) / len(piece)) for piece in pieces]


def _bounds(curves: Iterable[Curve]) -> tuple[tuple[float, float], tuple[float, float]] | None:
    points = [point for curve in curves for point in curve]
    if not points:
        return None
    steps, values = [step for step, _ in points], [value for _, value in points]
    return (min(steps), max(steps)), (min(values), max(values))


def _place(value: float, low: float, high: float, size: int) -> int:
    return round((value - low) / ((high - low) or 1) * (size - 1))


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two, about five of them.

    >>> _ticks(0.0, 2.3)
    [0.0, 0.5, 1.0, 1.5, 2.0]
    """
    if high <= low:
        return [low]
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough)
    first = math.ceil(low / step)
    return [index * step for index in range(first, math.floor(high / step) + 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"
