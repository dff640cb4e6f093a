"""Tables as text."""

import io
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from fx_core.errors import FxError
from fx_core.scope import DenyList

from fx_linen.summary._table import Row, Table, make_table, size_and_bytes

__all__ = ["SummaryExtraMissingError", "render", "tabulate"]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class SummaryExtraMissingError(FxError, ImportError):
    """Tables are drawn by rich, which is not installed."""

    def __init__(self):
        super().__init__(
            "tabulate needs the package rich.",
            expected="the extra summary of fx-linen",
            got="no module named 'rich'",
            fix="pip install 'fx-linen[summary]'",
        )


def tabulate(
    module: Any,
    rngs: Any,
    depth: int | None = None,
    show_repeated: bool = False,
    mutable: Any = DenyList("intermediates"),  # noqa: B008 (an immutable filter)
    console_kwargs: Mapping[str, Any] | None = None,
    table_kwargs: Mapping[str, Any] = _NOTHING,
    column_kwargs: Mapping[str, Any] = _NOTHING,
    compute_flops: bool = False,
    compute_vjp_flops: bool = False,
    **kwargs: Any,
) -> Callable[..., str]:
    """Make a function of a module's arguments that shows the module as a table.

    Nothing is computed: the module is traced with abstract values.

    Args:
      module: the network, unbound.
      rngs: keys for ``init``.
      depth: how deep submodules have rows of their own; deeper ones are counted with the row above.
      show_repeated: show calls of a module after its first, too.
      mutable: the collections to show.
      console_kwargs: options of ``rich.console.Console``.
      table_kwargs: options of ``rich.table.Table``.
      column_kwargs: options of its columns.
      compute_flops: a column with the floating point operations of each call.
      compute_vjp_flops: a column with those of each call and its gradient.
      **kwargs: arguments of ``init``, such as ``method``.

    Returns:
      A function of ``(*args, **kwargs)`` that returns the text.

    Raises:
      SummaryExtraMissingError: rich is not installed.
    """

    def show(*args: Any, **more: Any) -> str:
        table = make_table(
            module,
            rngs,
            args,
            {**kwargs, **more},
            depth=depth,
            show_repeated=show_repeated,
            mutable=mutable,
            compute_flops=compute_flops,
            compute_vjp_flops=compute_vjp_flops,
        )
        shown = [name for name, wanted in (("flops", compute_flops), ("vjp_flops", compute_vjp_flops)) if wanted]
        return render(table, shown, console_kwargs, table_kwargs, column_kwargs)

    return show


def render(
    table: Table,
    counts: Iterable[str] = (),
    console_kwargs: Mapping[str, Any] | None = None,
    table_kwargs: Mapping[str, Any] = _NOTHING,
    column_kwargs: Mapping[str, Any] = _NOTHING,
) -> str:
    """Draw a table.

    Args:
      table: its rows.
      counts: which of ``"flops"`` and ``"vjp_flops"`` to show.
      console_kwargs: options of ``rich.console.Console``.
      table_kwargs: options of ``rich.table.Table``.
      column_kwargs: options of its columns.
    """
    try:
        import rich.console
        import rich.table
        import rich.text
    except ImportError as error:
        raise SummaryExtraMissingError() from error
    counts = list(counts)
    name = type(table.module).__name__
    options = {"show_header": True, "show_lines": True, "show_footer": True, "title": f"{name} Summary"}
    drawn = rich.table.Table(**{**options, **table_kwargs})
    totals = {col: [0, 0] for col in table.collections}
    for row in table:
        for col, (size, width) in row.size_and_bytes(table.collections).items():
            totals[col][0] += size
            totals[col][1] += width
    footers = [_size(*totals[col]) for col in table.collections]
    columns = ["path", "module", "inputs", "outputs", *counts, *table.collections]
    feet = ["", "", "", "Total", *[""] * len(counts), *footers]
    for column, foot in zip(columns, feet, strict=True):
        drawn.add_column(column, footer=foot, **column_kwargs)
    for row in table:
        drawn.add_row(*map(rich.text.Text, _cells(row, table, counts)))
    whole = [sum(total[i] for total in totals.values()) for i in range(2)]
    drawn.caption = f"\nTotal Parameters: {_size(*whole)}"
    options = {"force_terminal": True, "force_jupyter": False, **(console_kwargs or {})}
    console = rich.console.Console(file=io.StringIO(), **options)
    console.print(drawn)
    return "\n" + console.file.getvalue() + "\n"  # type: ignore[attr-defined]


def _cells(row: Row, table: Table, counts: list[str]) -> list[str]:
    method = "" if row.method == "__call__" else f".{row.method}"
    cells = ["/".join(row.path), f"{type(row.module_copy).__name__}{method}", _lines(row.inputs), _lines(row.outputs)]
    cells += [f"{getattr(row, count):,}" for count in counts]
    for col in table.collections:
        size, width = size_and_bytes(row.counted_variables.get(col, {}))
        own = _lines(row.module_variables.get(col, {})) if row.module_variables.get(col) else ""
        cells.append("\n\n".join(part for part in (own, _size(size, width) if size else "") if part))
    return cells


def _size(size: int, width: float) -> str:
    units = iter(("B", "KB", "MB", "GB", "TB"))
    unit = next(units)
    amount: float = width
    while amount >= 1024 and unit != "TB":
        amount, unit = amount / 1024, next(units)
    return f"{size:,} ({amount:.0f} {unit})" if unit == "B" else f"{size:,} ({amount:.1f} {unit})"


def _lines(value: Any, indent: str = "") -> str:
    """A tree of shapes, one entry a line."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        dtype = value.dtype if isinstance(value.dtype, np.dtype) else str(value.dtype)
        return f"{dtype}[{','.join(map(str, value.shape))}]"
    if isinstance(value, Mapping):
        return "\n".join(_entry(f"{key}:", item, indent) for key, item in value.items())
    if isinstance(value, (list, tuple)) and value:
        return "\n".join(_entry("-", item, indent) for item in value)
    return repr(value) if value != () else ""


def _entry(label: str, item: Any, indent: str) -> str:
    text = _lines(item, indent + "  ")
    return f"{indent}{label}\n{text}" if "\n" in text else f"{indent}{label} {text.strip()}"
