"""Gradients of functions of scopes."""

from collections.abc import Callable, Sequence
from typing import Any

from fx_core.scope import CollectionFilter

from fx_transforms.grad import value_and_grad as grad_groups
from fx_transforms.lift.dropped import refuse_dropped
from fx_transforms.lift.explain import explaining
from fx_transforms.scope_carrier import ScopeCarrier

__all__ = ["value_and_grad"]


def value_and_grad(
    fn: Callable[..., Any],
    scope: Any,
    *primals: Any,
    has_aux: bool = False,
    reduce_axes: Sequence[Any] = (),
    variables: CollectionFilter = True,
    rngs: CollectionFilter = True,
) -> Any:
    """Differentiates the scalar ``fn(scope, *primals)`` with respect to all primals; see `jax.value_and_grad`.

    Args:
      fn: gives a scalar, or ``(scalar, aux)``.
      scope: a scope or a tree of scopes.
      *primals: arguments.
      has_aux: whether ``fn`` gives more than the scalar.
      reduce_axes: empty: JAX sums over no named axes any more.
      variables: collections that take part; they get no gradient.
      rngs: streams that take part.

    Returns:
      ``(value, grads)`` or ``(value, aux, grads)``, the gradients as a tuple.

    Raises:
      TransformError: ``fn`` does not give a scalar, or no pair where ``has_aux`` says so.
      CollectionNotLiftedError: ``fn`` uses a collection that ``variables`` does not name.
      RngNotLiftedError: ``fn`` uses an RNG stream that ``rngs`` does not name.
      UnsupportedOperationError: ``reduce_axes`` names axes.
    """
    refuse_dropped("value_and_grad", "reduce_axes", reduce_axes)
    carrier = ScopeCarrier([variables], [variables], [rngs], "value_and_grad")
    numbers = range(1, len(primals) + 1)
    with explaining(carrier, scope):
        out, (_, grads) = grad_groups(fn, carrier, wrt=(), argnums=numbers, has_aux=has_aux)(scope, *primals)
    return (*out, grads) if has_aux else (out, grads)
