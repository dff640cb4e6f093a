"""Weights of few bits: ONNX has operators that make floats of their codes, which runtimes join with what uses them."""

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

from fx_export.onnx.builder import Builder
from fx_export.onnx.graph import Graph, Node, Values
from fx_export.onnx.patterns import Matcher
from fx_export.onnx.tensor import Tensor, stored_tensor

__all__ = ["dequantized_products", "named_function"]

# Operators on blocks, and four bits.
_BLOCKS = 21
_PRODUCTS = ("MatMul", "Conv")


def named_function(build: Builder, name: Any, result: Any, inputs: Sequence[Tensor]) -> list[Tensor] | None:
    """Translates what fx-compress compiles under a name of its own; None for other functions, and where it cannot be.

    Args:
      build: the builder.
      name: of the function.
      result: shape and dtype of its result.
      inputs: its inputs: codes as they are stored, then scale and zero point.
    """
    if name not in ("fx_unpack_int4", "fx_dequantize_int4", "fx_dequantize_int8"):
        return None
    if not all(_array(build, x) is not None for x in inputs) or (name.endswith("int4") and build.opset < _BLOCKS):
        return None
    if name != "fx_unpack_int4" and result.dtype != np.float32:
        return None
    codes = _four_bits(build, inputs[0], result.shape) if name.endswith("int4") else inputs[0]
    if name == "fx_unpack_int4":
        return [build.stored_as(codes, np.dtype("int8"))]
    return _dequantized(build, codes, inputs[1], inputs[2] if len(inputs) > 2 else None)


def _array(build: Builder, tensor: Tensor) -> np.ndarray | None:
    """The values of a weight that lies as it is."""
    known = build.values.initializers.get(tensor.name) if tensor.name is not None and tensor.as_it_lies else None
    return build.known(tensor) if known is None else known


def _four_bits(build: Builder, packed: Tensor, shape: tuple[Any, ...]) -> Tensor:
    """The codes of four bits that lie in pairs, as a weight of such numbers."""
    array = _array(build, packed)
    assert array is not None
    pairs = np.stack([array & 15, array >> 4], axis=-1).reshape(*array.shape[:-1], -1)[..., : shape[-1]]
    codes = np.where(pairs > 7, pairs.astype(np.int8) - 16, pairs).astype(np.int8).astype(ml_dtypes.int4)
    return _weight(build, f"{packed.name or 'constant'}/codes", codes, np.dtype("int8"))


def _weight(build: Builder, name: str, array: np.ndarray, dtype: np.dtype) -> Tensor:
    found = build.values.initializers.get(name)
    if found is None or found.dtype != array.dtype or found.shape != array.shape:
        name = build.values.parameter(name, array)
    return stored_tensor(name, array.shape, dtype, array.dtype)


