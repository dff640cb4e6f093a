"""Patterns of operators: what a layer looks like when it is written out.

A pattern is a tuple of an operator and patterns for its inputs; a number stands for a constant, a name for any value,
which is the same value wherever the name comes again.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from fx_export.onnx.graph import Graph, Node, Values

Pattern = Any
_COMMUTATIVE = frozenset({"Add", "Mul", "Max", "Min"})


class Matcher:
    """Finds patterns in a graph.

    Args:
      graph: the graph.
      values: dtypes, shapes and constants of its values.
    """

    def __init__(self, graph: Graph, values: Values):
        self._values = values
        self._makers = {name: node for node in graph.nodes for name in node.outputs}

    def match(self, pattern: Pattern, name: str) -> dict[str, str] | None:
        """Returns what the names of a pattern stand for where it ends in a value, None where it does not."""
        return next(self._matches(pattern, name, {}), None)

    def number(self, name: str) -> float | None:
        """Returns a constant of one element, None for anything else."""
        array = self._values.initializers.get(name)
        return float(array.reshape(())) if array is not None and array.size == 1 else None

    def numbers(self, name: str) -> list[int]:
        """Returns a constant vector of integers; empty for anything else."""
        array = self._values.initializers.get(name)
        return [] if array is None else [int(value) for value in array.reshape(-1)]

    def maker(self, name: str) -> Node | None:
        """Returns the node that computes a value."""
        return self._makers.get(name)

    def shape(self, name: str) -> tuple[Any, ...]:
        """Returns the shape of a value."""
        return self._values.types[name][1]

    def _matches(self, pattern: Pattern, name: str, bound: Mapping[str, str]) -> Iterator[dict[str, str]]:
        if isinstance(pattern, str):
            if bound.get(pattern, name) == name:
                yield {**bound, pattern: name}
        elif isinstance(pattern, float):
            number = self.number(name)
            if number is not None and (number == pattern or abs(number - pattern) <= 1e-3 * abs(pattern)):
                yield dict(bound)
        else:
            op, *inputs = pattern
            node = self._makers.get(name)
            if node is not None and node.op == op and len(node.inputs) == len(inputs):
                yield from self._all(inputs, node.inputs, bound)
                if op in _COMMUTATIVE:
                    yield from self._all(inputs, node.inputs[::-1], bound)

    def _all(self, patterns: list[Pattern], names: list[str], bound: Mapping[str, str]) -> Iterator[dict[str, str]]:
        if not patterns:
            yield dict(bound)
            return
        for first in self._matches(patterns[0], names[0], bound):
            yield from self._all(patterns[1:], names[1:], first)


def is_vector(values: Values, name: str, size: Any) -> bool:
    """Returns whether a value is one number for each feature."""
    return values.types[name][1] == (size,)
