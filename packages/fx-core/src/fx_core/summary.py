"""Networks as tables: what Linen and NNX share. Drawing needs rich, an extra of each package.

Each package finds out which calls there are; shapes, sizes, counted operations and drawing are here.
"""

import functools
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fx_core.array_node import is_array_node
from fx_core.compat.jax import evaluate_jaxpr, inner_jaxprs
from fx_core.errors.kinds import MissingPackageError
from fx_core.meta import AxisMetadata

__all__ = ["abstract", "count_flops", "draw", "inexact", "show_shapes", "show_size", "size_and_bytes"]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def abstract(tree: Any) -> Any:
    """Replaces the arrays of a tree by their shapes and dtypes."""
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
        (int(np.prod(leaf.shape)), leaf.nbytes if is_array_node(leaf) else np.prod(leaf.shape) * leaf.dtype.itemsize)
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
        dtype = value.dtype if isinstance(value.dtype, np.dtype) else str(value.dtype)
        return f"{dtype}[{','.join(map(str, value.shape))}]"
    if isinstance(value, Mapping) and value:
        return "\n".join(_entry(f"{key}:", item, indent) for key, item in value.items())
    if isinstance(value, (list, tuple)) and value:
        return "\n".join(_entry("-", item, indent) for item in value)
    return "{}" if isinstance(value, Mapping) else repr(value)


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
        import rich.measure
        import rich.table
        import rich.text
    except ImportError as error:
        raise MissingPackageError(
            "tabulate needs the package rich.",
            expected=f"the extra summary of {package}",
            got="no module named 'rich'",
            fix=f"pip install '{package}[summary]'",
        ) from error
    options = {"show_header": True, "show_lines": True, "show_footer": True, "title": title}
    drawn = rich.table.Table(**{**options, **table_kwargs})
    for column, foot in zip(columns, feet, strict=True):
        drawn.add_column(column, footer=foot, **column_kwargs)
    # Most cells say what others say.
    laid_out = functools.cache(lambda text: _Cell(rich.text.Text(text)))
    for row in rows:
        drawn.add_row(*map(laid_out, row))
    drawn.caption = caption
    options = {"force_terminal": True, "force_jupyter": False, **(console_kwargs or {})}
    console = rich.console.Console(file=io.StringIO(), **options)
    console.print(drawn)
    return "\n" + console.file.getvalue() + "\n"  # type: ignore[attr-defined]


class _Cell:
    """A text of a table that is measured once, and laid out once for a width."""

    def __init__(self, text: Any):
        self._text = text
        self._measured: dict[int, Any] = {}
        self._segments: dict[tuple[Any, ...], list[Any]] = {}

    def __rich_measure__(self, console: Any, options: Any) -> Any:
        found = self._measured.get(options.max_width)
        if found is None:
            found = self._measured[options.max_width] = self._text.__rich_measure__(console, options)
        return found

    def __rich_console__(self, console: Any, options: Any) -> Any:
        layout = (options.max_width, options.justify, options.overflow, options.no_wrap)
        found = self._segments.get(layout)
        if found is None:
            found = self._segments[layout] = list(self._text.__rich_console__(console, options))
        return found
