"""Networks as tables: what Linen and NNX share. Drawing needs rich, an extra of each package.

Each package finds out which calls there are; shapes, sizes, counted operations and drawing are here.
"""

import functools
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from fx_core.array_node import is_array_node
from fx_core.compat.jax import evaluate_jaxpr, inner_jaxprs
from fx_core.errors.kinds import MissingPackageError
from fx_core.meta import AxisMetadata

__all__ = ["abstract", "count_flops", "draw", "inexact", "show_shapes", "show_size", "size_and_bytes"]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def abstract(tree: Any) -> Any:
    """Replaces the arrays of a tree by their shapes and dtypes."""
    if isinstance(tree, jax.Array):  # as most often, in half the time
        return jax.ShapeDtypeStruct(tree.shape, tree.dtype)
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype) if hasattr(x, "shape") and hasattr(x, "dtype") else x, tree
    )


def inexact(tree: Any) -> list[Any]:
    """Returns the arrays of a tree that have gradients."""
    return [x for x in jax.tree.leaves(tree) if hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.inexact)]


def size_and_bytes(tree: Any) -> tuple[int, int]:
    """Counts the elements and the bytes of the arrays of a tree; array-like parameters by their bytes as stored.

    >>> import numpy as np
    >>> size_and_bytes({"a": np.ones((2, 3), np.float32), "b": 1})
    (6, 24)
    """
    sizes = [
        (math.prod(leaf.shape), leaf.nbytes if is_array_node(leaf) else math.prod(leaf.shape) * leaf.dtype.itemsize)
        for leaf in jax.tree.leaves(tree, is_leaf=is_array_node)
        if hasattr(leaf, "dtype")
    ]
    return sum(size for size, _ in sizes), int(sum(width for _, width in sizes))


def count_flops(fun: Callable[..., Any], *args: Any) -> int:
    """Counts the floating point operations that a function of abstract arrays takes.

    The compiler counts them. It knows what a step of a loop takes and not how many there are: the steps of scans are
    multiplied here, those of a loop whose end its data decide count once. Of branches the longest counts.

    Args:
      fun: a function of arrays.
      *args: `jax.ShapeDtypeStruct` in place of the arrays.

    Returns:
      The number, 0 if the compiler cannot say.

    >>> row, matrix = jax.ShapeDtypeStruct((1, 8), "float32"), jax.ShapeDtypeStruct((8, 8), "float32")
    >>> step = lambda x, matrix: x @ matrix
    >>> count_flops(step, row, matrix)
    128
    >>> loop = lambda x, matrix: jax.lax.scan(lambda x, _: (step(x, matrix), None), x, length=10)[0]
    >>> count_flops(loop, row, matrix) // 128
    10
    """
    return _flops(jax.make_jaxpr(fun)(*args))


def _flops(closed: Any) -> int:
    shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in closed.in_avals]
    analysis = jax.jit(functools.partial(evaluate_jaxpr, closed)).lower(*shapes).cost_analysis()
    return int((analysis or {}).get("flops", 0)) + _missing_flops(closed)


def _missing_flops(closed: Any) -> int:
    """The operations of scans beyond those that the compiler counts."""
    total = 0
    for name, params, inner in inner_jaxprs(closed):
        missing = [_missing_flops(jaxpr) for jaxpr in inner]
        if name == "scan":
            steps, unroll = params["length"], int(params["unroll"])
            counted = (unroll if steps >= unroll else 0) + steps % unroll  # as often the step stands in the program
            total += (steps - counted) * _flops(inner[0]) + counted * missing[0]
        else:
            total += max(missing) if name == "cond" else sum(missing)
    return total


def show_size(size: int, width: float) -> str:
    """Writes a number of elements and of bytes.

    >>> show_size(1500, 6000)
    '1,500 (6.0 KB)'
    """
    units = iter(("B", "KB", "MB", "GB", "TB"))
    unit = next(units)
    amount: float = width
    while amount >= 1000 and unit != "TB":
        amount, unit = amount / 1000, next(units)
    return f"{size:,} ({amount:.0f} {unit})" if unit == "B" else f"{size:,} ({amount:.1f} {unit})"


def show_shapes(value: Any, indent: str = "") -> str:
    """Writes a tree of shapes, one entry a line. The names of axes follow the shapes.

    >>> import numpy as np
    >>> print(show_shapes({"x": np.ones((2, 3), np.float32), "rate": 0.5}))
    x: float32[2,3]
    rate: 0.5
    """
    if isinstance(value, AxisMetadata):
        names = getattr(value, "names", None)
        shapes = show_shapes(jax.tree.leaves(value)[0]) if len(jax.tree.leaves(value)) == 1 else repr(value)
        return shapes if names is None else f"{shapes} P{_axis(tuple(names))}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{_named(value.dtype)}[{','.join(map(str, value.shape))}]"
    if isinstance(value, Mapping) and value:
        return "\n".join(_entry(f"{key}:", item, indent) for key, item in value.items())
    if isinstance(value, (list, tuple)) and value:
        return "\n".join(_entry("-", item, indent) for item in value)
    return "{}" if isinstance(value, Mapping) else repr(value)


