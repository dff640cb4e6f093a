"""What translations of primitives build with.

A translation is a function ``translate(build, eqn, *inputs)`` of a `Builder`, the equation, and a `Tensor` for each of
its inputs; it gives a `Tensor` for each output, or just the one.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from fx_core.typing import Dtype

from fx_export.onnx import layout
from fx_export.onnx.graph import Graph, Node, Values, frozen
from fx_export.onnx.kernels import computed_in, resting
from fx_export.onnx.sizes import Sizes
from fx_export.onnx.tensor import Dim, Shape, Tensor, constant_tensor, is_static, spec, stored_tensor, whole

_PREDICATES = frozenset({"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "IsNaN", "IsInf"})

Translate = Callable[..., Tensor | Sequence[Tensor]]


class Builder:
    """Adds operators to a graph.

    Attributes:
      graph: where new nodes go.
      opset: version of ONNX's operators that may be used.
      where: path of the module whose program is translated, for the names of nodes.
    """

    def __init__(self, opset: int, walk: Callable[..., list[Tensor]]):
        self.opset = opset
        self.values = Values()
        self.root = self.graph = Graph()
        self.where = ""
        self.sizes = Sizes(self)
        self._walk = walk

    # Values

    def constant(self, value: Any, dtype: Dtype | None = None) -> Tensor:
        """Returns a constant.

        Args:
          value: an array or a number.
          dtype: of the array.
        """
        return constant_tensor(np.asarray(value, dtype))

    def like(self, tensor: Tensor, value: Any) -> Tensor:
        """Returns a scalar of the dtype of a value."""
        return self.constant(value, tensor.dtype)

    def size(self, dim: Dim) -> Tensor:
        """Returns a size as a scalar of int64; it may be symbolic."""
        return self.sizes.scalar(dim)

    def shape(self, shape: Shape) -> Tensor:
        """Returns a shape as a vector of int64."""
        return self.sizes.vector(shape)

    def name(self, tensor: Tensor) -> str:
        """Returns the name of the stored value; a constant becomes an initializer."""
        if tensor.name is not None:
            return tensor.name
        assert tensor.constant is not None
        return self.values.constant(np.asarray(tensor.constant, order="C"))

    # Operators

    def emit(
        self,
        op: str,
        inputs: Sequence[str],
        outputs: Sequence[tuple[Any, Shape]],
        attributes: dict[str, Any] | None = None,
        *,
        domain: str = "",
    ) -> list[str]:
        """Adds a node as it is, or finds an equal one.

        Args:
          op: type of the operator.
          inputs: names of stored values.
          outputs: dtype and shape of each output.
          attributes: of the node.
          domain: of the operator.

        Returns:
          Names of the outputs.
        """
        attributes = attributes or {}
        nested = any(isinstance(value, Graph) for value in attributes.values())
        key = None if nested else (op, tuple(inputs), len(outputs), frozen(attributes), domain)
        found = None if key is None else self.graph.find(key)
        if found is not None:
            return found
        stem = f"{self.where}/{op}" if self.where else op
        names = [self.values.fresh(stem, np.dtype(dtype), shape) for dtype, shape in outputs]
        self.graph.nodes.append(Node(op, list(inputs), names, dict(attributes), self.where, domain))
        if key is not None:
            self.graph.known[key] = names
        return names

    def fresh_node(self, op: str, inputs: Sequence[str], outputs: Sequence[tuple[Any, Shape]]) -> list[str]:
        """Adds a node even where there is an equal one."""
        names = [self.values.fresh(op, np.dtype(dtype), shape) for dtype, shape in outputs]
        self.graph.nodes.append(Node(op, list(inputs), names, {}, self.where))
        return names

    def kernel(self, op: str, tensor: Tensor) -> np.dtype:
        """Returns the dtype in which an operator is computed for a value as it lies."""
        kernel = self._kernel(op, [tensor])
        assert kernel is not None
        return kernel

    def op(
        self,
        op: str,
        inputs: Sequence[Tensor | None],
        shape: Shape,
        dtype: Dtype | None = None,
        *,
        typed: Sequence[int] | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> Tensor:
        """Adds an operator on whole values.

        Args:
          op: type of the operator.
          inputs: values; None is left out.
          shape: of the result.
          dtype: of the result; by default that of the first input.
          typed: which inputs share the dtype of the operator; by default the first one.
          domain: of the operator.
          **attributes: of the node.
        """
        typed = [0] if typed is None else typed
        first = inputs[typed[0]] if typed else None
        kernel = self._kernel(op, [t for n, t in enumerate(inputs) if n in typed and t is not None])
        given = [
            "" if t is None else self.name(self.stored_as(self.plain(t), kernel) if n in typed else self.plain(t))
            for n, t in enumerate(inputs)
        ]
        result = np.dtype(dtype if dtype is not None else first.dtype if first else None)
        stored = self._result_kernel(op, result, first, kernel)
        (name,) = self.emit(op, given, [(stored, shape)], attributes, domain=domain)
        return self.rested(stored_tensor(name, shape, result, stored))

    def elementwise(self, op: str, inputs: Sequence[Tensor], dtype: Dtype | None = None, **attributes: Any) -> Tensor:
        """Adds an operator that works element by element, on values as they lie.

        Args:
          op: type of the operator.
          inputs: values of one shape, or scalars.
          dtype: of the result; by default that of the first input.
          **attributes: of the node.
        """
        typed = inputs[1:] if op == "Where" else inputs
        kernel = self._kernel(op, typed)
        arranged = layout.aligned(self, inputs)
        given = [t if op == "Where" and n == 0 else self.stored_as(t, kernel) for n, t in enumerate(arranged)]
        shape, axes = layout.merged(arranged)
        result = np.dtype(dtype if dtype is not None else typed[0].dtype)
        stored = self._result_kernel(op, result, typed[0], kernel)
        whole_shape = tuple(1 if axis is None else shape[axis] for axis in axes)
        (name,) = self.emit(op, [self.name(t) for t in given], [(stored, whole_shape)], attributes)
        return self.rested(Tensor(shape, result, axes, stored, name))

    def _kernel(self, op: str, inputs: Sequence[Tensor]) -> np.dtype | None:
        if not inputs:
            return None
        dtype = inputs[0].dtype
        # What is only moved is moved as it lies, if all of it lies in the same way.
        stored = {t.stored for t in inputs}
        if len(stored) == 1 and computed_in(op, inputs[0].stored) == inputs[0].stored:
            return inputs[0].stored
        return computed_in(op, resting(dtype))

    def _result_kernel(self, op: str, result: np.dtype, first: Tensor | None, kernel: np.dtype | None) -> np.dtype:
        if op not in _PREDICATES and first is not None and kernel is not None and result == first.dtype:
            return kernel
        return resting(result)

    # Dtypes

    def stored_as(self, tensor: Tensor, dtype: np.dtype | None) -> Tensor:
        """Returns the same value stored in another dtype."""
        if dtype is None or tensor.stored == dtype:
            return tensor
        if tensor.constant is not None:
            return dataclasses.replace(tensor, stored=dtype, constant=tensor.constant.astype(dtype))
        attributes: dict[str, Any] = {"to": dtype}
        if dtype.itemsize == 1 and dtype.kind not in "biu":
            attributes["saturate"] = 0
        (name,) = self.emit("Cast", [self.name(tensor)], [(dtype, tensor.stored_shape)], attributes)
        return dataclasses.replace(tensor, stored=dtype, name=name)

    def rested(self, tensor: Tensor) -> Tensor:
        """Returns a value in the dtype in which values are kept."""
        if tensor.stored == tensor.dtype:
            return tensor
        return self.stored_as(tensor, resting(tensor.dtype))

    def cast(self, tensor: Tensor, dtype: Dtype) -> Tensor:
        """Converts numbers as JAX does: towards zero from floats to integers, and to bool by comparing with zero."""
        dtype = np.dtype(dtype)
        if tensor.dtype == dtype:
            return tensor
        if tensor.constant is not None:
            constant = _converted(tensor.constant, dtype)
            return dataclasses.replace(tensor, dtype=dtype, stored=constant.dtype, constant=constant)
        if tensor.dtype.kind in "iub" or dtype.kind not in "iu":
            return dataclasses.replace(self.stored_as(tensor, dtype), dtype=dtype)
        return self._cut_to_integers(tensor, dtype)

    def _cut_to_integers(self, tensor: Tensor, dtype: np.dtype) -> Tensor:
        """Convert floats to integers: NaN becomes zero, and what does not fit the nearest that does.

        ONNX leaves both open, and runtimes differ between processors.
        """
        # float32 holds the limits of 16 bits, float64 those of 32.
        held = np.dtype("float32" if dtype.itemsize <= 2 and tensor.stored.itemsize <= 4 else "float64")
        wide = dataclasses.replace(self.stored_as(tensor, held), dtype=held)
        limits = np.iinfo(dtype)
        number = self.elementwise("Where", [self.elementwise("IsNaN", [wide], bool), self.like(wide, 0), wide])
        # The largest integer of 64 bits is no float: what reaches it is set after the conversion.
        highest = limits.max if dtype.itemsize < 8 else float(limits.max)
        cut = self.elementwise("Max", [number, self.like(wide, limits.min)])
        cut = self.elementwise("Min", [cut, self.like(wide, highest)])
        result = dataclasses.replace(self.stored_as(cut, dtype), dtype=dtype)
        if dtype.itemsize < 8:
            return result
        over = self.elementwise("GreaterOrEqual", [number, self.like(wide, highest)], bool)
        return self.elementwise("Where", [over, self.constant(limits.max, dtype), result])

    # Shapes

    def plain(self, tensor: Tensor) -> Tensor:
        """Returns the value as JAX sees it: all axes, in order."""
        return layout.arranged(self, tensor, tuple(range(tensor.ndim)))

    def arranged(self, tensor: Tensor, axes: Sequence[int | None], *, expand: bool = True) -> Tensor:
        """Returns the value with its axes stored in an order; None is an axis of size 1.

        Args:
          tensor: the value.
          axes: the order.
          expand: repeat what is broadcast; otherwise such axes stay 1.
        """
        return layout.arranged(self, tensor, tuple(axes), expand=expand)

    def reshape(self, tensor: Tensor, shape: Sequence[Dim]) -> Tensor:
        """Returns the value in another shape."""
        return layout.reshaped(self, tensor, tuple(shape))

    def transpose(self, tensor: Tensor, permutation: Sequence[int]) -> Tensor:
        """Returns the value with its axes in another order; nothing is computed."""
        place = {int(axis): new for new, axis in enumerate(permutation)}
        shape = [tensor.shape[int(axis)] for axis in permutation]
        return tensor.relabeled(shape, [None if axis is None else place[axis] for axis in tensor.axes])

    def broadcast(self, tensor: Tensor, shape: Sequence[Dim], dimensions: Sequence[int]) -> Tensor:
        """Returns the value as part of a larger shape; nothing is computed."""
        axes: list[int | None] = []
        for axis in tensor.axes:
            if axis is None or (tensor.shape[axis] == 1 and shape[dimensions[axis]] != 1):
                axes.append(None)
            else:
                axes.append(int(dimensions[axis]))
        return tensor.relabeled(shape, axes)

    def squeeze(self, tensor: Tensor, dimensions: Sequence[int]) -> Tensor:
        """Drops axes of size 1; nothing is computed."""
        gone = {int(d) for d in dimensions}
        kept = [axis for axis in range(tensor.ndim) if axis not in gone]
        place = {axis: new for new, axis in enumerate(kept)}
        axes = [None if axis is None else place.get(axis) for axis in tensor.axes]
        return tensor.relabeled([tensor.shape[axis] for axis in kept], axes)

    def slice(self, tensor: Tensor, starts: Sequence[Dim], limits: Sequence[Dim], steps: Sequence[int]) -> Tensor:
        """Returns a part of the value, as `jax.lax.slice` does; sizes may be symbolic."""
        cut = [
            axis
            for axis in range(tensor.ndim)
            if (starts[axis], steps[axis]) != (0, 1) or limits[axis] != tensor.shape[axis]
        ]
        shape = [(limits[a] - starts[a] + steps[a] - 1) // steps[a] for a in range(tensor.ndim)]
        held = [axis for axis in cut if axis in tensor.held]
        if not held:
            return tensor.relabeled(shape, tensor.axes)
        if tensor.constant is not None and is_static([*starts, *limits]):
            cuts = tuple(slice(starts[a], limits[a], steps[a]) if a is not None else slice(None) for a in tensor.axes)
            return dataclasses.replace(tensor, shape=tuple(shape), constant=tensor.constant[cuts])
        places = [tensor.axes.index(axis) for axis in held]
        part = tensor.relabeled(shape, tensor.axes)
        vectors = [self.shape(tuple(values[axis] for axis in held)) for values in (starts, limits)]
        settings = [*vectors, self.constant(places, np.int64), self.constant([steps[a] for a in held], np.int64)]
        return self._stored_op("Slice", tensor, settings, part)

    def _stored_op(self, op: str, tensor: Tensor, settings: Sequence[Tensor], result: Tensor) -> Tensor:
        inputs = [self.name(tensor), *(self.name(self.plain(s)) for s in settings)]
        (name,) = self.emit(op, inputs, [(tensor.stored, result.stored_shape)])
        return dataclasses.replace(result, name=name, constant=None)

    # Programs

    def call(self, fn: Callable[..., Any], *inputs: Tensor) -> list[Tensor]:
        """Translates a function of JAX arrays, traced for these values.

        Returns:
          A value for each leaf of its output.
        """
        return self.walk(jax.jit(fn).trace(*map(spec, inputs)).jaxpr, inputs)

    def walk(self, closed: Any, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Translates a jaxpr with its constants."""
        return self._walk(self, closed, inputs)

    def known(self, tensor: Tensor) -> np.ndarray | None:
        """Returns the value of a constant, None for anything else."""
        return None if tensor.constant is None else whole(tensor)


def _converted(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.kind in "iu" and array.dtype.kind not in "iub":
        limits = np.iinfo(dtype)
        wide = np.nan_to_num(array.astype(np.float64), nan=0.0)
        # The largest integers of 64 bits are no floats: what reaches them is set after the conversion.
        cut = np.clip(np.trunc(wide), float(limits.min), float(limits.max))
        inside = np.where(cut < float(limits.max), cut, 0).astype(dtype)
        return np.where(cut < float(limits.max), inside, limits.max).astype(dtype)
    return array.astype(dtype)
