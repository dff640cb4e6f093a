"""remat over groups of state."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from fx_core.compat.jax import as_arrays

from fx_transforms.carrier import Carrier, Groups, Outcome, run
from fx_transforms.jit import positions

__all__ = ["remat"]


def remat(
    fn: Callable[..., Any],
    carrier: Carrier[Any],
    *,
    prevent_cse: bool = True,
    static_argnums: int | Sequence[int] = (),
    policy: Callable[..., bool] | None = None,
) -> Callable[..., Any]:
    """Recomputes ``fn(inner, *args)`` in the backward pass instead of keeping what it computed.

    Args:
      fn: function of the merged state and arrays.
      carrier: what splits and merges the state.
      prevent_cse: see `jax.checkpoint`; `False` is right, and faster, inside scan.
      static_argnums: positions of Python arguments; the state is position 0.
      policy: what to keep all the same, one of `jax.checkpoint_policies`.

    Returns:
      a function ``(handle, *args, **kwargs)`` that changes the handle as ``fn`` did.

    >>> import jax
    >>> import fx_core
    >>> import fx_transforms
    >>> carrier = fx_transforms.ScopeCarrier(["params"], [False], [])
    >>> scope = fx_core.Scope({"params": {"scale": 2.0}}, {})
    >>> sine = fx_transforms.remat(lambda scope, x: jax.numpy.sin(x * scope.get_variable("params", "scale")), carrier)
    >>> float(jax.grad(lambda x: sine(scope, x))(0.0))  # the sine is computed again for the gradient
    2.0
    """
    statics = positions(static_argnums)

    @functools.wraps(fn)
    def call(handle: Any, *args: Any, **kwargs: Any) -> Any:
        shape, groups = carrier.split(handle)

        def pure(groups: Groups, *args: Any, **kwargs: Any) -> Outcome:
            return run(carrier, fn, shape, groups, *args, **kwargs)

        saved = jax.checkpoint(pure, prevent_cse=prevent_cse, static_argnums=statics, policy=policy)
        return carrier.absorb(handle, *as_arrays(saved(groups, *args, **kwargs)))

    return call
