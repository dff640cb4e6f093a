"""A model as a table: its modules, what goes in and out of them, their variables."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.errors import InvalidAttributeError
from fx_core.summary import abstract, count_flops, draw, inexact, show_shapes, show_size, size_and_bytes

from fx_nnx.graph.children import children_of
from fx_nnx.graph.functions import merge, split
from fx_nnx.graph.iterate import iter_graph
from fx_nnx.graph.kinds import kind_of
from fx_nnx.modules.intercept import watched
from fx_nnx.modules.module import Module
from fx_nnx.paths import Path
from fx_nnx.rngs.stream import RngState, RngStream
from fx_nnx.variables.variable import Variable

__all__ = ["CallInfo", "filter_rng_streams", "tabulate"]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclasses.dataclass
class CallInfo:
    """The first call of a module, or of another public method of one, with arguments of these shapes.

    Attributes:
      call_order: how many modules were called before.
      object_id: the identity of the module.
      type: its type.
      path: where it is in the model; with the name of the method, unless that is ``__call__``.
      inputs_repr: shapes and dtypes of the arguments, as text.
      outputs: shapes and dtypes of the results.
      flops: floating point operations of the call, or None if they were not counted.
      vjp_flops: the same for the call and its gradient.
    """

    call_order: int
    object_id: int
    type: type
    path: Path
    inputs_repr: str
    outputs: Any
    flops: int | None = None
    vjp_flops: int | None = None


def filter_rng_streams(row: CallInfo) -> bool:
    """Returns whether a row is about something else than an RNG stream."""
    return not issubclass(row.type, RngStream)


def tabulate(
    obj: Any,
    *input_args: Any,
    depth: int | None = None,
    method: str = "__call__",
    row_filter: Callable[[CallInfo], bool] = filter_rng_streams,
    table_kwargs: Mapping[str, Any] = _NOTHING,
    column_kwargs: Mapping[str, Any] = _NOTHING,
    console_kwargs: Mapping[str, Any] = _NOTHING,
    compute_flops: bool = False,
    compute_vjp_flops: bool = False,
    **input_kwargs: Any,
) -> str:
    """Shows a model as a table: a row per module that is called, or method of one, and a column per kind of variable.

    A module that is called with arguments of several shapes has a row for each.

    Nothing is computed: the model is traced with abstract values, and left as it is. Needs the extra
    ``fx-nnx[summary]``.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> text = tabulate(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), jnp.ones((1, 2)), console_kwargs={"force_terminal": False})
    >>> "kernel: float32[2,3]" in text
    True

    Args:
      obj: the model.
      *input_args: arguments of the call, arrays or `jax.ShapeDtypeStruct`.
      depth: how deep modules have rows of their own; deeper ones are counted with the row above.
      method: the method to call.
      row_filter: which rows to show.
      table_kwargs: options of ``rich.table.Table``.
      column_kwargs: options of its columns.
      console_kwargs: options of ``rich.console.Console``.
      compute_flops: a column with the floating point operations of each call, as the compiler counts them.
      compute_vjp_flops: a column with those of each call and its gradient.
      **input_kwargs: more arguments of the call.

    Returns:
      The table as text.

    Raises:
      InvalidAttributeError: the model has no such method.
      MissingPackageError: rich is not installed.
    """
    if not callable(getattr(obj, method, None)):
        raise _no_such_method(type(obj).__name__, method)
    calls = _trace(obj, method, input_args, input_kwargs, depth, (compute_flops, compute_vjp_flops))
    shown = [(row, path) for row, path in calls if row_filter(row)]
    own, whole = _variables(obj, {path for _, path in shown})
    kinds = sorted({name for groups in whole.values() for name in groups})
    counts = [name for name, on in (("flops", compute_flops), ("vjp_flops", compute_vjp_flops)) if on]
    # Further methods of a module do not list its variables once more.
    rows = [_cells(row, own.pop(path, {}), whole.get(path, {}), kinds, counts) for row, path in shown]
    sizes = {name: size_and_bytes(whole[()].get(name, {})) for name in kinds}
    total = [sum(size[i] for size in sizes.values()) for i in range(2)]
    text = draw(
        "fx-nnx",
        f"{type(obj).__name__} Summary",
        ["path", "type", "inputs", "outputs", *counts, *kinds],
        rows,
        ["", "", "", "Total", *[""] * len(counts), *(show_size(*sizes[name]) for name in kinds)],
        f"\nTotal Parameters: {show_size(*total)}",
        console_kwargs=console_kwargs,
        table_kwargs=table_kwargs,
        column_kwargs=column_kwargs,
    )
    return text.removeprefix("\n")


def _trace(
    obj: Any, method: str, args: tuple[Any, ...], kwargs: Any, depth: int | None, count: tuple[bool, bool]
) -> list[tuple[CallInfo, Path]]:
    """The first call of each method of each module per shape of arguments, in their order, with the module's path."""
    graphdef, state = split(obj)
    calls: dict[tuple[Path, str], tuple[CallInfo, Path]] = {}

    def run(state: Any, arrays: list[Any]) -> None:
        model = merge(graphdef, state, copy=True)
        paths = {id(node): path for path, node in iter_graph(model) if isinstance(node, Module)}

        def watch(module: Any, name: str, args: Any, kwargs: Any, proceed: Callable[[], Any]) -> Any:
            path = paths.get(id(module))
            if path is None or (depth is not None and len(path) > depth):
                return proceed()
            at = path if name == "__call__" or (not path and name == method) else (*path, name)
            inputs = show_shapes(_inputs(args, kwargs))
            if (at, inputs) in calls:
                return proceed()
            row = CallInfo(len(calls), id(module), type(module), at, inputs, None)
            calls[at, inputs] = row, path
            if any(count):
                row.flops, row.vjp_flops = _flops(module, name, args, kwargs, count)
            out = proceed()
            row.outputs = abstract(out)
            return out

        classes = {type(node) for _, node in iter_graph(model) if isinstance(node, Module)}
        args, kwargs = fill(arrays)
        with watched(classes, watch):
            getattr(model, method)(*args, **kwargs)

    arrays, fill = _take_arrays((args, kwargs))
    jax.eval_shape(run, state, arrays)
    return list(calls.values())


