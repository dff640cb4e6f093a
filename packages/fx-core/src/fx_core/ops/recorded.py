"""Functions whose operations are recorded once in a process, for all layers of a kind."""

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.core
import jax.numpy as jnp

from fx_core.compat.jax import DynamicJaxprTracer, inlined_at_once, is_recorded, tracing

__all__ = ["recorded_once"]

# Quantizers replace these in JAX, or the code of these, to ask at each call what layer it is for.
_REPLACEABLE = (jax.lax.dot_general, jnp.einsum, jax.nn.softmax)
_code = operator.attrgetter("__code__")
_CODE = [*map(_code, _REPLACEABLE)]


def recorded_once(function: Callable[..., Any], arrays: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
    """Calls ``function(*arrays, **options)``, with less work where `jax.jit` only records operations.

    There the operations are kept, and recorded again for arrays of the same shapes and dtypes: the program is the same,
    without a call in it, and each operation is that of the layer that runs. A layer norm is traced in a fifth of the
    time, attention in a fifteenth. So it is in `jax.vmap` inside of jit. Elsewhere in a transform (in `jax.grad` inside
    of jit) the function is called, as JAX would transform it in another order.

    Args:
      function: a pure function, the same object at each call.
      arrays: its arguments: arrays or None, of which the first decides.
      options: its keyword arguments; where they have no hash, or numbers of NumPy among them, the function is called.

    >>> import jax.numpy as jnp
    >>> def affine(x, scale, *, shift):
    ...     return x * scale + shift
    >>> layers = lambda x, s: recorded_once(affine, (recorded_once(affine, (x, s), {"shift": 1.0}), s), {"shift": 1.0})
    >>> print(jax.make_jaxpr(layers)(2.0, 3.0))  # doctest: +NORMALIZE_WHITESPACE
    { lambda ; a:f32[] b:f32[]. let
        c:f32[] = mul a b
        d:f32[] = add c 1.0:f32[]
        e:f32[] = mul d b
        f:f32[] = add e 1.0:f32[]
      in (f,) }
    """
    # The class is asked first: outside of `jax.vmap` that spares a call for each array of each layer.
    recorded = isinstance(arrays[0], DynamicJaxprTracer) or is_recorded(arrays[0])
    for array in arrays:
        if not (array is None or isinstance(array, DynamicJaxprTracer) or is_recorded(array)):
            recorded = recorded and isinstance(array, jax.Array) and not isinstance(array, jax.core.Tracer)
    now = (jax.lax.dot_general, jnp.einsum, jax.nn.softmax)
    replaced = now != _REPLACEABLE or [*map(_code, now)] != _CODE
    if not recorded or replaced or not tracing() or not jax.sharding.get_abstract_mesh().empty:
        return function(*arrays, **options)
    # Equal numbers of other types (1, 1.0, True, np.float32(1)) make other programs.
    call = (function, tuple([(name, type(value), value) for name, value in options.items()]))
    try:
        hash(call)
    except TypeError:
        return function(*arrays, **options)
    return _recorded(call, *arrays)


@functools.partial(jax.jit, static_argnums=0, inline=inlined_at_once)
def _recorded(call: tuple[Any, ...], *arrays: Any) -> Any:
    function, options = call
    return function(*arrays, **{name: value for name, _, value in options})
