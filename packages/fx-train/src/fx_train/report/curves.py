"""Curves as SVG."""

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence

from fx_train.report.numbers import number
from fx_train.report.records import Series, thinned

WIDTH, HEIGHT = 640, 280
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 34
COLORS = 6

Points = Sequence[tuple[int, float]]


def groups(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Charts for metrics: ``loss`` and ``eval/loss`` are two curves of one chart.

    >>> groups(["loss", "eval/loss", "rate"])
    {'loss': {'train': 'loss', 'eval': 'eval/loss'}, 'rate': {'train': 'rate'}}
    """
    charts: dict[str, dict[str, str]] = {}
    for name in names:
        group, _, last = name.rpartition("/")
        chart = charts.setdefault(last, {})
        # "loss" and "train/loss" have the same label.
        chart[name if (group or "train") in chart else group or "train"] = name
    return charts


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Rounds numbers between two bounds.

    >>> ticks(0.0, 1.0), ticks(3, 47)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [10.0, 20.0, 30.0, 40.0])
    """
    span = (high - low) / count
    base = 10.0 ** math.floor(math.log10(span)) if span > 0 else 1.0
    step = next((m * base for m in (1, 2, 2.5, 5, 10) if m * base >= span * (1 - 1e-9)), base)
    first = math.ceil(low / step - 1e-9)
    return [float(f"{step * i:.12g}") for i in range(first, math.floor(high / step + 1e-9) + 1)]


def chart(title: str, curves: Mapping[str, Series]) -> str:
    """Returns one chart with its legend and, for the page's script, its data.

    Args:
      title: what it shows.
      curves: values by step, for each name in the legend.

    Returns:
      A ``<figure>``. Positive values most of which span more than two powers of ten are drawn on a logarithmic axis;
      what is not finite makes a gap in the curve and a mark below it.
    """
    points = {name: thinned(series) for name, series in curves.items()}
    finite = sorted(value for each in points.values() for _, value in each if math.isfinite(value))
    steps = [step for each in points.values() for step, _ in each]
    x = _Axis(min(steps, default=0), max(steps, default=1), LEFT, WIDTH - RIGHT, False)
    y = _Axis(finite[0] if finite else 0, finite[-1] if finite else 1, HEIGHT - BOTTOM, TOP, _logarithmic(finite))
    label = f"{title} by step" + (" (logarithmic)" if y.logarithmic else "")
    lines = [_line(_style(index), each, x, y) for index, each in enumerate(points.values())]
    return (
        f"<figure><figcaption><span>{html.escape(title)}</span>{_legend(points)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" tabindex="0" aria-label="{html.escape(label)}">'
        f"{_grid(x, y)}{_gaps(points, x)}{''.join(lines)}"
        f'<line class="cross" y1="{TOP}" y2="{HEIGHT - BOTTOM}" x1="-9" x2="-9"/></svg>'
        f'<output></output><script type="application/json">{_data(points, x, y)}</script></figure>'
    )


class _Axis:
    """From values to pixels."""

    def __init__(self, low: float, high: float, start: float, end: float, logarithmic: bool):
        self.logarithmic = logarithmic
        low, high = self._scaled(low), self._scaled(high)
        if low == high:
            low, high = low - 0.5, high + 0.5
        margin = 0.04 * (high - low) if start > end else 0.0
        self.low, self.high, self.start, self.end = low - margin, high + margin, start, end

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else float(value)

    def at(self, value: float) -> float:
        share = (self._scaled(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def marks(self) -> Sequence[float]:
        if not self.logarithmic:
            return ticks(self.low, self.high)
        powers = range(math.ceil(self.low), math.floor(self.high) + 1)
        many = [10.0**p * m for p in range(math.floor(self.low), math.ceil(self.high)) for m in (1, 2, 5)]
        inside = [mark for mark in many if self.low <= math.log10(mark) <= self.high]
        return inside if len(powers) < 3 else [10.0**p for p in powers[:: -(-len(powers) // 8)]]

    def plain(self) -> dict[str, float | bool]:
        return {"low": self.low, "high": self.high, "start": self.start, "end": self.end, "log": self.logarithmic}


def _logarithmic(finite: Sequence[float]) -> bool:
    # The lower tenth does not count: a rate that falls to nothing at the very end is best seen on a linear axis.
    return bool(finite) and finite[0] > 0 and finite[-1] > 100 * finite[len(finite) // 10]


def _legend(points: Mapping[str, Points]) -> str:
    if list(points) == ["train"]:
        return ""
    keys = (
        f'<button type="button" class="key {_style(index)}" aria-pressed="true">{html.escape(name)}</button>'
        for index, name in enumerate(points)
    )
    return f'<span class="legend">{"".join(keys)}</span>'


def _grid(x: _Axis, y: _Axis) -> str:
    rows = (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y.at(value):.1f}" y2="{y.at(value):.1f}"/>'
        f'<text class="tick" x="{LEFT - 8}" y="{y.at(value) + 4:.1f}" text-anchor="end">{number(value)}</text>'
        for value in y.marks()
    )
    columns = (
        f'<text class="tick" x="{x.at(step):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{int(step):,}</text>'
        for step in x.marks()
        if step == int(step) and x.at(step) < WIDTH - RIGHT - 100
    )
    axis = (
        f'<text class="tick" x="{WIDTH - RIGHT}" y="{HEIGHT - BOTTOM + 18}" text-anchor="end">{_last(x)} steps</text>'
    )
    return "".join([*rows, *columns, axis])


def _last(x: _Axis) -> str:
    return f"{int(x.high):,}"


def _style(index: int) -> str:
    return f"c{index % COLORS}" + (" dash" if index // COLORS % 2 else "")


def _line(style: str, points: Points, x: _Axis, y: _Axis) -> str:
    line = f'<path class="curve {style}" d="{_path(points, x, y)}"/>'
    if len(points) == 1 and math.isfinite(points[0][1]):
        line += f'<circle class="dot {style}" cx="{x.at(points[0][0]):.1f}" cy="{y.at(points[0][1]):.1f}" r="3"/>'
    return f"<g>{line}</g>"


def _path(points: Points, x: _Axis, y: _Axis) -> str:
    pieces, pen = [], "M"
    for step, value in points:
        if not math.isfinite(value):
            pen = "M"
            continue
        pieces.append(f"{pen}{x.at(step):.1f} {y.at(value):.1f}")
        pen = "L"
    return "".join(pieces)


def _gaps(points: Mapping[str, Points], x: _Axis) -> str:
    steps = sorted({step for each in points.values() for step, value in each if not math.isfinite(value)})
    marks = "".join(f"M{x.at(step):.1f} {HEIGHT - BOTTOM}v-7" for step in steps)
    return f'<path class="gaps" d="{marks}"><title>not finite</title></path>' if marks else ""


def _data(points: Mapping[str, Points], x: _Axis, y: _Axis) -> str:
    # A list, since JavaScript puts keys of objects that look like integers before all others.
    curves = [[name, [[s, v if math.isfinite(v) else None] for s, v in each]] for name, each in points.items()]
    # "<" could end the script element, or begin something that hides its end.
    return json.dumps({"x": x.plain(), "y": y.plain(), "curves": curves}).replace("<", "\\u003c")
