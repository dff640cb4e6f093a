"""Plots of growth with logarithmic axes, as SVG without a background, readable on a light page and on a dark one."""

import math
from typing import Any

WIDTH, HEIGHT, LEFT, BOTTOM = 560, 340, 70, 45
COLORS = ("#2b8fd9", "#e0602c", "#35a04f", "#a06fd6", "#b28d0a", "#c94f8a")
TEXT, GRID = "#808080", "#80808055"

RAW = {"megabytes": "plain bytes", "plugins": "entry points"}
"""What ratios are over, by what grows; hand-written JAX elsewhere."""

Points = list[tuple[float, float]]


def series(rows: list[dict[str, Any]]) -> dict[str, dict[str, Points]]:
    """Give, for each kind of work, the points of each library; cases are named ``work | what grows | size``."""
    found: dict[str, dict[str, Points]] = {}
    for row in rows:
        work, what, size = row["case"].split(" | ")
        lines = found.setdefault(f"{work} by {what}", {})
        lines.setdefault(row["library"], []).append((float(size), row["ours"]))
        raw = lines.setdefault(RAW.get(what, "raw JAX"), [])
        if all(point[0] != float(size) for point in raw):
            raw.append((float(size), row["raw"]))
    return found


def exponent(points: Points) -> float:
    """Fit ``time = factor * size ** exponent``, by least squares of the logarithms; sizes of 0 do not count."""
    xs, ys = [math.log(x) for x, _ in points if x], [math.log(y) for x, y in points if x]
    middle_x, middle_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - middle_x) ** 2 for x in xs)
    return sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys)) / spread if spread else math.nan


def name_of(title: str) -> str:
    """Give the file of a plot."""
    return f"growth_{title.replace(' ', '_')}.svg"


def fitted(rows: list[dict[str, Any]]) -> list[str]:
    """Give a table of exponents, and the plots."""
    lines = ["| work | library | smallest | largest | exponent |", "|---|---|---|---|---|"]
    for title, libraries in series(rows).items():
        for library, points in libraries.items():
            ends = [f"{x:,.0f}: {1e3 * y:.3g} ms" for x, y in (points[0], points[-1])]
            lines.append(f"| {title} | {library} | {ends[0]} | {ends[1]} | {exponent(points):.2f} |")
    return [*lines, "", *(f"![{title}](../docs/{name_of(title)})" for title in series(rows))]


def drawn(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Give the plots by the names of their files."""
    return {name_of(title): _plot(title, libraries) for title, libraries in series(rows).items()}


def _plot(title: str, lines: dict[str, Points]) -> str:
    points = [point for line in lines.values() for point in line]
    sizes = sorted({x for x, _ in points})
    # Zero has no logarithm: it stands half a decade before the smallest size.
    zero = math.log10(next(x for x in sizes if x)) - 0.5
    low_x, high_x = _ends([math.log10(x) if x else zero for x in sizes])
    low_y, high_y = _ends([math.log10(y) for _, y in points])

    def place(x: float, y: float) -> tuple[float, float]:
        right, top = WIDTH - 130, 30
        across = ((math.log10(x) if x else zero) - low_x) / (high_x - low_x)
        up = (math.log10(y) - low_y) / (high_y - low_y)
        return LEFT + across * (right - LEFT), HEIGHT - BOTTOM - up * (HEIGHT - BOTTOM - top)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        f'font-family="sans-serif" font-size="12" fill="{TEXT}">',
        f'<text x="{LEFT}" y="18" font-size="14">{title}</text>',
    ]
    for power in range(math.floor(low_y), math.ceil(high_y) + 1):
        if low_y <= power <= high_y:
            (left, y), (right, _) = place(10**low_x, 10.0**power), place(10**high_x, 10.0**power)
            parts.append(f'<line x1="{left:.1f}" y1="{y:.1f}" x2="{right:.1f}" y2="{y:.1f}" stroke="{GRID}"/>')
            parts.append(f'<text x="{left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{_seconds(10.0**power)}</text>')
    for size in sizes:
        x, y = place(size, 10**low_y)
        parts.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{size:,.0f}</text>')
    for number, (library, line) in enumerate(lines.items()):
        color = COLORS[number % len(COLORS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in sorted(line)))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        x, y = WIDTH - 122, 44 + 18 * number
        parts.append(f'<line x1="{x}" y1="{y - 4}" x2="{x + 18}" y2="{y - 4}" stroke="{color}" stroke-width="2"/>')
        parts.append(f'<text x="{x + 23}" y="{y}">{library}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _ends(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low - 0.1, high + 0.1) if high > low else (low - 0.5, high + 0.5)


def _seconds(value: float) -> str:
    for scale, name in ((1, "s"), (1e3, "ms"), (1e6, "µs"), (1e9, "ns")):
        if value * scale >= 0.999:
            return f"{value * scale:.0f} {name}"
    return f"{value:g} s"
