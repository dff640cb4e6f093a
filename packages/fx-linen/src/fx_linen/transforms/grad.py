"""Gradients of functions of modules."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from fx_core.scope import CollectionFilter
from fx_transforms import lift
from fx_transforms.lift.dropped import refuse_dropped

from fx_linen.transforms._direct import directly

__all__ = ["grad", "value_and_grad"]


def value_and_grad(
    fn: Callable[..., Any],
    mdl: Any,
    *primals: Any,
    has_aux: bool = False,
    reduce_axes: Sequence[Any] = (),
    variables: CollectionFilter = True,
    rngs: CollectionFilter = True,
) -> Any:
    """Differentiates the scalar ``fn(module, *primals)`` with respect to all primals; see `jax.value_and_grad`.

    For the gradient of parameters use `vjp` inside a network, `jax.grad` of ``apply`` outside.

    Args:
      fn: gives a scalar, or ``(scalar, aux)``.
      mdl: a module.
      *primals: arguments.
      has_aux: whether ``fn`` gives more than the scalar.
      reduce_axes: empty: JAX sums over no named axes any more.
      variables: collections that take part; they get no gradient.
      rngs: streams that take part.

    Returns:
      ``(value, grads)`` or ``((value, aux), grads)``, the gradients as a tuple with one entry per primal.

    Raises:
      TransformError: ``fn`` does not give a scalar, or no pair where ``has_aux`` says so.
      CollectionNotLiftedError: ``fn`` uses a collection that ``variables`` does not name.
      RngNotLiftedError: ``fn`` uses an RNG stream that ``rngs`` does not name.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> class Force(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, x):
    ...         energy = nn.Dense(1, kernel_init=nn.initializers.ones)
    ...         value, (gradient,) = nn.value_and_grad(lambda energy, x: energy(x).sum(), energy, x)
    ...         return -gradient
    >>> force, variables = Force().init_with_output(jax.random.key(0), jnp.ones(3))
    >>> force
    Array([-1., -1., -1.], dtype=float32)
    """
    refuse_dropped("value_and_grad", "reduce_axes", reduce_axes)
    lifted = functools.partial(lift.value_and_grad, has_aux=has_aux, variables=variables, rngs=rngs)
    *value, grads = directly(lifted, (fn,), mdl, *primals)
    return (tuple(value) if has_aux else value[0]), grads


def grad(
    fn: Callable[..., Any],
    mdl: Any,
    *primals: Any,
    has_aux: bool = False,
    reduce_axes: Sequence[Any] = (),
    variables: CollectionFilter = True,
    rngs: CollectionFilter = True,
) -> Any:
    """Returns the gradients of `value_and_grad` alone.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> class Slope(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, x):
    ...         (x_grad,) = nn.grad(lambda dense, x: dense(x).sum(), nn.Dense(1, kernel_init=nn.initializers.ones), x)
    ...         return x_grad
    >>> Slope().init_with_output(jax.random.key(0), jnp.zeros(3))[0]
    Array([1., 1., 1.], dtype=float32)

    Args:
      fn: gives a scalar, or ``(scalar, aux)``.
      mdl: a module.
      *primals: arguments.
      has_aux: whether ``fn`` gives more than the scalar.
      reduce_axes: empty: JAX sums over no named axes any more.
      variables: collections that take part; they get no gradient.
      rngs: streams that take part.

    Returns:
      A tuple with one gradient per primal, with ``has_aux`` a pair of it and ``aux``.

    Raises:
      TransformError: ``fn`` does not give a scalar, or no pair where ``has_aux`` says so.
    """
    value, grads = value_and_grad(
        fn, mdl, *primals, has_aux=has_aux, reduce_axes=reduce_axes, variables=variables, rngs=rngs
    )
    return (grads, value[1]) if has_aux else grads
