"""Networks as tables: what the faces share. Drawing needs rich, which each face has as an extra.

A face finds out which calls there are; shapes, sizes, counted operations and drawing are here.
"""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fx_core.errors.summary import SummaryExtraMissingError

__all__ = ["abstract", "count_flops", "draw", "inexact", "show_shapes", "show_size", "size_and_bytes"]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def abstract(tree: Any) -> Any:
    """Replace the arrays of a tree by their shapes and dtypes."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype) if hasattr(x, "shape") and hasattr(x, "dtype") else x, tree
    )


def inexact(tree: Any) -> list[Any]:
    """Give the arrays of a tree that have gradients."""
    return [x for x in jax.tree.leaves(tree) if hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.inexact)]


def size_and_bytes(tree: Any) -> tuple[int, int]:
    """Count the elements and the bytes of the arrays of a tree.

    >>> import numpy as np
    >>> size_and_bytes({"a": np.ones((2, 3), np.float32), "b": 1})
    (6, 24)
    """
    sizes = [
        (int(np.prod(leaf.shape)), leaf.dtype.itemsize) for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")
    ]
    return sum(size for size, _ in sizes), sum(size * width for size, width in sizes)


def count_flops(fun: Callable[..., Any], *args: Any) -> int:
    """Ask the compiler how many floating point operations a function of abstract arrays takes; 0 if it cannot say."""
    analysis = jax.jit(fun).lower(*args).cost_analysis()
    return int((analysis or {}).get("flops", 0))


def show_size(size: int, width: float) -> str:
    """Write a number of elements and of bytes.

    >>> show_size(1500, 6000)
    '1,500 (5.9 KB)'
    """
    units = iter(("B", "KB", "MB", "GB", "TB"))
    unit = next(units)
    amount: float = width
    while amount >= 1024 and unit != "TB":
        amount, unit = amount / 1024, next(units)
    return f"{size:,} ({amount:.0f} {unit})" if unit == "B" else f"{size:,} ({amount:.1f} {unit})"


def show_shapes(value: Any, indent: str = "") -> str:
    """Write a tree of shapes, one entry a line.

    >>> import numpy as np
    >>> print(show_shapes({"x": np.ones((2, 3), np.float32), "rate": 0.5}))
    x: float32[2,3]
    rate: 0.5
    """
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        dtype = value.dtype if isinstance(value.dtype, np.dtype) else str(value.dtype)
        return f"{dtype}[{','.join(map(str, value.shape))}]"
    if isinstance(value, Mapping):
        return "\n".join(_entry(f"{key}:", item, indent) for key, item in value.items())
    if isinstance(value, (list, tuple)) and value:
        return "\n".join(_entry("-", item, indent) for item in value)
    return repr(value) if value != () else ""


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
    """Draw a table.

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
      SummaryExtraMissingError: rich is not installed.
    """
    try:
        import rich.console
        import rich.table
        import rich.text
    except ImportError as error:
        raise SummaryExtraMissingError(package) from error
    options = {"show_header": True, "show_lines": True, "show_footer": True, "title": title}
    drawn = rich.table.Table(**{**options, **table_kwargs})
    for column, foot in zip(columns, feet, strict=True):
        drawn.add_column(column, footer=foot, **column_kwargs)
    for row in rows:
        drawn.add_row(*map(rich.text.Text, row))
    drawn.caption = caption
    options = {"force_terminal": True, "force_jupyter": False, **(console_kwargs or {})}
    console = rich.console.Console(file=io.StringIO(), **options)
    console.print(drawn)
    return "\n" + console.file.getvalue() + "\n"  # type: ignore[attr-defined]
