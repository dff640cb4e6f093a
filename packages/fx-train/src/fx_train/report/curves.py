"""Curves as SVG."""

import html
import math
from collections.abc import Iterable, Mapping, Sequence

from fx_train.report.records import Series, thinned

WIDTH, HEIGHT = 640, 280
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 34


def groups(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Charts for metrics: ``loss`` and ``eval/loss`` are two curves of one chart.

    >>> groups(["loss", "eval/loss", "rate"])
    {'loss': {'train': 'loss', 'eval': 'eval/loss'}, 'rate': {'train': 'rate'}}
    """
    charts: dict[str, dict[str, str]] = {}
    for name in names:
        group, _, last = name.rpartition("/")
        charts.setdefault(last, {})[group or "train"] = name
    return charts


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between two bounds.

    >>> ticks(0.0, 1.0), ticks(3, 47)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [10.0, 20.0, 30.0, 40.0])
    """
    span = (high - low) / count
    base = 10.0 ** math.floor(math.log10(span)) if span > 0 else 1.0
    step = next((m * base for m in (1, 2, 2.5, 5, 10) if m * base >= span * (1 - 1e-9)), base)
    first = math.ceil(low / step - 1e-9)
    return [round(step * i, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def chart(title: str, curves: Mapping[str, Series]) -> str:
    """One chart.

    Args:
      title: what it shows.
      curves: values by step, for each name in the legend.

    Returns:
      An ``<svg>`` element; positive values that span more than two powers of ten are drawn on a logarithmic axis.
    """
    points = {name: thinned(series) for name, series in curves.items()}
    finite = [value for each in points.values() for _, value in each if math.isfinite(value)]
    steps = [step for each in points.values() for step, _ in each]
    logarithmic = bool(finite) and min(finite) > 0 and max(finite) / min(finite) > 100
    x = _Axis(min(steps, default=0), max(steps, default=1), LEFT, WIDTH - RIGHT, False)
    y = _Axis(min(finite, default=0), max(finite, default=1), HEIGHT - BOTTOM, TOP, logarithmic)
    label = f"{title} by step" + (" (logarithmic)" if logarithmic else "")
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(label)}">',
        *(_grid_line(y.at(value), _short(value)) for value in y.marks()),
        *(
            f'<text class="tick" x="{x.at(step):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">'
            f"{int(step):,}</text>"
            for step in x.marks()
            if step == int(step)
        ),
        f'<text class="axis" x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end">step</text>',
    ]
    for index, each in enumerate(points.values()):
        parts.append(f'<path class="curve c{index % 6}" d="{_path(each, x, y)}"/>')
        if len(each) == 1 and math.isfinite(each[0][1]):
            parts.append(
                f'<circle class="dot c{index % 6}" cx="{x.at(each[0][0]):.1f}" cy="{y.at(each[0][1]):.1f}" r="3"/>'
            )
    parts.append('<line class="cross" y1="12" y2="246" x1="-9" x2="-9"/></svg>')
    return "".join(parts)


class _Axis:
    """From values to pixels."""

    def __init__(self, low: float, high: float, start: float, end: float, logarithmic: bool):
        self._log = logarithmic
        low, high = self._scaled(low), self._scaled(high)
        if low == high:
            low, high = low - 0.5, high + 0.5
        margin = 0.04 * (high - low) if start > end else 0.0
        self._low, self._high, self._start, self._end = low - margin, high + margin, start, end

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self._log else float(value)

    def at(self, value: float) -> float:
        share = (self._scaled(value) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    def marks(self) -> Sequence[float]:
        if not self._log:
            return ticks(self._low, self._high)
        powers = range(math.ceil(self._low), math.floor(self._high) + 1)
        many = [10.0**p * m for p in range(math.floor(self._low), math.ceil(self._high)) for m in (1, 2, 5)]
        inside = [mark for mark in many if self._low <= math.log10(mark) <= self._high]
        return inside if len(powers) < 3 else [10.0**p for p in powers]


def _path(points: Sequence[tuple[int, float]], x: _Axis, y: _Axis) -> str:
    pieces, pen = [], "M"
    for step, value in points:
        if not math.isfinite(value):
            pen = "M"
            continue
        pieces.append(f"{pen}{x.at(step):.1f} {y.at(value):.1f}")
        pen = "L"
    return "".join(pieces)


def _grid_line(at: float, label: str) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        f'<text class="tick" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{label}</text>'
    )


def _short(value: float) -> str:
    return f"{value:.4g}"
