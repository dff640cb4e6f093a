"""Prefixes for the variables of one model."""

from collections.abc import Callable, Mapping
from typing import Any

from fx_nnx.filters import Filter
from fx_nnx.graph.assembly import assembly_of
from fx_nnx.graph.record import record_for
from fx_nnx.transforms.prefixes import StateAxes

__all__ = ["prefix"]


def prefix(node: Any, filter_map: Mapping[Filter, Any] | Callable[..., Any], /, *, graph: bool | None = None) -> Any:
    """Give a model of the same structure whose variables have entries for values.

    Transforms take it as the entry of the argument, in the place of a `StateAxes`.

    >>> from fx_nnx.modules.containers import Dict
    >>> from fx_nnx.variables import BatchStat, Param
    >>> axes = prefix(Dict(w=Param(1), n=BatchStat(2)), {Param: 0, ...: None})
    >>> axes.w.get_value(), axes.n.get_value()
    (0, None)

    Args:
      node: the model.
      filter_map: entries by filter, of which the first that matches counts; or a function of path and variable.
      graph: as in `fx_nnx.split`.

    Raises:
      PrefixError: no filter matches a variable.
    """
    record = record_for(node, graph)
    entry = filter_map if callable(filter_map) else StateAxes(filter_map).map_prefix
    entries = [entry(path, leaf) for path, leaf in zip(record.graphdef.paths, record.read())]
    return assembly_of(record.graphdef).make(entries)
