"""cuDNN's attention as a primitive: chosen when a program is compiled for CUDA, differentiable in either mode.

JAX calls cuDNN where it is asked to, and then has reverse mode only, batches in some ways only, and compiles for CUDA
only. Here three primitives stand for the attention, for its tangent (linear in the tangents of the operands) and for
the transpose of that. Compiled for CUDA, the first and the third are cuDNN's kernels. The tangent always, and all three
elsewhere, are the same mathematics in JAX operations. Higher derivatives are derivatives of those operations.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

from fx_core.compat.jax import (
    Primitive,
    ShapedArray,
    ad,
    batching,
    cudnn_capability,
    devices_are_known,
    lowers_by_platform,
)
from fx_core.ops.attention.plan import plan_attention
from fx_core.ops.attention.weights import apply_weights, compute_weights, einsum_for, shape_of

__all__ = ["attend", "suits"]

_AMPERE, _HOPPER = (8, 0), (9, 0)
_SHORTEST = 128
"""Below so many queries or keys there is nothing to win: on an H200, the gradient at length 64 takes a third longer."""


def suits(query: Any, key: Any, value: Any, bias: Any) -> bool:
    """Returns whether `attend` may compute this attention here, without losing more than rounding.

    Half precision on Ampere or later; depths up to 128 (256 on Hopper) that are multiples of 8; even lengths; a bias
    of the dtype of the queries; no free sizes of an export. Not inside of `jax.shard_map` or over a mesh with explicit
    axes, as cuDNN's calls carry no such types, nor over a mesh without devices.
    """
    if min(query.ndim, key.ndim, value.ndim) < 3:
        return False
    # Sizes that an export leaves free are no numbers to compare.
    if not all(isinstance(size, int) for array in (query, key, value) for size in array.shape):
        return False
    dtype, depth, lengths = query.dtype, query.shape[-1], (query.shape[-3], key.shape[-3])
    if dtype.name not in ("bfloat16", "float16") or min(lengths) < _SHORTEST or value.shape[-1] != depth or depth % 8:
        return False
    if any(length % 2 for length in lengths) or (bias is not None and jnp.result_type(bias) != dtype):
        return False
    capability = cudnn_capability()
    if capability is None or capability < _AMPERE or depth > (256 if capability >= _HOPPER else 128):
        return False
    return devices_are_known() and all(kind == AxisType.Auto for kind in jax.sharding.get_abstract_mesh().axis_types)


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: Any, mask: jax.Array | None, is_causal: bool
) -> jax.Array:
    """Attention of arrays for which `suits` holds, with one batch dimension.

    Args:
      query: shape ``(batch, queries, heads, depth)``.
      key: shape ``(batch, keys, kv_heads, depth)``.
      value: like ``key``.
      bias: shape ``(batch, heads, queries, keys)``, where any size may be 1, or None.
      mask: boolean, likewise.
      is_causal: query ``i`` sees the keys up to ``i`` only.
    """
    lengths = (query.shape[1], key.shape[1])
    operands = [query, key, value]
    if mask is not None:
        mask = jnp.broadcast_to(mask, (*mask.shape[:2], *lengths))
        if is_causal:
            mask, is_causal = jnp.logical_and(mask, jnp.tril(jnp.ones((1, 1, *lengths), bool))), False
        # Low enough for a weight of zero, and such that cuDNN may subtract one such number from another.
        low = jnp.where(mask, 0, -(2.0**15) if query.dtype == jnp.float16 else -(2.0**41)).astype(query.dtype)
        bias = low if bias is None else bias + low
    if bias is not None:
        operands.append(jnp.broadcast_to(bias, (*bias.shape[:2], *lengths)))
    (result,) = attend_p.bind(*operands, is_causal=bool(is_causal), saving=False)
    if mask is None:
        return result
    # A query that sees nothing averages all values and gives no gradient to its logits. What is added to them does not
    # make it so: in float16 they still show, and in every dtype they would get gradients.
    average = jnp.repeat(jnp.mean(value, 1, keepdims=True), query.shape[2] // value.shape[2], 2)
    return jnp.where(jnp.swapaxes(jnp.any(mask, -1, keepdims=True), 1, 2), result, average)


# The two ways to compute


def _plain(*operands: jax.Array, is_causal: bool) -> jax.Array:
    query, key, value = operands[:3]
    bias = operands[3] if len(operands) > 3 else None
    if query.dtype == jnp.bfloat16:
        return jax.nn.dot_product_attention(query, key, value, bias, is_causal=is_causal, implementation="xla")
    plan = plan_attention(query.shape, key.shape, value.shape, bias=shape_of(bias), dtype=query.dtype)
    einsum = einsum_for(None, None)
    return apply_weights(plan, compute_weights(plan, query, key, bias, None, einsum, is_causal, False), value, einsum)


def _plain_tangent(*args: jax.Array, is_causal: bool, count: int) -> list[jax.Array]:
    return [jax.jvp(functools.partial(_plain, is_causal=is_causal), args[:count], args[-count:])[1]]


def _plain_pullback(*args: jax.Array, is_causal: bool, count: int) -> list[jax.Array]:
    return list(jax.vjp(functools.partial(_plain, is_causal=is_causal), *args[:count])[1](args[-1]))


def _kernel(*operands: jax.Array, is_causal: bool) -> jax.Array:
    return jax.nn.dot_product_attention(*operands, is_causal=is_causal, implementation="cudnn")


@dataclasses.dataclass(frozen=True)
class _Saved:
    """What the backward kernel needs.

    Attributes:
      stats: the arrays that only the forward kernel knows, as shapes and dtypes; all have the batch as first dimension.
      sources: for each array in JAX's closure over the backward kernel, the number of an operand, ``"out"``,
        a shape and dtype of zeros, or the statistics in turn (``"stat"``). None if it could not be understood; then
        the forward kernel runs again before the backward.
      closure: the structure of the closure.
    """

    stats: tuple[Any, ...] = ()
    sources: tuple[Any, ...] | None = None
    closure: Any = None


def _saved(operands: Any, is_causal: bool) -> _Saved:
    return _saved_for(tuple((x.shape, np.dtype(x.dtype)) for x in operands), is_causal)


@functools.lru_cache(maxsize=256)
def _saved_for(operands: tuple[Any, ...], is_causal: bool) -> _Saved:
    closures: list[Any] = []

    def run(*operands: jax.Array) -> Any:
        out, pullback = jax.vjp(functools.partial(_kernel, is_causal=is_causal), *operands)
        leaves, closure = jax.tree.flatten(pullback)
        closures.append(closure)
        return [out, *leaves]

    program = jax.make_jaxpr(run)(*(jax.ShapeDtypeStruct(*operand) for operand in operands)).jaxpr
    out, *leaves = program.outvars
    known: dict[Any, Any] = {id(var): number for number, var in enumerate(program.invars)} | {id(out): "out"}
    sources: list[Any] = []
    stats: list[Any] = []
    for leaf in leaves:
        if id(leaf) in known:
            sources.append(known[id(leaf)])
        elif not math.prod(leaf.aval.shape):
            sources.append((leaf.aval.shape, leaf.aval.dtype))
        elif leaf.aval.shape[:1] == operands[0][0][:1]:
            sources.append("stat")
            stats.append((leaf.aval.shape, leaf.aval.dtype))
        else:
            return _Saved()
    return _Saved(tuple(stats), tuple(sources), closures[0])


def _kernel_attend(*operands: jax.Array, is_causal: bool, saving: bool) -> list[jax.Array]:
    saved = _saved(operands, is_causal)
    if not saving or not saved.stats:
        return [_kernel(*operands, is_causal=is_causal)]
    assert saved.sources is not None
    out, pullback = jax.vjp(functools.partial(_kernel, is_causal=is_causal), *operands)
    leaves = jax.tree.leaves(pullback)
    return [out, *(leaf for leaf, source in zip(leaves, saved.sources) if source == "stat")]


def _kernel_pullback(*args: jax.Array, is_causal: bool, count: int) -> list[jax.Array]:
    operands, (out, *stats), cotangent = args[:count], args[count:-1], args[-1]
    saved = _saved(operands, is_causal)
    if saved.sources is None:
        return list(jax.vjp(functools.partial(_kernel, is_causal=is_causal), *operands)[1](cotangent))
    left = iter(stats)
    leaves: list[Any] = []
    for source in saved.sources:
        if isinstance(source, tuple):
            leaves.append(jnp.zeros(*source))
        else:
            leaves.append(next(left) if source == "stat" else out if source == "out" else operands[source])
    return list(jax.tree.unflatten(saved.closure, leaves)(cotangent))


def _plain_attend(*operands: jax.Array, is_causal: bool, saving: bool) -> list[jax.Array]:
    stats = _saved(operands, is_causal).stats if saving else ()
    return [_plain(*operands, is_causal=is_causal), *(jnp.zeros(*stat) for stat in stats)]


# The primitives


def _primitive(name: str, plain: Any, cuda: Any, *static: str) -> Any:
    primitive: Any = Primitive(name)
    primitive.multiple_results = True
    primitive.def_impl(jax.jit(primitive.bind, static_argnames=("is_causal", *static)))
    lowers_by_platform(primitive, plain, cuda)
    return primitive


attend_p = _primitive("fx_attention", _plain_attend, _kernel_attend, "saving")
# Operands, result, statistics, tangents of the operands; gives the tangent of the result.
tangent_p = _primitive("fx_attention_tangent", _plain_tangent, _plain_tangent, "count")
# Operands, result, statistics, cotangent of the result; gives the cotangents of the operands.
pullback_p = _primitive("fx_attention_pullback", _plain_pullback, _kernel_pullback, "count")


@attend_p.def_abstract_eval
def _(*operands: Any, is_causal: bool, saving: bool) -> list[Any]:
    stats = _saved(operands, is_causal).stats if saving else ()
    return [ShapedArray(operands[0].shape, operands[0].dtype), *(ShapedArray(*stat) for stat in stats)]


@tangent_p.def_abstract_eval
def _(*args: Any, is_causal: bool, count: int) -> list[Any]:
    return [ShapedArray(args[0].shape, args[0].dtype)]


@pullback_p.def_abstract_eval
def _(*args: Any, is_causal: bool, count: int) -> list[Any]:
    return [ShapedArray(x.shape, x.dtype) for x in args[:count]]


def _zero(tangent: Any) -> bool:
    return isinstance(tangent, ad.Zero)


def _made(tangents: Any) -> list[Any]:
    return [ad.instantiate_zeros(tangent) for tangent in tangents]


def _attend_jvp(primals: Any, tangents: Any, *, is_causal: bool, saving: bool) -> Any:
    outs = attend_p.bind(*primals, is_causal=is_causal, saving=True)
    given = _made(tangents)
    out_tangents = tangent_p.bind(*primals, *outs, *given, is_causal=is_causal, count=len(primals))
    if not saving:
        return outs[:1], out_tangents
    # The statistics go nowhere but into the kernels, whose derivatives do not use them.
    return outs, [*out_tangents, *(jnp.zeros_like(stat) for stat in outs[1:])]


def _linear_jvp(primitive: Any, plain: Any, linear: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    """The derivative of a function that is linear in its last arguments, and uses only those and the operands."""
    outs = primitive.bind(*primals, **params)
    count, last = params["count"], linear(params["count"])
    fixed = len(primals) - last
    if all(map(_zero, tangents[:count])):
        return outs, primitive.bind(*primals[:fixed], *_made(tangents[fixed:]), **params)
    used = [*range(count), *range(fixed, len(primals))]
    _, out_tangents = jax.jvp(
        functools.partial(plain, **params), [primals[i] for i in used], _made(tangents[i] for i in used)
    )
    return outs, out_tangents


def _tangent_transpose(cotangents: Any, *args: Any, is_causal: bool, count: int) -> list[Any]:
    fixed, unknown = args[:-count], args[-count:]
    if _zero(cotangents[0]):
        return [None] * len(args)
    grads = pullback_p.bind(*fixed, cotangents[0], is_causal=is_causal, count=count)
    return [None] * len(fixed) + [
        grad if ad.is_undefined_primal(tangent) else None for grad, tangent in zip(grads, unknown)
    ]


def _pullback_transpose(cotangents: Any, *args: Any, is_causal: bool, count: int) -> list[Any]:
    (out,) = tangent_p.bind(*args[:-1], *_made(cotangents), is_causal=is_causal, count=count)
    return [*(None for _ in args[:-1]), out]


def _batched(primitive: Any, args: Any, axes: Any, **params: Any) -> tuple[list[Any], list[int]]:
    """Another batch dimension joins the one that there is."""
    size = next(x.shape[axis] for x, axis in zip(args, axes) if axis is not None)
    arrays = [
        jnp.broadcast_to(x, (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(args, axes)
    ]
    batch = arrays[0].shape[1]
    # A bias for the whole batch becomes one for each, so that its gradient is that of its own example.
    whole = [x.shape[1] != batch for x in arrays]
    joined = [
        (jnp.broadcast_to(x, (size, batch, *x.shape[2:])) if shared else x).reshape((size * batch, *x.shape[2:]))
        for x, shared in zip(arrays, whole)
    ]
    outs = [out.reshape((size, batch, *out.shape[1:])) for out in primitive.bind(*joined, **params)]
    if primitive is pullback_p:
        outs = [jnp.sum(out, 1, keepdims=True) if shared else out for out, shared in zip(outs, whole)]
    return outs, [0] * len(outs)


ad.primitive_jvps[attend_p] = _attend_jvp
ad.primitive_jvps[tangent_p] = functools.partial(_linear_jvp, tangent_p, _plain_tangent, lambda count: count)
ad.primitive_jvps[pullback_p] = functools.partial(_linear_jvp, pullback_p, _plain_pullback, lambda count: 1)
ad.primitive_transposes[tangent_p] = _tangent_transpose
ad.primitive_transposes[pullback_p] = _pullback_transpose
for _each in (attend_p, tangent_p, pullback_p):
    batching.primitive_batchers[_each] = functools.partial(_batched, _each)
