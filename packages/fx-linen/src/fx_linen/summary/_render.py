"""Tables as text."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from fx_core.scope import DenyList
from fx_core.summary import draw, show_shapes, show_size

from fx_linen.summary._table import Row, Table, make_table

__all__ = ["render", "tabulate"]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


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
    """Creates a function of a module's arguments that shows the module as a table.

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
      MissingPackageError: rich is not installed.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> text = nn.tabulate(nn.Dense(2), jax.random.key(0))(jnp.ones((1, 3)))
    >>> "Total Parameters: 8" in text
    True
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
    """Draws a table.

    Args:
      table: its rows.
      counts: which of ``"flops"`` and ``"vjp_flops"`` to show.
      console_kwargs: options of ``rich.console.Console``.
      table_kwargs: options of ``rich.table.Table``.
      column_kwargs: options of its columns.
    """
    counts = list(counts)
    totals = {col: [0, 0] for col in table.collections}
    sizes = [row.size_and_bytes(table.collections) for row in table]
    for counted in sizes:
        for col, (size, width) in counted.items():
            totals[col][0] += size
            totals[col][1] += width
    whole = [sum(total[i] for total in totals.values()) for i in range(2)]
    return draw(
        "fx-linen",
        f"{type(table.module).__name__} Summary",
        ["path", "module", "inputs", "outputs", *counts, *table.collections],
        [_cells(row, counted, counts) for row, counted in zip(table, sizes)],
        ["", "", "", "Total", *[""] * len(counts), *(show_size(*totals[col]) for col in table.collections)],
        f"\nTotal Parameters: {show_size(*whole)}",
        console_kwargs=console_kwargs,
        table_kwargs=table_kwargs,
        column_kwargs=column_kwargs,
    )


def _cells(row: Row, sizes: Mapping[str, tuple[int, int]], counts: list[str]) -> list[str]:
    method = "" if row.method == "__call__" else f".{row.method}"
    cells = [
        "/".join(row.path),
        f"{type(row.module_copy).__name__}{method}",
        show_shapes(row.inputs),
        show_shapes(row.outputs),
    ]
    cells += [f"{getattr(row, count):,}" for count in counts]
    for col, (size, width) in sizes.items():
        own = show_shapes(row.module_variables.get(col, {})) if row.module_variables.get(col) else ""
        cells.append("\n\n".join(part for part in (own, show_size(size, width) if size else "") if part))
    return cells
