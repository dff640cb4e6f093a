"""From a function with its variables to a finished graph."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from fx_core.compat import jax as compat

from fx_export.errors import UncoveredPrimitivesError, refused_by_format
from fx_export.inputs import spec_of
from fx_export.interface import Port
from fx_export.onnx import primitives
from fx_export.onnx.builder import Builder
from fx_export.onnx.graph import Graph
from fx_export.onnx.registry import RefusedError
from fx_export.onnx.tensor import Tensor, stored_tensor
from fx_export.onnx.walk import Walker, dtype_of
from fx_export.weights import named_arrays, weight_specs

assert primitives


@dataclasses.dataclass(frozen=True)
class Program:
    """A translated network.

    Attributes:
      build: the builder with graph and initializers.
      inputs: what it takes, flat.
      outputs: what it gives, flat.
      out_tree: how the outputs go together.
    """

    build: Builder
    inputs: list[Port]
    outputs: list[Port]
    out_tree: Any


def translated(
    fn: Callable[..., Any],
    variables: Any,
    inputs: Sequence[Any],
    *,
    opset: int,
    input_names: Sequence[str],
    output_names: Sequence[str],
) -> Program:
    """Translates ``fn(variables, *inputs)``.

    Args:
      fn: a pure function of arrays of numbers.
      variables: its variables.
      inputs: examples or descriptions.
      opset: version of ONNX's operators.
      input_names: a name for each array of the inputs; what is taken gets a number.
      output_names: the same of the outputs.

    Raises:
      UncoveredPrimitivesError: it uses primitives that have no translation; all are listed.
      UnsupportedProgramError: an input or a variable has a dtype that ONNX does not have.
      ArgumentTypeError: a variable is no array of numbers.
    """
    weights = named_arrays(variables)
    treedef = jax.tree.structure(variables)
    specs = [jax.tree.map(spec_of, value) for value in inputs]

    def of_weights(weights: list[Any], *inputs: Any) -> Any:
        return fn(jax.tree.unflatten(treedef, weights), *inputs)

    traced = jax.jit(of_weights).trace(weight_specs(variables), *specs)
    closed = compat.live_jaxpr(traced.jaxpr)
    leaves = jax.tree.leaves(specs)
    _check_dtypes([*weights, *zip(input_names, leaves, strict=True)])
    walker = Walker()
    build = Builder(opset, walker)
    ports, values = _inputs(build, specs, input_names)
    parameters = [_parameter(build, name, array) for name, array in weights]
    results = walker(build, closed, [*parameters, *values])
    if walker.uncovered:
        raise UncoveredPrimitivesError([str(one) for one in dict.fromkeys(walker.uncovered)])
    out_tree = jax.tree.structure(traced.out_info)
    given: dict[str, str] = {}
    # All of them before the first is named: operators that are added later would take the old names.
    plain = [build.stored_as(build.plain(result), result.dtype) for result in results]
    outputs = [_output(build, given, name, value) for name, value in zip(output_names, plain, strict=True)]
    drop_unused(build)
    return Program(build, ports, outputs, out_tree)


def _check_dtypes(arrays: Sequence[tuple[str, Any]]) -> None:
    for name, array in arrays:
        try:
            dtype_of(array)
        except RefusedError as refusal:
            raise refused_by_format(f"{name!r} has {refusal}") from refusal


def _parameter(build: Builder, name: str, array: np.ndarray) -> Tensor:
    return stored_tensor(build.values.parameter(name or "variables", array), array.shape, array.dtype)


def _inputs(build: Builder, specs: Sequence[Any], names: Sequence[str]) -> tuple[list[Port], list[Tensor]]:
    ports, values = list[Port](), list[Tensor]()
    for name, spec in zip(names, jax.tree.leaves(specs), strict=True):
        dtype = dtype_of(spec)
        name = build.values.named(name, dtype, spec.shape)
        build.graph.inputs.append(name)
        ports.append(Port(name, tuple(spec.shape), dtype))
        values.append(stored_tensor(name, spec.shape, dtype))
    for port in ports:
        build.sizes.learn(port.name, port.shape)
    return ports, values


def _output(build: Builder, given: dict[str, str], name: str, plain: Tensor) -> Port:
    """Make a value an output; ``given`` has the new names of what is one already."""
    graph = build.graph
    source = build.name(plain)
    source = given.get(source, source)
    produced = [node for node in graph.nodes if source in node.outputs]
    name = build.values.named(name, plain.dtype, plain.shape)
    taken = source in graph.outputs or source in build.values.initializers or source in graph.inputs
    if taken or not produced or produced[0].op == "Identity":
        build.fresh_node("Identity", [source], [(plain.stored, plain.shape)])
        graph.nodes[-1].outputs[0] = name
    else:
        _rename(graph, source, name)
        given[source] = name
    graph.outputs.append(name)
    return Port(name, plain.shape, plain.dtype)


def _rename(graph: Graph, old: str, new: str) -> None:
    for node in graph.nodes:
        node.inputs = [new if name == old else name for name in node.inputs]
        node.outputs = [new if name == old else name for name in node.outputs]
        for value in node.attributes.values():
            if isinstance(value, Graph):
                _rename(value, old, new)
    graph.outputs = [new if name == old else name for name in graph.outputs]


def drop_unused(build: Builder) -> None:
    """Leaves out nodes and initializers that no output needs."""
    needed = _needed(build.graph, set(build.graph.outputs))
    build.values.initializers = {k: v for k, v in build.values.initializers.items() if k in needed}


def _needed(graph: Graph, wanted: set[str]) -> set[str]:
    kept = []
    for node in reversed(graph.nodes):
        if not wanted.isdisjoint(node.outputs):
            kept.append(node)
            wanted.update(name for name in node.inputs if name)
            for value in node.attributes.values():
                if isinstance(value, Graph):
                    wanted |= _needed(value, set(value.outputs))
    graph.nodes = kept[::-1]
    return wanted