def _inputs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The arguments as they are shown: a single one by itself."""
    if kwargs:
        return abstract((*args, dict(kwargs)) if args else dict(kwargs))
    return abstract(args[0] if len(args) == 1 else args)


def _take_arrays(tree: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """The arrays of arguments, and a function that puts others in their place."""
    leaves, treedef = jax.tree.flatten(tree)
    dynamic = [hasattr(leaf, "shape") and hasattr(leaf, "dtype") for leaf in leaves]

    def fill(arrays: list[Any]) -> Any:
        rest = iter(arrays)
        return jax.tree.unflatten(treedef, [next(rest) if d else leaf for leaf, d in zip(leaves, dynamic)])

    return [leaf for leaf, d in zip(leaves, dynamic) if d], fill


def _flops(module: Any, name: str, args: Any, kwargs: Any, count: tuple[bool, bool]) -> tuple[int | None, int | None]:
    """Compile a call on its own and ask how many operations it takes, forward and with its gradient."""
    graphdef, state = split(module)
    arrays, fill = _take_arrays((args, kwargs))

    def run(state: Any, arrays: list[Any]) -> Any:
        args, kwargs = fill(arrays)
        return getattr(merge(graphdef, state, copy=True), name)(*args, **kwargs)

    def with_gradient(state: Any, arrays: list[Any]) -> tuple[Any, Any]:
        leaves, treedef = jax.tree.flatten((state, arrays))
        has_gradient = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves]

        def of(inexact_leaves: list[Any]) -> list[Any]:
            rest = iter(inexact_leaves)
            filled = [next(rest) if g else leaf for leaf, g in zip(leaves, has_gradient)]
            return inexact(run(*jax.tree.unflatten(treedef, filled)))

        outputs, pull = jax.vjp(of, [leaf for leaf, g in zip(leaves, has_gradient) if g])
        return outputs, pull(jax.tree.map(jnp.ones_like, outputs))

    shapes = abstract((state, arrays))
    return (
        count_flops(run, *shapes) if count[0] else None,
        count_flops(with_gradient, *shapes) if count[1] else None,
    )


def _variables(obj: Any, rows: set[Path]) -> tuple[dict[Path, Any], dict[Path, Any]]:
    """For each module, by kind: its own variables with their names, and all variables in it, each once."""
    own: dict[Path, dict[str, dict[str, Any]]] = {}
    whole: dict[Path, dict[str, dict[int, Any]]] = {(): {}}
    for path, node in iter_graph(obj):
        if kind_of(node) in ("leaf", "variable"):
            continue
        for key, child in children_of(node):
            if isinstance(child, Variable):
                kind, value = _kind(child), abstract(child.get_value())
                own.setdefault(path, {}).setdefault(kind, {})[str(key)] = _shown(child)
                for end in range(len(path) + 1):
                    whole.setdefault(path[:end], {}).setdefault(kind, {})[id(child)] = value
    return {path: own.get(path, {}) for path in rows}, whole


def _shown(variable: Variable[Any]) -> Any:
    """What a table shows of a variable: its value, with the metadata that says something about it."""
    value, metadata = abstract(variable.get_value()), variable.get_metadata(exclude_required=True)
    notes = {name: item for name, item in metadata.items() if item is not None and not name.startswith("on_")}
    return {"value": value, **notes} if notes else value


def _kind(variable: Variable[Any]) -> str:
    """The column of a variable: keys and counts of streams are one kind."""
    return RngState.__name__ if isinstance(variable, RngState) else type(variable).__name__


def _cells(row: CallInfo, own: Any, whole: Any, kinds: list[str], counts: list[str]) -> list[str]:
    cells = ["/".join(map(str, row.path)), row.type.__name__, row.inputs_repr, show_shapes(row.outputs)]
    cells += ["" if (value := getattr(row, name)) is None else f"{value:,}" for name in counts]
    for kind in kinds:
        named = show_shapes(own[kind]) if own.get(kind) else ""
        size = show_size(*size_and_bytes(whole[kind])) if whole.get(kind) else ""
        cells.append("\n\n".join(part for part in (named, size) if part))
    return cells


def _no_such_method(layer: str, name: str) -> InvalidAttributeError:
    return InvalidAttributeError(
        f"{layer} has no method {name!r}.",
        path=layer,
        expected="the name of a method",
        got=name,
        fix="check the spelling",
    )
