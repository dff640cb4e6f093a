"""Products with the Jacobian of functions of modules, in both modes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from fx_core.errors import UnsupportedOperationError
from fx_core.scope import CollectionFilter
from fx_transforms import lift
from fx_transforms.lift.dropped import refuse_dropped

from fx_linen.transforms._direct import directly

__all__ = ["jvp", "vjp"]


Tangents = Mapping[str, Any]


def only_scope(transform: str, scopes: Sequence[Any], fix: str) -> None:
    """Checks that all variables are in one place."""
    if len(scopes) > 1:
        raise UnsupportedOperationError(
            f"{transform} got a module whose variables are in several places, because it holds modules from elsewhere.",
            expected="a module that has all its variables below itself",
            got=f"variables at {', '.join([scope.path_text for scope in scopes])}",
            fix=fix,
        )


def vjp(
    fn: Callable[..., Any],
    mdl: Any,
    *primals: Any,
    has_aux: bool = False,
    reduce_axes: Sequence[Any] = (),
    vjp_variables: CollectionFilter = "params",
    variables: CollectionFilter = True,
    rngs: CollectionFilter = True,
    multi_scope: bool = False,
) -> Any:
    """Linearizes ``fn(module, *primals)`` backwards, with respect to variables and all primals; see `jax.vjp`.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> class Twice(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, x):
    ...         dense = nn.Dense(2, use_bias=False)
    ...         dense(x)  # creates the variables
    ...         y, backward = nn.vjp(lambda dense, x: dense(x), dense, x)
    ...         variables_t, x_t = backward(jnp.ones_like(y))
    ...         return variables_t["params"]["kernel"], x_t
    >>> (kernel_t, x_t), _ = Twice().init_with_output(jax.random.key(0), jnp.ones(3))
    >>> kernel_t.shape, x_t.shape
    ((3, 2), (3,))

    Args:
      fn: the function.
      mdl: a module.
      *primals: arguments.
      has_aux: whether ``fn`` gives ``(out, aux)``.
      reduce_axes: empty: JAX sums over no named axes any more.
      vjp_variables: collections that get cotangents. Variables that ``fn`` creates get none.
      variables: all collections that take part.
      rngs: streams that take part.
      multi_scope: whether the variables' cotangents come as a list, one dictionary for each place that the module has
        variables in: those of modules that it holds from elsewhere, in the order of its fields, then its own.

    Returns:
      ``(out, backward)`` or ``(out, backward, aux)``, where ``backward(cotangent)`` gives
      ``(variable_cotangents, *primal_cotangents)``, the first by collection. The function ``backward`` is a pytree.

    Raises:
      UnsupportedOperationError: the module holds modules from elsewhere, without ``multi_scope``.
      CollectionNotLiftedError: ``fn`` uses a collection that ``variables`` does not name.
      RngNotLiftedError: ``fn`` uses an RNG stream that ``rngs`` does not name.
      UnsupportedOperationError: ``reduce_axes`` names axes.
    """
    refuse_dropped("vjp", "reduce_axes", reduce_axes)

    def lifted(fn: Any, scopes: Any, *primals: Any) -> Any:
        if not multi_scope:
            only_scope("vjp", scopes, "Pass multi_scope=True, and expect one dictionary of cotangents per place.")
        return lift.vjp(
            fn, scopes, *primals, has_aux=has_aux, vjp_variables=vjp_variables, variables=variables, rngs=rngs
        )

    out, backward, *aux = directly(lifted, (fn,), mdl, *primals)
    if not multi_scope:
        backward = jax.tree_util.Partial(_of_one, backward)
    return (out, backward, *aux)


def _of_one(backward: Callable[..., Any], cotangent: Any) -> tuple[Any, ...]:
    variables_t, *rest = backward(cotangent)
    return (variables_t[0] if variables_t else {}, *rest)


def jvp(
    fn: Callable[..., Any],
    mdl: Any,
    primals: tuple[Any, ...],
    tangents: tuple[Any, ...],
    variable_tangents: Tangents,
    variables: CollectionFilter = True,
    rngs: CollectionFilter = True,
) -> Any:
    """Pushes tangents through ``fn(module, *primals)``; see `jax.jvp`.

    Args:
      fn: the function.
      mdl: a module.
      primals: arguments.
      tangents: their tangents.
      variable_tangents: by collection, with the structure of the module's variables; collections that it lacks stand
        still.
      variables: collections that take part.
      rngs: streams that take part.

    Returns:
      ``(out, out_tangent)``.

    Raises:
      UnsupportedOperationError: the module holds modules from elsewhere.
      CollectionNotLiftedError: ``fn`` uses a collection that ``variables`` does not name.
      RngNotLiftedError: ``fn`` uses an RNG stream that ``rngs`` does not name.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> class Slope(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, x):
    ...         dense = nn.Dense(1, kernel_init=nn.initializers.ones)
    ...         return nn.jvp(lambda dense, x: dense(x), dense, (x,), (jnp.ones_like(x),), {})
    >>> (out, tangent), variables = Slope().init_with_output(jax.random.key(0), jnp.ones(3))
    >>> tangent
    Array([3.], dtype=float32)
    """

    def lifted(fn: Any, scopes: Any, primals: Any) -> Any:
        only_scope("jvp", scopes, "Push tangents through each module by itself, or make the modules inside the one.")
        pushed = [variable_tangents for _ in scopes]
        return lift.jvp(fn, scopes, primals, tangents, pushed, variables=variables, rngs=rngs)

    return directly(lifted, (fn,), mdl, primals)
