"""Layers that ONNX has an operator for, recognized among the small operators that they are written out in."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fx_export.onnx.attention import fuse_attention
from fx_export.onnx.builder import Builder
from fx_export.onnx.elementwise import ERFC_BORDER
from fx_export.onnx.graph import Graph, Node, Values
from fx_export.onnx.patterns import Matcher, is_vector
from fx_export.sizes import is_fixed

_MEAN = ("ReduceMean", "x", "axes")
_CENTERED = ("Sub", "x", _MEAN)
_FAST = ("Max", ("Sub", ("ReduceMean", ("Mul", "x", "x"), "axes"), ("Mul", _MEAN, _MEAN)), 0.0)
_EXACT = ("ReduceMean", ("Mul", _CENTERED, _CENTERED), "axes")
_SQUARES = ("ReduceMean", ("Mul", "x", "x"), "axes")
# Moments of numbers that were moved towards zero before, which loses fewer digits.
_MOVED = ("Sub", "x", "shift")
_MOVED_MEAN = ("ReduceMean", _MOVED, "axes")
_MOVED_VARIANCE = (
    "Max",
    ("Sub", ("ReduceMean", ("Mul", _MOVED, _MOVED), "axes"), ("Mul", _MOVED_MEAN, _MOVED_MEAN)),
    0.0,
)
_MOVED_CENTERED = ("Sub", "x", ("Add", _MOVED_MEAN, "shift"))


def _scaled(value: Any, variance: Any) -> list[Any]:
    """The ways to divide by a standard deviation and multiply with a scale."""
    root = ("Sqrt", ("Add", variance, "epsilon"))
    by = ("Reciprocal", root)
    plain = [("Mul", value, by), ("Div", value, root)]
    return [("Mul", value, ("Mul", by, "scale")), *(("Mul", one, "scale") for one in plain), *plain]


_LAYER_NORM = [p for variance in (_FAST, _EXACT, ("Max", _EXACT, 0.0)) for p in _scaled(_CENTERED, variance)]
_LAYER_NORM = [*_LAYER_NORM, *_scaled(_MOVED_CENTERED, _MOVED_VARIANCE)]
_LAYER_NORM = [*(("Add", p, "bias") for p in _LAYER_NORM), *_LAYER_NORM]
_RMS_NORM = _scaled("x", _SQUARES)
_FACTOR = ("Mul", ("Reciprocal", ("Sqrt", ("Add", "variance", "epsilon"))), "scale")
_BATCH_NORM = ("Add", ("Mul", ("Sub", "x", "mean"), "factor"), "bias")

_CUBE = ("Mul", "x", ("Mul", "x", "x"))
_INNER = ("Mul", 0.7978845608, ("Add", "x", ("Mul", 0.044715, _CUBE)))
_GELU_TANH = ("Mul", "x", ("Mul", 0.5, ("Add", 1.0, ("Tanh", _INNER))))
_TURNED = ("Mul", ("Neg", "x"), 0.70710678)
_ERFC = ("Where", ("Greater", ("Abs", _TURNED), ERFC_BORDER), "tail", ("Sub", 1.0, ("Erf", _TURNED)))
_GELU = ("Mul", ("Mul", 0.5, "x"), _ERFC)

_POWERS = ("Exp", ("Sub", "x", "largest"))
_SOFTMAX = ("Div", _POWERS, ("ReduceSum", _POWERS, "axes"))
_UNKNOWN = [
    ("ReduceMax", ("IsNaN", "x"), "axes"),
    ("Cast", ("ReduceMax", ("Cast", ("IsNaN", "x")), "axes")),
]
_LARGEST = [("Where", unknown, "nan", ("ReduceMax", "x", "axes")) for unknown in _UNKNOWN]
_LARGEST = [*(("Max", largest, -math.inf) for largest in _LARGEST), *_LARGEST]

Fusion = Callable[["_Fuser", Node], Node | None]


def fuse_patterns(build: Builder) -> None:
    """Replaces what one operator computes by it, in the graph and those inside of it."""
    _fuse(build.graph, build.values, build.opset)


def _fuse(graph: Graph, values: Values, opset: int) -> None:
    for node in graph.nodes:
        for value in node.attributes.values():
            if isinstance(value, Graph):
                _fuse(value, values, opset)
    for fusions in ([_Fuser.mean], _Fuser.layers(opset)):
        fuser = _Fuser(graph, values)
        for place in range(len(graph.nodes) - 1, -1, -1):
            node = graph.nodes[place]
            found = next((new for fusion in fusions if (new := fusion(fuser, node)) is not None), None)
            if found is not None:
                graph.nodes[place] = found
    if opset >= 23:
        fuse_attention(graph, values)


class _Fuser:
    """Makes the operators that take the place of patterns."""

    def __init__(self, graph: Graph, values: Values):
        self._values = values
        self._matcher = Matcher(graph, values)

    @staticmethod
    def layers(opset: int) -> list[Fusion]:
        """The layers that an opset has, largest first."""
        newer = [_Fuser.gelu] if opset >= 20 else []
        newest = [_Fuser.rms_norm] if opset >= 23 else []
        return [_Fuser.layer_norm, _Fuser.batch_norm, _Fuser.softmax, *newer, *newest, _Fuser.bias, _Fuser.relu]

    def mean(self, node: Node) -> Node | None:
        """A sum by the number of its terms."""
        found = self._matcher.match(("Div", ("ReduceSum", "x", "axes"), "count"), node.outputs[0])
        if found is None:
            return None
        sizes = [self._matcher.shape(found["x"])[axis] for axis in self._matcher.numbers(found["axes"])]
        if not sizes or not all(map(is_fixed, sizes)) or self._matcher.number(found["count"]) != math.prod(sizes):
            return None
        return _instead(node, "ReduceMean", [found["x"], found["axes"]], keepdims=1)

    def layer_norm(self, node: Node) -> Node | None:
        """Normalization over the last axis."""
        for pattern in _LAYER_NORM if node.op in ("Add", "Mul", "Div") else ():
            found = self._normalization(pattern, node)
            if found is not None:
                inputs, epsilon = found
                return _instead(node, "LayerNormalization", inputs, axis=-1, epsilon=epsilon)
        return None

    def rms_norm(self, node: Node) -> Node | None:
        """Division by the root of the mean square over the last axis."""
        for pattern in _RMS_NORM if node.op in ("Mul", "Div") else ():
            found = self._normalization(pattern, node)
            if found is not None:
                inputs, epsilon = found
                return _instead(node, "RMSNormalization", inputs, axis=-1, epsilon=epsilon)
        return None

    def _normalization(self, pattern: Any, node: Node) -> tuple[list[str], float] | None:
        found = self._matcher.match(pattern, node.outputs[0])
        if found is None:
            return None
        shape = self._matcher.shape(found["x"])
        epsilon = self._matcher.number(found["epsilon"])
        last = self._matcher.numbers(found["axes"]) == [len(shape) - 1]
        if "shift" in found and self._matcher.shape(found["shift"])[-1:] != (1,):
            return None
        vectors = [found[name] for name in ("scale", "bias") if name in found]
        if epsilon is None or not last or not all(is_vector(self._values, name, shape[-1]) for name in vectors):
            return None
        if "scale" not in found:
            dtype = self._values.types[found["x"]][0]
            vectors.insert(0, self._values.constant(np.ones(shape[-1], dtype)))
        return [found["x"], *vectors], epsilon

    def batch_norm(self, node: Node) -> Node | None:
        """Normalization with statistics that are parameters, over the second axis."""
        found = self._matcher.match(_BATCH_NORM, node.outputs[0])
        if found is None or len(shape := self._matcher.shape(found["x"])) < 2:
            return None
        vectors = {name: self._per_channel(found[name], shape) for name in ("mean", "factor", "bias")}
        factor = vectors["factor"] and self._matcher.match(_FACTOR, vectors["factor"])
        if not factor or not all(vectors.values()):
            return None
        epsilon = self._matcher.number(factor["epsilon"])
        if epsilon is None or not all(
            is_vector(self._values, factor[name], shape[1]) for name in ("variance", "scale")
        ):
            return None
        inputs = [found["x"], factor["scale"], vectors["bias"], vectors["mean"], factor["variance"]]
        return _instead(node, "BatchNormalization", inputs, epsilon=epsilon)

    def _per_channel(self, name: str, shape: tuple[Any, ...]) -> str:
        """Give the vector that a value holds along the second axis, and empty text for another value."""
        wanted = (shape[1], *(1 for _ in shape[2:]))
        node = self._matcher.maker(name)
        if wanted != self._matcher.shape(name):
            return ""
        if len(wanted) == 1:
            return name
        source = node.inputs[0] if node is not None and node.op == "Reshape" else name
        return source if is_vector(self._values, source, shape[1]) else ""

    def bias(self, node: Node) -> Node | None:
        """A vector that is added to what a convolution gives."""
        for pattern in (("Add", ("Conv", "x", "kernel"), "bias"), ("Add", ("ConvTranspose", "x", "kernel"), "bias")):
            found = self._matcher.match(pattern, node.outputs[0]) if node.op == "Add" else None
            if found is not None:
                vector = self._per_channel(found["bias"], self._matcher.shape(node.outputs[0]))
                conv = next(self._matcher.maker(n) for n in node.inputs if n != found["bias"])
                if vector and conv is not None:
                    return _instead(node, conv.op, [*conv.inputs, vector], **conv.attributes)
        return None

    def relu(self, node: Node) -> Node | None:
        """The larger one of a float and zero."""
        found = self._matcher.match(("Max", "x", 0.0), node.outputs[0]) if node.op == "Max" else None
        if found is None or not self._values.types[found["x"]][0].name.startswith("float"):
            return None
        if self._matcher.shape(found["x"]) != self._matcher.shape(node.outputs[0]):
            return None
        return _instead(node, "Relu", [found["x"]])

    def softmax(self, node: Node) -> Node | None:
        """Powers of e by their sum."""
        found = self._matcher.match(_SOFTMAX, node.outputs[0])
        if found is None or len(axes := self._matcher.numbers(found["axes"])) != 1:
            return None
        names = [self._matcher.match(pattern, found["largest"]) for pattern in _LARGEST]
        if not any(
            match is not None and match["x"] == found["x"] and match["axes"] == found["axes"] for match in names
        ):
            return None
        return _instead(node, "Softmax", [found["x"]], axis=axes[0])

    def gelu(self, node: Node) -> Node | None:
        """The Gaussian error linear unit, exact or by tanh."""
        # ONNX Runtime has it by constants of 32 bits.
        if self._values.types[node.outputs[0]][0] == np.float64:
            return None
        for pattern, kind in ((_GELU_TANH, "tanh"), (_GELU, "none")) if node.op == "Mul" else ():
            found = self._matcher.match(pattern, node.outputs[0])
            if found is not None:
                return _instead(node, "Gelu", [found["x"]], approximate=kind)
        return None


def _instead(node: Node, op: str, inputs: list[str], **attributes: Any) -> Node:
    return Node(op, inputs, list(node.outputs), attributes, node.where)
