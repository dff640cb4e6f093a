"""Control flow, and programs within programs."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from fx_core.compat import jax as compat

from fx_export.onnx.builder import Builder
from fx_export.onnx.elementwise import where
from fx_export.onnx.graph import Graph
from fx_export.onnx.kernels import resting
from fx_export.onnx.quantized import named_function
from fx_export.onnx.reduce import reduced
from fx_export.onnx.registry import RefusedError, primitive
from fx_export.onnx.shapes import reversed_along
from fx_export.onnx.tensor import Shape, Tensor, is_static, stored_tensor
from fx_export.onnx.walk import Open, dtype_of


@primitive("call_hi_primitive")
def expanded(build: Builder, eqn: Any, *inputs: Tensor) -> Sequence[Tensor]:
    """Operations that JAX knows as a whole, by what they stand for."""
    return build.call(eqn.params["_prim"].expand, *inputs)


@primitive("platform_index")
def platform_index(build: Builder, eqn: Any) -> Tensor:
    """Which variant of a program is for this platform: that of the CPU, which is for any."""
    platforms = eqn.params["platforms"]
    fitting = [n for n, names in enumerate(platforms) if names is None or "cpu" in names]
    if not fitting:
        raise RefusedError(f"a program for {platforms} only")
    return build.constant(fitting[0], np.int32)


@primitive("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr",
           "remat", "remat2", "checkpoint", "composite", "custom_lin", "named_call")  # fmt: skip
def inlined(build: Builder, eqn: Any, *inputs: Tensor) -> Sequence[Tensor]:
    """Programs that are called: their equations take their place."""
    known = named_function(build, eqn, inputs)
    if known is not None:
        return known
    names = ("jaxpr", "call_jaxpr", "fun_jaxpr")
    jaxpr = next(eqn.params[name] for name in names if name in eqn.params)
    return build.walk(jaxpr if hasattr(jaxpr, "consts") else Open(jaxpr), inputs)


def _stored(build: Builder, tensor: Tensor) -> Tensor:
    """A value as it has to be when it crosses the border of a graph."""
    plain = build.plain(tensor)
    return build.stored_as(plain, resting(plain.dtype))


def _inner_value(build: Builder, stem: str, shape: Shape, dtype: np.dtype) -> Tensor:
    stored = resting(dtype)
    return stored_tensor(build.values.fresh(stem, stored, shape), shape, dtype, stored)


def _graph(build: Builder, inputs: Sequence[str], body: Callable[[], Sequence[Tensor]]) -> Graph:
    """Build a graph inside of the current one."""
    outer = build.graph
    inner = build.graph = Graph(parent=outer, inputs=list(inputs))
    try:
        for result in body():
            name = build.name(_stored(build, result))
            # A graph may give each value once, and only what it computes itself.
            stored, shape = build.values.types[name]
            (copy,) = build.fresh_node("Identity", [name], [(stored, shape)])
            inner.outputs.append(copy)
    finally:
        build.graph = outer
    return inner


def _results(build: Builder, op: str, inputs: Sequence[str], avals: Sequence[Any], **attributes: Any) -> list[Tensor]:
    dtypes = [dtype_of(aval) for aval in avals]
    outputs = [(resting(dtype), tuple(aval.shape)) for aval, dtype in zip(avals, dtypes)]
    names = build.emit(op, inputs, outputs, attributes)
    return [stored_tensor(name, aval.shape, dtype, resting(dtype)) for name, aval, dtype in zip(names, avals, dtypes)]


@primitive("cond")
def cond(build: Builder, eqn: Any, index: Tensor, *inputs: Tensor) -> Sequence[Tensor]:
    """One of several branches."""
    branches = eqn.params["branches"]
    avals = [v.aval for v in eqn.outvars]
    known = build.known(index)
    if known is not None:
        return build.walk(branches[int(np.clip(known, 0, len(branches) - 1))], inputs)
    if not avals:
        return []
    return _branch(build, index, branches, 0, inputs, avals)


def _branch(
    build: Builder, index: Tensor, branches: Sequence[Any], first: int, inputs: Sequence[Tensor], avals: Sequence[Any]
) -> list[Tensor]:
    if len(branches) == 1:
        return build.walk(branches[0], inputs)
    if index.dtype == bool:
        chosen = build.elementwise("Not", [index])
    else:
        chosen = build.elementwise("LessOrEqual", [index, build.like(index, first)], bool)
    this = _graph(build, [], lambda: build.walk(branches[0], inputs))
    other = _graph(build, [], lambda: _branch(build, index, branches[1:], first + 1, inputs, avals))
    name = build.name(build.plain(chosen))
    return _results(build, "If", [name], avals, then_branch=this, else_branch=other)


@primitive("while")
def while_loop(build: Builder, eqn: Any, *inputs: Tensor) -> Sequence[Tensor]:
    """Repetition while a condition holds."""
    p = eqn.params
    cond_consts = inputs[: p["cond_nconsts"]]
    body_consts = inputs[p["cond_nconsts"] : p["cond_nconsts"] + p["body_nconsts"]]
    carry = [_stored(build, t) for t in inputs[p["cond_nconsts"] + p["body_nconsts"] :]]
    avals = [v.aval for v in eqn.outvars]

    def goes_on(values: Sequence[Tensor]) -> Tensor:
        return build.walk(p["cond_jaxpr"], [*cond_consts, *values])[0]

    before = goes_on(carry)
    inner = [_inner_value(build, "carry", t.shape, t.dtype) for t in carry]

    def body() -> Sequence[Tensor]:
        new = build.walk(p["body_jaxpr"], [*body_consts, *inner])
        if before.ndim:
            # Under vmap each element stops by itself; the others stay as they are.
            going_on = goes_on(inner)
            new = [_where_batched(build, going_on, one, old) for one, old in zip(new, inner)]
        return [_any(build, goes_on(new)), *new]

    counter = build.values.fresh("iteration", np.dtype("int64"), ())
    going = build.values.fresh("condition", np.dtype("bool"), ())
    graph = _graph(build, [counter, going, *(build.name(t) for t in inner)], body)
    start = build.name(build.plain(_any(build, before)))
    return _results(build, "Loop", ["", start, *(build.name(t) for t in carry)], avals, body=graph)


def _any(build: Builder, flags: Tensor) -> Tensor:
    return reduced(build, "ReduceMax", flags, range(flags.ndim)) if flags.ndim else flags


def _where_batched(build: Builder, flags: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return where(build, build.broadcast(flags, yes.shape, range(flags.ndim)), yes, no)


@primitive("scan")
def scan(build: Builder, eqn: Any, *inputs: Tensor) -> Sequence[Tensor]:
    """Repetition over the elements of axes, forward or backward."""
    p = eqn.params
    first, last = compat.scan_counts(p)
    last += first
    consts = inputs[:first]
    carry = [_stored(build, t) for t in inputs[first:last]]
    rows = [_stored(build, t) for t in inputs[last:]]
    inner = [_inner_value(build, "carry", t.shape, t.dtype) for t in carry]
    row = [_inner_value(build, "row", t.shape[1:], t.dtype) for t in rows]
    avals = [v.aval for v in eqn.outvars]
    outputs = len(avals) - len(carry)

    def step(element: Sequence[Tensor]) -> Sequence[Tensor]:
        return build.walk(p["jaxpr"], [*consts, *inner, *element])

    if is_static((p["length"],)) and p["length"] == 0:
        # Runtimes do not take an axis without elements.
        empty = [build.broadcast(build.constant(0, dtype_of(a)), a.shape, ()) for a in avals[len(carry) :]]
        return [*carry, *empty]
    if not rows:
        return _counted(build, p, carry, inner, avals, lambda: step([]))
    graph = _graph(build, [build.name(t) for t in (*inner, *row)], lambda: step(row))
    backward = int(p["reverse"])
    settings: dict[str, Any] = {"num_scan_inputs": len(rows), "body": graph}
    if backward:
        settings["scan_input_directions"] = [1] * len(rows)
        settings["scan_output_directions"] = [1] * outputs
    if not outputs:
        settings.pop("scan_output_directions", None)
    return _results(build, "Scan", [build.name(t) for t in (*carry, *rows)], avals, **settings)


def _counted(
    build: Builder,
    p: Any,
    carry: Sequence[Tensor],
    inner: Sequence[Tensor],
    avals: Sequence[Any],
    step: Callable[[], Sequence[Tensor]],
) -> list[Tensor]:
    """A scan over nothing but its length is a loop; what it gives in reverse is turned around afterwards."""
    counter = build.values.fresh("iteration", np.dtype("int64"), ())
    going = build.values.fresh("condition", np.dtype("bool"), ())

    def body() -> Sequence[Tensor]:
        return [stored_tensor(going, (), bool), *step()]

    graph = _graph(build, [counter, going, *(build.name(t) for t in inner)], body)
    length = build.name(build.plain(build.size(p["length"])))
    names = [length, "", *(build.name(t) for t in carry)]
    results = _results(build, "Loop", names, avals, body=graph)
    if p["reverse"]:
        results[len(carry) :] = [reversed_along(build, t, [0]) for t in results[len(carry) :]]
    return results
