"""checkify over groups of state."""

import functools
from collections.abc import Callable
from typing import Any

from fx_core.compat.jax import as_arrays
from fx_core.compat.jax import checkify as jax_checkify

from fx_transforms.carrier import Carrier, Groups, Outcome, run

__all__ = ["checkify"]


def checkify(
    fn: Callable[..., Any], carrier: Carrier[Any], *, errors: Any = jax_checkify.user_checks
) -> Callable[..., Any]:
    """Converts the run-time checks in ``fn(inner, *args, **kwargs)`` into an error value.

    Returns:
      a function ``(handle, *args, **kwargs) -> (error, out)`` that changes the handle as ``fn`` did; see
      `jax.experimental.checkify`.

    >>> import fx_core
    >>> import fx_transforms
    >>> from jax.experimental import checkify as jax_checkify
    >>> carrier = fx_transforms.ScopeCarrier(["params"], [False], [])
    >>> def log(scope, x):
    ...     jax_checkify.check(x > 0, "x must be positive")
    ...     return jax.numpy.log(x)
    >>> import jax
    >>> scope = fx_core.Scope({"params": {}}, {})
    >>> error, _ = fx_transforms.checkify(log, carrier)(scope, jax.numpy.zeros(()))
    >>> "x must be positive" in error.get()
    True
    """

    @functools.wraps(fn)
    def call(handle: Any, *args: Any, **kwargs: Any) -> Any:
        shape, groups = carrier.split(handle)

        def pure(groups: Groups, *args: Any, **kwargs: Any) -> Outcome:
            return run(carrier, fn, shape, groups, *args, **kwargs)

        error, outcome = jax_checkify.checkify(pure, errors=errors)(groups, *args, **kwargs)
        return error, carrier.absorb(handle, *as_arrays(outcome))

    return call
