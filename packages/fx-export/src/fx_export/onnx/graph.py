"""The ONNX graph while it is built: nodes, initializers, names."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fx_export.onnx.tensor import Shape


@dataclasses.dataclass
class Node:
    """One operator.

    Attributes:
      op: its type.
      inputs: names of values; an empty one is left out.
      outputs: names of values.
      attributes: numbers, texts, lists of them, or a `Graph`.
      where: path of the module that it comes from.
      domain: of the operator; empty for ONNX's own.
    """

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    where: str = ""
    domain: str = ""


@dataclasses.dataclass
class Graph:
    """Nodes in the order of computation; graphs inside of control flow see the values of those around them.

    Attributes:
      parent: the graph around it.
      nodes: the operators.
      inputs: names of the inputs.
      outputs: names of the outputs.
      known: what was already computed, by operator, inputs and attributes.
    """

    parent: "Graph | None" = dataclasses.field(default=None, repr=False)
    nodes: list[Node] = dataclasses.field(default_factory=list, repr=False)
    inputs: list[str] = dataclasses.field(default_factory=list)
    outputs: list[str] = dataclasses.field(default_factory=list)
    known: dict[Any, list[str]] = dataclasses.field(default_factory=dict, repr=False)

    def find(self, key: Any) -> list[str] | None:
        """Returns the values of an equal node, here or around."""
        graph: Graph | None = self
        while graph is not None:
            if key in graph.known:
                return graph.known[key]
            graph = graph.parent
        return None


class Values:
    """The names of all values with their dtypes and shapes, and the initializers by name."""

    def __init__(self):
        self.types: dict[str, tuple[np.dtype, Shape]] = {}
        self.initializers: dict[str, np.ndarray] = {}
        self._constants: dict[Any, str] = {}
        self._counts: dict[str, int] = {}

    def fresh(self, stem: str, dtype: np.dtype, shape: Sequence[Any]) -> str:
        """Creates a name and notes what it stands for."""
        count = self._counts.get(stem, 0)
        self._counts[stem] = count + 1
        name = f"{stem}_{count}" if count or stem not in self.types else f"{stem}_{count + 1}"
        if name in self.types:
            return self.fresh(stem, dtype, shape)
        self.types[name] = (np.dtype(dtype), tuple(shape))
        return name

    def named(self, name: str, dtype: np.dtype, shape: Sequence[Any]) -> str:
        """Takes a name as it is, or with a number where it is taken."""
        if name in self.types:
            return self.fresh(name, dtype, shape)
        self.types[name] = (np.dtype(dtype), tuple(shape))
        return name

    def parameter(self, name: str, array: np.ndarray) -> str:
        """Adds an initializer under its own name."""
        name = self.named(name, array.dtype, array.shape)
        self.initializers[name] = array
        return name

    def constant(self, array: np.ndarray) -> str:
        """Adds an initializer for a constant; equal ones are one."""
        key = (array.dtype.name, array.shape, array.tobytes())
        name = self._constants.get(key)
        if name is None:
            name = self._constants[key] = self.fresh("constant", array.dtype, array.shape)
            self.initializers[name] = array
        return name


def frozen(attributes: Mapping[str, Any]) -> Any:
    """Returns attributes as something that can be compared."""
    return tuple(sorted((key, repr(value)) for key, value in attributes.items()))
