"""The page about a compressed model."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from fx_core.pages import Section, escaped, html_page, tile, tiles

from fx_compress.errors import CompressError
from fx_compress.report import Report, Row

__all__ = ["write_page"]


def write_page(reports: Mapping[str, Report], file: str | Path, title: str = "Compression") -> Path:
    """Writes an HTML page about one compressed model, or several of one model, which needs nothing besides itself.

    Args:
      reports: by name.
      file: to write.
      title: of the page.

    Returns:
      The file.

    Raises:
      CompressError: the file cannot be written.
    """
    file = Path(file)
    try:
        file.write_text(page(reports, title), encoding="utf-8", errors="xmlcharrefreplace")
    except OSError as error:
        raise CompressError("The page cannot be written.", path=str(file), got=str(error)) from error
    return file


def page(reports: Mapping[str, Report], title: str) -> str:
    """Returns the page as HTML."""
    layers = [Section(f"layers-{i}", name, _layers(report.rows)) for i, (name, report) in enumerate(reports.items())]
    summary = [Section("summary", "Summary", _summary(reports))] if len(reports) > 1 else []
    first = next(iter(reports.values()))
    header = f"<header><h1><span>{escaped(title)}</span></h1></header>"
    return html_page(title, header + (_tiles(first) if len(reports) == 1 else ""), [*summary, *layers])


def _tiles(report: Report) -> str:
    return tiles(
        [
            tile("bytes", f"{report.bytes_after:,}", f"{report.bytes_before:,} before"),
            tile("of the bytes", f"{report.ratio:.3f}"),
            *(tile(name, f"{now:.6g}", f"{was:.6g} before") for name, (was, now) in report.figures.items()),
        ]
    )


def _summary(reports: Mapping[str, Report]) -> str:
    names = list(dict.fromkeys(name for report in reports.values() for name in report.figures))
    head = "".join(f'<th class="number">{escaped(name)}</th>' for name in ("bytes", "ratio", *names))
    rows = [
        _row(name, [f"{report.bytes_after:,}", f"{report.ratio:.3f}", *(_figure(report, each) for each in names)])
        for name, report in reports.items()
    ]
    return f'<div class="scroll"><table><tr><th></th>{head}</tr>{"".join(rows)}</table></div>'


def _figure(report: Report, name: str) -> str:
    return "{:.6g} → {:.6g}".format(*report.figures[name]) if name in report.figures else ""


def _row(name: str, cells: Sequence[str]) -> str:
    return f"<tr><td>{escaped(name)}</td>{''.join(f'<td class=number>{cell}</td>' for cell in cells)}</tr>"


def _layers(rows: Sequence[Row]) -> str:
    largest = max([row.bytes_before for row in rows] + [1])
    body = "".join(
        f"<tr><td><code>{escaped(row.path)}</code></td><td>{' × '.join(map(str, row.shape)) or 'scalar'}</td>"
        f"<td>{escaped(row.stored)}</td><td class='number'>{row.bytes_after:,}</td>"
        f"<td class='number'>{row.bytes_before:,}</td>"
        f"<td class='number'>{'exact' if math.isinf(row.sqnr) else f'{row.sqnr:.1f}'}</td>"
        f"<td class='number'>{row.zeros:.0%}</td>"
        f'<td class="bar"><i style="width:{100 * row.bytes_after / largest:.1f}%"></i></td></tr>'
        for row in rows
    )
    head = "".join(f"<th class='number'>{name}</th>" for name in ("bytes", "before", "SQNR (dB)", "zeros"))
    return (
        '<div class="scroll"><table><caption>bars: bytes, of those of the largest parameter before</caption>'
        f"<tr><th>parameter</th><th>shape</th><th>stored</th>{head}<th></th></tr>{body}</table></div>"
    )
