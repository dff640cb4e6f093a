"""Arrays, PRNG keys and devices: what JAX offers for them under private or changing names."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax._src.array import ArrayImpl
from jax._src.lib import cuda_versions
from jax._src.mesh import get_concrete_mesh
from jax.experimental.layout import Format, with_layout_constraint

try:
    from jax._src.random.threefry2x32 import _threefry2x32_lowering
except ImportError:  # before JAX 0.10.1
    from jax._src.prng import _threefry2x32_lowering  # type: ignore[no-redef]

__all__ = [
    "array_aval",
    "cudnn_capability",
    "devices_are_known",
    "einsum_with",
    "key_kind",
    "key_that_draws",
    "normal_scales_first",
    "threefry_words",
    "weakly_typed",
    "with_memory_layout",
]


array_aval: Callable[[Any], jax.core.ShapedArray] = ArrayImpl.aval.fget  # type: ignore[attr-defined]
"""Returns the abstract value of an array with a buffer; raises `TypeError` for PRNG keys, tracers and all else."""


def _unused(*_: Any) -> Any:
    raise TypeError("This key only draws bits.")


def key_that_draws(words: Any, random_bits: Callable[..., jax.Array], name: str) -> jax.Array:
    """Returns a key from which `jax.random` draws flat arrays of the given bits.

    Args:
      words: the data of the key, four words.
      random_bits: called with the words and a number of elements, gives 32 bits for each.
      name: of the kind of keys.
    """
    return jax.random.wrap_key_data(words, impl=_kind_of_keys(random_bits, name))


@functools.cache
def _kind_of_keys(random_bits: Callable[..., jax.Array], name: str) -> Any:
    # `jax.extend` imports Pallas, whose settings become part of the key of JAX's caches: what was compiled before, such
    # as the program that is just being traced, would be compiled again at its second call.
    try:
        from jax._src.extend.random import define_prng_impl
    except ImportError:  # where it moves
        from jax.extend.random import define_prng_impl  # type: ignore[no-redef]

    def draw(words: Any, width: int, shape: Sequence[int]) -> Any:
        (count,) = shape
        return jnp.asarray(random_bits(words, count), dtype=f"uint{width}")

    return define_prng_impl(
        key_shape=(4,), seed=_unused, split=_unused, fold_in=_unused, random_bits=draw, name=name, tag="fxc"
    )


@functools.cache
def _fold_in_primitive() -> Any:
    """What `jax.random.fold_in` records; taken from a trace, as its module imports Pallas or moves between versions."""
    # The key is made inside, or it would become part of the trace around.
    program = jax.make_jaxpr(lambda seed: jax.random.fold_in(jax.random.key(seed), np.uint32(0)))(0)
    return program.eqns[-1].primitive


def record_fold_in(key: Any, data: Any) -> jax.Array:
    """Returns what `jax.random.fold_in` gives for a scalar of uint32; in a trace, past its conversions of arguments.

    These take three quarters of its time, and building a network in a trace does little else than derive keys.
    """
    traced = isinstance(key, jax.core.Tracer) or isinstance(data, jax.core.Tracer)
    plain = jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == data.shape == () and data.dtype == np.uint32
    if traced and plain and jax.sharding.get_abstract_mesh().empty:
        return _fold_in_primitive().bind(key, data)
    return jax.random.fold_in(key, data)


@functools.cache
def normal_scales_first() -> bool:
    """Returns whether JAX's normal initializers multiply the scale with √2 before they multiply with the sample.

    JAX 0.10 scales the result of `jax.random.normal`, 0.12 does this and means to go back: the traced program shows it.
    """
    program = jax.make_jaxpr(lambda key: jax.nn.initializers.normal()(key, (1,), np.float32))(jax.random.key(0))
    return any(eqn.primitive.name == "erf_inv" for eqn in program.jaxpr.eqns)


def weakly_typed(array: jax.Array) -> jax.Array:
    """Returns the same array with JAX's weak type, as results of arithmetic with Python numbers have it."""
    return jax.lax.convert_element_type_p.bind(array, new_dtype=array.dtype, weak_type=True, sharding=None)


def einsum_with(dot_general: Callable[..., jax.Array], **options: Any) -> Callable[..., jax.Array]:
    """`jax.numpy.einsum` that multiplies with the given replacement of `jax.lax.dot_general`."""
    return functools.partial(jnp.einsum, _dot_general=dot_general, **options)


def key_kind(dtype: Any) -> Any:
    """Returns how keys of a dtype are made and used: functions ``seed split fold_in random_bits`` of single keys as
    words.
    """
    return dtype._impl


def threefry_words(*words: Any) -> Any:
    """Returns the function that threefry keys draw with, in arithmetic of integers without loops."""
    return _threefry2x32_lowering(*words, use_rolled_loops=False)


@functools.cache
def cudnn_capability() -> tuple[int, ...] | None:
    """Returns the lowest compute capability of the CUDA devices of this process; None without such devices or without
    cuDNN.
    """
    if cuda_versions is None:
        return None
    try:
        devices = jax.local_devices(backend="cuda")
    except RuntimeError:  # the build of JAX for CUDA on a machine without one
        return None
    return min(tuple(int(part) for part in device.compute_capability.split(".")) for device in devices)


def devices_are_known() -> bool:
    """Returns whether the mesh around, if there is one, has devices."""
    return jax.sharding.get_abstract_mesh().empty or not get_concrete_mesh().empty


def with_memory_layout(array: jax.Array, layout: Any) -> jax.Array:
    """Returns an array with its dimensions in memory as a `jax.experimental.layout.Layout` says."""
    if isinstance(array, jax.core.Tracer):
        return with_layout_constraint(array, layout)
    return jax.device_put(array, Format(layout, array.sharding))
