"""Attention, recognized as products of matrices around a softmax, for which ONNX has one operator."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fx_export.onnx.graph import Graph, Node, Values
from fx_export.onnx.patterns import Matcher

# Scores that are replaced by less are alike after the addition of as much: they are lost in its rounding.
_LOW = -1e30
_PRODUCT = ("MatMul", "query", "keys")
_SCALED = [("Mul", _PRODUCT, "scale"), ("Div", _PRODUCT, "divisor"), _PRODUCT]
_SCORES = [s for scaled in _SCALED for s in (("Where", "mask", scaled, "low"), ("Add", scaled, "bias"), scaled)]
_PATTERNS = [("MatMul", ("Softmax", scores), "value") for scores in _SCORES]


def fuse_attention(graph: Graph, values: Values) -> None:
    """Replaces products with the softmax of products, in one graph, by ``Attention``."""
    matcher = Matcher(graph, values)
    nodes = list[Node]()
    for node in graph.nodes:
        found = _found(matcher, values, node) if node.op == "MatMul" else None
        nodes.extend([node] if found is None else _attention(matcher, values, node, found))
    graph.nodes = nodes


def _found(matcher: Matcher, values: Values, node: Node) -> Mapping[str, str] | None:
    """What the parts of attention are, None where the product is something else."""
    found = next((m for pattern in _PATTERNS if (m := matcher.match(pattern, node.outputs[0])) is not None), None)
    if found is None or values.types[node.outputs[0]][0] != np.float32:
        return None
    softmax = matcher.maker(node.inputs[0])
    arrays = [matcher.shape(found[name]) for name in ("query", "keys", "value")]
    of_heads = all(len(shape) == 4 and shape[:2] == arrays[0][:2] for shape in arrays)
    keys = matcher.maker(found["keys"])
    if not of_heads or softmax is None or softmax.attributes["axis"] not in (-1, 3):
        return None
    if keys is None or keys.op != "Transpose" or len(keys.attributes["perm"]) != 4:
        return None
    return found if _has_numbers(matcher, found) else None


def _has_numbers(matcher: Matcher, found: Mapping[str, str]) -> bool:
    """Whether scale and mask are such that the operator has a place for them."""
    if any(name in found and not matcher.number(found[name]) for name in ("scale", "divisor")):
        return False
    if "low" in found:
        low = matcher.number(found["low"])
        return low is not None and _LOW >= low > -np.inf and len(matcher.shape(found["mask"])) == 4
    return "bias" not in found or len(matcher.shape(found["bias"])) == 4


def _attention(matcher: Matcher, values: Values, node: Node, found: Mapping[str, str]) -> list[Node]:
    made = list[Node]()

    def add(op: str, inputs: list[str], shape: Any, **attributes: Any) -> str:
        name = values.fresh(f"{node.where}/{op}" if node.where else op, np.dtype("float32"), shape)
        made.append(Node(op, inputs, [name], attributes, node.where))
        return name

    maker = matcher.maker(found["keys"])
    assert maker is not None
    first, second, third, fourth = maker.attributes["perm"]
    batch, heads, size, length = matcher.shape(found["keys"])
    keys = add("Transpose", list(maker.inputs), (batch, heads, length, size), perm=[first, second, fourth, third])
    inputs = [found["query"], keys, found["value"]]
    if "mask" in found:
        zero = values.constant(np.zeros((), np.float32))
        inputs.append(add("Where", [found["mask"], zero, found["low"]], matcher.shape(found["mask"])))
    elif "bias" in found:
        inputs.append(found["bias"])
    scale, divisor = ((matcher.number(found[name]) if name in found else None) or 1.0 for name in ("scale", "divisor"))
    return [*made, Node("Attention", inputs, list(node.outputs), {"scale": scale / divisor}, node.where)]
