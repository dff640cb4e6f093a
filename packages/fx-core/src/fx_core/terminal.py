"""Text from files and programs on its way to a terminal."""

import shutil
import unicodedata
from collections.abc import Collection, Sequence

__all__ = ["plain", "table_text"]


def plain(text: str) -> str:
    """Returns the text without what a terminal would obey: control and formatting characters are written as escapes.

    >>> plain("a\\x1b[31mb\\n")
    'a\\\\x1b[31mb\\n'
    """
    return "".join(char if char == "\n" or _is_visible(char) else _escape(char) for char in text)


def _is_visible(char: str) -> bool:
    return char.isprintable() and not unicodedata.category(char).startswith("C")


def _escape(char: str) -> str:
    # Spaces of other alphabets count as not printable, too.
    return char if unicodedata.category(char) == "Zs" else ascii(char)[1:-1]


def table_text(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    total: Sequence[str] | None = None,
    right: Collection[str] = (),
    width: int | None = None,
) -> str:
    """Returns a table that fits the terminal and cuts nothing.

    Columns without any value are left out. Where the rest is wider than the terminal, each row takes two lines or
    more: the first cell by itself, and the others below it, each with its title.

    Args:
      columns: titles.
      rows: cells of each row; control characters are written as escapes.
      total: cells of a last row that sums up the others.
      right: titles of the columns that are aligned to the right.
      width: columns of the terminal; by default those of standard output, or 80 where it is piped.

    >>> print(table_text(["path", "size"], [["a/kernel", "24 B"], ["b", "4 B"]], right=["size"], width=80))
    path      size
    --------  ----
    a/kernel  24 B
    b          4 B
    >>> print(table_text(["path", "dtype", "size"], [["layers/0/kernel", "float32", "24 B"]], width=20))
    path
    ----
    layers/0/kernel
        dtype float32
        size 24 B
    """
    width = width or shutil.get_terminal_size((80, 24)).columns
    body = [[_one_line(cell) for cell in row] for row in [*rows, *([total] if total else [])]]
    kept = [index for index, _ in enumerate(columns) if any(row[index] for row in body)]
    titles = [_one_line(columns[index]) for index in kept]
    body = [[row[index] for index in kept] for row in body]
    widths = [max(map(_width, cells)) for cells in zip(titles, *body)]
    if sum(widths) + 2 * (len(widths) - 1) > width:
        return "\n".join(
            [titles[0], "-" * len(titles[0]), *(line for row in body for line in _stacked(titles, row, width))]
        )
    to_the_right = [columns[index] in right for index in kept]
    rule = ["-" * size for size in widths]
    lines = [titles, rule, *body]
    if total and rows:
        lines.insert(-1, rule)
    return "\n".join(_aligned(row, widths, to_the_right) for row in lines)


def _one_line(cell: str) -> str:
    return plain(cell).replace("\n", "\\n")


def _width(text: str) -> int:
    """Columns that a text takes: some letters are two wide, accents take none."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)


def _aligned(row: Sequence[str], widths: Sequence[int], to_the_right: Sequence[bool]) -> str:
    gaps = [" " * (size - _width(cell)) for cell, size in zip(row, widths)]
    cells = (gap + cell if right else cell + gap for cell, gap, right in zip(row, gaps, to_the_right))
    return "  ".join(cells).rstrip()


def _stacked(titles: Sequence[str], row: Sequence[str], width: int) -> list[str]:
    indent, lines = " " * 4, [row[0]]
    for title, cell in zip(titles[1:], row[1:]):
        # Cells stay whole, even where they are longer than a line.
        fits = len(lines) > 1 and _width(lines[-1]) + _width(title) + _width(cell) + 3 <= width
        if cell and fits:
            lines[-1] += f"  {title} {cell}"
        elif cell:
            lines.append(f"{indent}{title} {cell}")
    return lines
