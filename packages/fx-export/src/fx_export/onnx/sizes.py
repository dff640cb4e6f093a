"""Sizes that are known only when the network runs: from symbols to operators."""

import ast
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fx_export.errors import unsupported_program
from fx_export.onnx.tensor import Dim, Tensor, is_static, stored_tensor
from fx_export.sizes import is_fixed, linear, parsed

if TYPE_CHECKING:
    from fx_export.onnx.builder import Builder

_OPERATORS = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul"}


class Sizes:
    """Computes expressions of symbols such as ``2*batch + 1`` from the shapes of the inputs."""

    def __init__(self, build: "Builder"):
        self._build = build
        self._symbols: dict[str, Tensor] = {}

    def learn(self, name: str, shape: Sequence[Dim]) -> None:
        """Records the symbols that the shape of an input determines."""
        for axis, size in enumerate(shape):
            solved = None if is_fixed(size) else linear(size)
            if solved is not None and solved[0] not in self._symbols:
                self._add(solved[0], name, shape, axis, *solved[1:])

    def _add(self, symbol: str, name: str, shape: Sequence[Dim], axis: int, factor: int, offset: int) -> None:
        build = self._build
        attributes = {"start": axis, "end": axis + 1}
        (size,) = build.emit("Shape", [name], [(np.int64, (1,))], attributes)
        # One element: a vector where a scalar is meant does no harm, since it is relabeled.
        value = stored_tensor(size, (1,), np.int64).relabeled((), (None,))
        if offset:
            value = build.elementwise("Sub", [value, build.constant(offset, np.int64)])
        if factor != 1:
            value = build.elementwise("Div", [value, build.constant(factor, np.int64)])
        self._symbols[symbol] = value

    def scalar(self, dim: Dim) -> Tensor:
        """Returns a size as a scalar of int64."""
        if is_fixed(dim):
            return self._build.constant(int(dim), np.int64)
        return self._compute(parsed(dim), str(dim))

    def vector(self, shape: Sequence[Dim]) -> Tensor:
        """Returns sizes as a vector of int64."""
        build = self._build
        if is_static(shape):
            return build.constant([int(size) for size in shape], np.int64)
        parts = [build.broadcast(self.scalar(size), (1,), ()) for size in shape]
        if len(parts) == 1:
            return parts[0]
        return build.op("Concat", parts, (len(parts),), np.int64, typed=range(len(parts)), axis=0)

    def _compute(self, node: Any, text: str) -> Tensor:
        build = self._build
        if isinstance(node, ast.Constant):
            return build.constant(node.value, np.int64)
        if isinstance(node, ast.Name):
            if node.id not in self._symbols:
                raise unsupported_program(f"the size {node.id!r}, in {text!r}, which is no size of an input by itself")
            return self._symbols[node.id]
        if isinstance(node, ast.UnaryOp):
            return build.elementwise("Neg", [self._compute(node.operand, text)])
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            base, exponent = self._compute(node.left, text), self._compute(node.right, text)
            return build.elementwise("Pow", [base, exponent])
        if isinstance(node, ast.BinOp):
            return self._apply(_OPERATORS[type(node.op)], node.left, node.right, text)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            name = {"max": "Max", "min": "Min"}.get(node.func.id, node.func.id)
            return self._apply(name, node.args[0], node.args[1], text)
        raise unsupported_program(f"the size {text!r}")

    def _apply(self, op: str, left: Any, right: Any, text: str) -> Tensor:
        build = self._build
        one, other = self._compute(left, text), self._compute(right, text)
        # Mod has the sign of the divisor, as in Python; Div cuts towards zero, so the rest goes first.
        if op == "mod":
            return build.elementwise("Mod", [one, other])
        if op == "floordiv":
            rest = build.elementwise("Mod", [one, other])
            return build.elementwise("Div", [build.elementwise("Sub", [one, rest]), other])
        return build.elementwise(op, [one, other])
