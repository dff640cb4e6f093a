"""eval_shape and make_jaxpr over groups of state."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from fx_transforms.carrier import Carrier, Groups, Outcome, run

__all__ = ["eval_shape", "make_jaxpr"]


def eval_shape(fn: Callable[..., Any], carrier: Carrier[Any]) -> Callable[..., Outcome]:
    """Finds out what ``fn(inner, *args, **kwargs)`` would leave behind, without computing.

    Returns:
      a function ``(handle, *args, **kwargs)`` that gives an `Outcome` of shapes; the handle stays as it is.

    >>> import jax
    >>> import fx_core
    >>> import fx_transforms
    >>> carrier = fx_transforms.ScopeCarrier(["params"], [False], [])
    >>> scope = fx_core.Scope({"params": {"kernel": jax.numpy.ones((3, 2))}}, {})
    >>> dense = lambda scope, x: x @ scope.get_variable("params", "kernel")
    >>> fx_transforms.eval_shape(dense, carrier)(scope, jax.numpy.ones((5, 3))).out
    ShapeDtypeStruct(shape=(5, 2), dtype=float32)
    """

    @functools.wraps(fn)
    def call(handle: Any, *args: Any, **kwargs: Any) -> Outcome:
        shape, groups = carrier.split(handle)
        return jax.eval_shape(functools.partial(run, carrier, fn, shape), groups, *args, **kwargs)

    return call


def make_jaxpr(fn: Callable[..., Any], carrier: Carrier[Any]) -> Callable[..., tuple[Any, Outcome]]:
    """Traces ``fn(inner, *args, **kwargs)``.

    Returns:
      a function ``(handle, *args, **kwargs)`` that gives the jaxpr, whose inputs are the leaves of the groups and the
      arguments, and the `Outcome` in shapes; the handle stays as it is.

    >>> import jax
    >>> import fx_core
    >>> import fx_transforms
    >>> carrier = fx_transforms.ScopeCarrier(["params"], [False], [])
    >>> scope = fx_core.Scope({"params": {"scale": jax.numpy.ones(())}}, {})
    >>> scale = lambda scope, x: x * scope.get_variable("params", "scale")
    >>> jaxpr, outcome = fx_transforms.make_jaxpr(scale, carrier)(scope, 2.0)
    >>> [str(equation.primitive) for equation in jaxpr.jaxpr.eqns][-1]
    'mul'
    """

    @functools.wraps(fn)
    def call(handle: Any, *args: Any, **kwargs: Any) -> tuple[Any, Outcome]:
        shape, groups = carrier.split(handle)

        def pure(groups: Groups, *args: Any, **kwargs: Any) -> Outcome:
            return run(carrier, fn, shape, groups, *args, **kwargs)

        return jax.make_jaxpr(pure, return_shape=True)(groups, *args, **kwargs)

    return call
