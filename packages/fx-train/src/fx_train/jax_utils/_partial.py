"""What of a function's results does not depend on its input's values."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.compat.jax import prune_jaxpr


def partial_eval_by_shape(fn: Callable[..., Any], input_spec: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
    """Evaluates a function as far as the shapes of its first arguments allow.

    An initialization that runs the network needs no input, only its shape: parameters come out as arrays, activations
    as shapes, and nothing is computed for them.

    >>> def fn(x, scale):
    ...     return jnp.ones(x.shape[-1]) * scale, x.sum(axis=1)
    >>> known, unknown = partial_eval_by_shape(fn, [((8, 2), jnp.float32)], 3.0)
    >>> known.tolist(), unknown.shape
    ([3.0, 3.0], (8,))

    Args:
      fn: called as ``fn(*inputs, *args, **kwargs)``.
      input_spec: for each input a shape, a pair (shape, dtype) or a `jax.ShapeDtypeStruct`; float32 by default.
      *args: further arguments, with their values.
      **kwargs: keyword arguments, with their values.

    Returns:
      What ``fn`` returns, with a `jax.ShapeDtypeStruct` in place of each array that depends on the inputs. Python
      numbers and NumPy arrays stay what they are.
    """
    inputs = [_struct(spec) for spec in input_spec]
    fixed: list[tuple[bool, Any]] = []

    def traced(*xs: Any) -> Any:
        out = fn(*xs, *args, **kwargs)
        fixed[:] = [(not isinstance(leaf, jax.Array), leaf) for leaf in jax.tree.leaves(out)]
        return out

    program, shapes = jax.make_jaxpr(traced, return_shape=True)(*inputs)
    leaves, structure = jax.tree.flatten(shapes)
    known = [
        not any(prune_jaxpr(program, [i == wanted for i in range(len(leaves))])[1]) for wanted in range(len(leaves))
    ]
    evaluate, _ = prune_jaxpr(program, known)
    values = iter(jax.jit(evaluate)())
    found = [next(values) if is_known else leaf for is_known, leaf in zip(known, leaves)]
    # What came without being computed, such as a Python number that the caller may need as a shape, stays as it is.
    return structure.unflatten([own if is_own else leaf for (is_own, own), leaf in zip(fixed, found)])


def _struct(spec: Any) -> jax.ShapeDtypeStruct:
    if hasattr(spec, "shape") and hasattr(spec, "dtype"):
        return jax.ShapeDtypeStruct(spec.shape, spec.dtype)
    spec = tuple(spec)
    if len(spec) == 2 and not isinstance(spec[0], int):
        return jax.ShapeDtypeStruct(tuple(spec[0]), spec[1])
    return jax.ShapeDtypeStruct(spec, jnp.float32)
