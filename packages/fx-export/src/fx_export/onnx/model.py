"""The graph as a file: ONNX's own classes, and large weights beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from fx_export.interface import Port
from fx_export.onnx.graph import Graph, Node, Values
from fx_export.onnx.program import Program

MODEL, WEIGHTS = "model.onnx", "weights.bin"
_ALIGNMENT = 4096
_TYPES = {
    np.dtype(name).name if hasattr(np, name) or name == "bool" else name: number
    for name, number in {
        "bool": TensorProto.BOOL, "int8": TensorProto.INT8, "uint8": TensorProto.UINT8, "int16": TensorProto.INT16,
        "uint16": TensorProto.UINT16, "int32": TensorProto.INT32, "uint32": TensorProto.UINT32,
        "int64": TensorProto.INT64, "uint64": TensorProto.UINT64, "float16": TensorProto.FLOAT16,
        "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "bfloat16": TensorProto.BFLOAT16,
        "float8_e4m3fn": TensorProto.FLOAT8E4M3FN, "float8_e4m3fnuz": TensorProto.FLOAT8E4M3FNUZ,
        "float8_e5m2": TensorProto.FLOAT8E5M2, "float8_e5m2fnuz": TensorProto.FLOAT8E5M2FNUZ,
        "int4": TensorProto.INT4, "uint4": TensorProto.UINT4,
    }.items()
}  # fmt: skip
# Each opset came with a version of the file format; a reader of the opset reads that one.
_IR_VERSION = {18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12, 25: 13, 26: 13}


def write_model(directory: Path, program: Program, *, opset: int, external: int, metadata: Any) -> None:
    """Writes the model; weights of more than ``external`` bytes in all lie in a file beside it."""
    values = program.build.values
    total = sum(array.nbytes for array in values.initializers.values())
    if total > external:
        tensors = _beside(directory / WEIGHTS, values)
    else:
        tensors = [_tensor(name, array) for name, array in values.initializers.items()]
    graph = _graph(program.build.graph, values, "network", program.inputs, program.outputs, tensors)
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(domain, opset if not domain else 1) for domain in _domains(program)],
        ir_version=_IR_VERSION[opset],
        producer_name="fx-export",
    )
    helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
    onnx.save_model(model, str(directory / MODEL))


def check_model(path: Path) -> None:
    """Checks a written model by ONNX's own checker, shapes included."""
    onnx.checker.check_model(str(path), full_check=True)


def _domains(program: Program) -> list[str]:
    return ["", *sorted({node.domain for node in program.build.graph.nodes if node.domain})]


def _tensor(name: str, array: np.ndarray) -> TensorProto:
    tensor = TensorProto(name=name, data_type=_TYPES[array.dtype.name], dims=array.shape)
    tensor.raw_data = _packed(array)
    return tensor


def _packed(array: np.ndarray) -> bytes:
    if array.dtype.name not in ("int4", "uint4"):
        return array.tobytes()
    nibbles = array.astype(np.int8).reshape(-1).view(np.uint8) & 0xF
    nibbles = np.concatenate([nibbles, np.zeros(nibbles.size % 2, np.uint8)])
    return (nibbles[::2] | (nibbles[1::2] << 4)).tobytes()


def _beside(path: Path, values: Values) -> list[TensorProto]:
    tensors = list[TensorProto]()
    with open(path, "wb") as file:
        for name, array in values.initializers.items():
            if array.nbytes < 1024:
                tensors.append(_tensor(name, array))
                continue
            file.write(b"\0" * (-file.tell() % _ALIGNMENT))
            tensor = TensorProto(name=name, data_type=_TYPES[array.dtype.name], dims=array.shape)
            tensor.data_location = TensorProto.EXTERNAL
            offset, content = file.tell(), _packed(array)
            file.write(content)
            for key, value in {"location": path.name, "offset": offset, "length": len(content)}.items():
                tensor.external_data.add(key=key, value=str(value))
            tensors.append(tensor)
    return tensors


def _graph(
    graph: Graph,
    values: Values,
    name: str,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    tensors: Sequence[TensorProto],
) -> Any:
    nodes = [_node(node, values) for node in graph.nodes]
    ends = [_value(port.name, port.dtype, port.shape) for port in inputs]
    results = [_value(port.name, port.dtype, port.shape) for port in outputs]
    return helper.make_graph(nodes, name, ends, results, list(tensors))


def _node(node: Node, values: Values) -> Any:
    attributes: dict[str, Any] = {}
    for key, value in node.attributes.items():
        if isinstance(value, Graph):
            attributes[key] = _inner_graph(value, values, f"{node.outputs[0]}/{key}")
        elif isinstance(value, np.dtype):
            attributes[key] = _TYPES[value.name]
        else:
            attributes[key] = value
    made = helper.make_node(node.op, node.inputs, node.outputs, name=node.outputs[0], domain=node.domain, **attributes)
    for attribute in made.attribute:
        # An empty list does not say of what.
        if attribute.type == onnx.AttributeProto.UNDEFINED:
            attribute.type = onnx.AttributeProto.INTS
    return made


def _inner_graph(graph: Graph, values: Values, name: str) -> Any:
    inputs = [Port(n, values.types[n][1], values.types[n][0]) for n in graph.inputs]
    outputs = [Port(n, values.types[n][1], values.types[n][0]) for n in graph.outputs]
    return _graph(graph, values, name, inputs, outputs, [])


def _value(name: str, dtype: np.dtype, shape: Sequence[Any]) -> Any:
    sizes = [int(size) if isinstance(size, int | np.integer) else str(size) for size in shape]
    return helper.make_tensor_value_info(name, _TYPES[dtype.name], sizes)
