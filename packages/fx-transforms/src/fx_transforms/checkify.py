"""checkify over groups of state."""

import functools
from collections.abc import Callable
from typing import Any

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
    """

    @functools.wraps(fn)
    def call(handle: Any, *args: Any, **kwargs: Any) -> Any:
        shape, groups = carrier.split(handle)

        def pure(groups: Groups, *args: Any, **kwargs: Any) -> Outcome:
            return run(carrier, fn, shape, groups, *args, **kwargs)

        error, outcome = jax_checkify.checkify(pure, errors=errors)(groups, *args, **kwargs)
        return error, carrier.absorb(handle, *outcome)

    return call