@functools.cache
def _named(dtype: Any) -> str:
    return str(dtype)  # which for NumPy's takes as long as all the rest of a shape


def _axis(name: Any) -> str:
    if not isinstance(name, tuple):
        return str(name)
    return f"({', '.join(map(_axis, name))}{',' if len(name) == 1 else ''})"


def _entry(label: str, item: Any, indent: str) -> str:
    text = show_shapes(item, indent + "  ")
    return f"{indent}{label}\n{text}" if "\n" in text else f"{indent}{label} {text.strip()}"


def draw(
    package: str,
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    feet: Sequence[str],
    caption: str,
    *,
    console_kwargs: Mapping[str, Any] | None = None,
    table_kwargs: Mapping[str, Any] = _NOTHING,
    column_kwargs: Mapping[str, Any] = _NOTHING,
) -> str:
    """Draws a table.

    Args:
      package: whose extra brings rich, for the error.
      title: above the table.
      columns: their heads.
      rows: the cells.
      feet: the last row.
      caption: below the table.
      console_kwargs: options of ``rich.console.Console``.
      table_kwargs: options of ``rich.table.Table``.
      column_kwargs: options of its columns.

    Raises:
      MissingPackageError: rich is not installed.
    """
    try:
        import rich.console
        import rich.table
        import rich.text
    except ImportError as error:
        raise MissingPackageError(
            "tabulate needs the package rich.",
            expected=f"the extra summary of {package}",
            got="no module named 'rich'",
            fix=f"pip install '{package}[summary]'",
        ) from error
    options = {"show_header": True, "show_lines": True, "show_footer": True, "title": title, **table_kwargs}

    def printed(rows: Iterable[Iterable[Any]]) -> str:
        drawn = rich.table.Table(**options)
        for column, foot in zip(columns, feet, strict=True):
            drawn.add_column(column, footer=foot, **column_kwargs)
        for row in rows:
            drawn.add_row(*row)
        drawn.caption = caption
        console = rich.console.Console(
            file=io.StringIO(), **{"force_terminal": True, "force_jupyter": False, **(console_kwargs or {})}
        )
        console.print(drawn)
        return "\n" + console.file.getvalue() + "\n"  # type: ignore[attr-defined]

    rows = [list(row) for row in rows]
    # Rows without a style are joined here. Rich, asked for each cell, takes 51 ms for the 124 of ResNet-50, this 7.
    plain = not table_kwargs and not column_kwargs and {"width", "force_terminal"}.issuperset(console_kwargs or ())
    text = _joined(rows, printed) if plain and rows else None
    return printed([map(rich.text.Text, row) for row in rows]) if text is None else text


_MARK = "\ue000"  # of a private use: in no name


def _joined(rows: Sequence[Sequence[str]], printed: Callable[[Iterable[Iterable[Any]]], str]) -> str | None:
    """Puts rows in the place of the two that rich has drawn for all, with widths and lines of its choice; or None."""
    cells = [_Cells(texts) for texts in zip(*rows, strict=True)]
    lines = printed([cells, cells]).split("\n")
    at = [number for number, line in enumerate(lines) if _MARK in line]
    if len(at) != 2 or at[1] != at[0] + 2 or any(column.options is None for column in cells):
        return None  # too narrow for all columns
    line, between = lines[at[0] : at[1]]
    left, divider, right = line[0], line[1 + len(cells[0].blank)], line[-1]
    body: list[str] = []
    for row in rows:
        drawn = [column.lines(text) for column, text in zip(cells, row)]
        height = max(map(len, drawn))
        filled = [part + [column.blank] * (height - len(part)) for column, part in zip(cells, drawn)]
        body += [between, *(left + divider.join(parts) + right for parts in zip(*filled))]
    return "\n".join([*lines[: at[0]], *body[1:], *lines[at[1] + 1 :]])


class _Cells:
    """The cells of a column: rich measures all of them as one, and draws a mark."""

    def __init__(self, texts: Sequence[str]):
        self._texts = "\n".join(dict.fromkeys(texts))
        self._measured: Any = None
        self._lines: dict[str, list[str]] = {}
        self.console: Any = None
        self.options: Any = None
        self.blank = ""

    def __rich_measure__(self, console: Any, options: Any) -> Any:
        import rich.text

        self._measured = self._measured or rich.text.Text(self._texts).__rich_measure__(console, options)
        return self._measured

    def __rich_console__(self, console: Any, options: Any) -> Any:
        import rich.segment

        self.console, self.options, self.blank = console, options, " " * (options.max_width + 2)
        yield rich.segment.Segment(_MARK)

    def lines(self, text: str) -> list[str]:
        """Returns a text as rich lays it out, line by line, with the padding of a table."""
        return [drawn for line in text.split("\n") for drawn in self._lines.get(line) or self._wrapped(line)]

    def _wrapped(self, line: str) -> list[str]:
        import rich.text

        options, width = self.options, self.options.max_width
        wrapped = rich.text.Text(line).wrap(self.console, width, justify=options.justify, overflow=options.overflow)
        for part in wrapped:
            part.pad_right(max(0, width - part.cell_len))
        found = self._lines[line] = [f" {part.plain} " for part in wrapped]
        return found