def _dequantized(build: Builder, codes: Tensor, scale: Tensor, zero: Tensor | None) -> list[Tensor] | None:
    """Codes times scales, of all, of each entry along an axis, or of each block along one."""
    scales = _array(build, scale)
    assert scales is not None
    if scales.dtype != np.float32 or scales.ndim != codes.ndim:
        return None
    attributes: dict[str, Any] = {}
    many = [axis for axis, size in enumerate(scales.shape) if size != 1]
    if len(many) <= 1 and (not many or scales.shape[many[0]] == codes.shape[many[0]]):
        laid: tuple[int, ...] = (scales.size,) if many else ()
        attributes = {"axis": many[0]} if many else {}
    else:
        fewer = [axis for axis in range(codes.ndim) if scales.shape[axis] != codes.shape[axis]]
        if len(fewer) != 1 or build.opset < _BLOCKS:
            return None
        laid = scales.shape
        attributes = {"axis": fewer[0], "block_size": codes.shape[fewer[0]] // scales.shape[fewer[0]]}
    given = [build.name(codes), build.values.constant(scales.reshape(laid))]
    if zero is not None:
        zeros = _array(build, zero)
        assert zeros is not None
        given.append(build.values.constant(zeros.reshape(laid).astype(codes.stored)))
    (name,) = build.emit("DequantizeLinear", given, [(np.float32, codes.shape)], attributes)
    return [stored_tensor(name, codes.shape, np.float32)]


def dequantized_products(graph: Graph, values: Values) -> None:
    """Scale codes before they are multiplied, where the program scales the product.

    A product of integers cast to floats whose result is scaled by a weight, one number for each output feature,
    becomes the product with what ``DequantizeLinear`` gives.
    """
    matcher = Matcher(graph, values)
    for node in list(graph.nodes):
        found = _scaled_product(matcher, values, node) if node.op == "Mul" else None
        if found is None:
            continue
        product, codes, vector, turned = found
        dtype, shape = values.types[node.outputs[0]][0], values.types[codes][1]
        weight = values.fresh(f"{node.where}/DequantizeLinear", dtype, shape)
        attributes: dict[str, Any] = {"axis": len(shape) - 1}
        new = [Node("DequantizeLinear", [codes, values.constant(vector)], [weight], attributes, node.where)]
        if turned is not None:
            before, weight = weight, values.fresh(f"{node.where}/Transpose", *values.types[turned.outputs[0]])
            new.append(Node("Transpose", [before], [weight], dict(turned.attributes), node.where))
        # In the place of the scaling, after everything that it needs.
        options = dict(product.attributes)
        new.append(Node(product.op, [product.inputs[0], weight], list(node.outputs), options, node.where))
        place = graph.nodes.index(node)
        graph.nodes[place : place + 1] = new


def _scaled_product(matcher: Matcher, values: Values, node: Node) -> tuple[Node, str, np.ndarray, Node | None] | None:
    """The product that a node scales, the codes in it, their scales, and how they were transposed."""
    for name, scale in (node.inputs, node.inputs[::-1]):
        product = matcher.maker(name)
        if product is None or product.op not in _PRODUCTS or len(product.inputs) != 2:
            continue
        turned = _made_by(matcher, "Transpose", product.inputs[1])
        cast = _made_by(matcher, "Cast", turned.inputs[0] if turned is not None else product.inputs[1])
        if cast is None or values.types[cast.outputs[0]][0] != np.float32:
            continue
        # Numbers of four bits are cast to eight first.
        inner = _made_by(matcher, "Cast", cast.inputs[0])
        codes = cast.inputs[0] if inner is None else inner.inputs[0]
        array = values.initializers.get(codes)
        if array is None or array.dtype.name not in ("int8", "int4"):
            continue
        axis = array.ndim - 1
        # Which axis of the result has the output features.
        out = 1 if product.op == "Conv" else len(values.types[name][1]) - 1
        first = next(iter(turned.attributes["perm"])) if turned is not None else 0 if product.op == "Conv" else axis
        vector = _vector(matcher, values, scale, array.shape[axis], len(values.types[name][1]) - out)
        plain = product.op == "Conv" or (turned is None and array.ndim == 2)
        if vector is not None and plain and first == axis:
            return product, codes, vector, turned
    return None


def _made_by(matcher: Matcher, op: str, name: str) -> Node | None:
    node = matcher.maker(name)
    return node if node is not None and node.op == op else None


def _vector(matcher: Matcher, values: Values, name: str, size: int, from_the_end: int) -> np.ndarray | None:
    """Numbers along one axis, counted from the end from 1 on, that are a weight; None for anything else."""
    shape = values.types[name][1]
    source = _made_by(matcher, "Reshape", name)
    array = values.initializers.get(source.inputs[0] if source is not None else name)
    if array is None or array.dtype != np.float32 or array.size != size or len(shape) < from_the_end:
        return None
    wanted = [size if n == from_the_end else 1 for n in range(len(shape), 0, -1)]
    return array.reshape(-1) if list(shape) == wanted else None
