"""cond and switch of functions of modules."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fx_core.scope import CollectionFilter
from fx_transforms import lift

from fx_linen.transforms._direct import directly

__all__ = ["cond", "switch"]

C = TypeVar("C")


def cond(
    pred: Any,
    true_fun: Callable[..., C],
    false_fun: Callable[..., C],
    mdl: Any,
    *operands: Any,
    variables: CollectionFilter = True,
    rngs: CollectionFilter = True,
) -> C:
    """Calls ``true_fun(module, *operands)`` or ``false_fun(module, *operands)``; see `jax.lax.cond`.

    Both are traced. Variables are created before, or by both; `init` of a network calls both functions instead.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> class Gated(nn.Module):
    ...     def setup(self):
    ...         self.dense = nn.Dense(2)
    ...
    ...     def __call__(self, x, on):
    ...         if self.is_initializing():
    ...             return self.dense(x)
    ...         return nn.cond(on, lambda module, x: module.dense(x), lambda module, x: jnp.zeros(2), self, x)
    >>> variables = Gated().init(jax.random.key(0), jnp.ones(3), True)
    >>> Gated().apply(variables, jnp.ones(3), False)
    Array([0., 0.], dtype=float32)

    Args:
      pred: which one.
      true_fun: for true.
      false_fun: for false.
      mdl: a module.
      *operands: arguments; modules may be among them.
      variables: collections that take part.
      rngs: streams that take part.

    Returns:
      What the function returns.

    Raises:
      BranchStateError: the functions leave different variables, or results of different shapes, behind.
      CollectionNotLiftedError: a function uses a collection that ``variables`` does not name.
      RngNotLiftedError: a function uses an RNG stream that ``rngs`` does not name.
    """

    def lifted(on_true: Any, on_false: Any, scopes: Any, *operands: Any) -> Any:
        return lift.cond(pred, on_true, on_false, scopes, *operands, variables=variables, rngs=rngs)

    return directly(lifted, (true_fun, false_fun), mdl, *operands)


def switch(
    index: Any,
    branches: Sequence[Callable[..., C]],
    mdl: Any,
    *operands: Any,
    variables: CollectionFilter = True,
    rngs: CollectionFilter = True,
) -> C:
    """Calls one of ``branches(module, *operands)``; see `jax.lax.switch`.

    All are traced. Variables are created before, or by all; `init` of a network calls all functions instead.

    Args:
      index: which one; clamped into range.
      branches: the functions.
      mdl: a module.
      *operands: arguments; modules may be among them.
      variables: collections that take part.
      rngs: streams that take part.

    Returns:
      What the function returns.

    Raises:
      BranchStateError: the functions leave different variables, or results of different shapes, behind.
      CollectionNotLiftedError: a function uses a collection that ``variables`` does not name.
      RngNotLiftedError: a function uses an RNG stream that ``rngs`` does not name.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> class Experts(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, x, index):
    ...         scale = self.param("scale", nn.initializers.ones, (2,))
    ...         branches = [lambda module, x: x * scale, lambda module, x: -x]
    ...         return nn.switch(index, branches, self, x)
    >>> variables = Experts().init(jax.random.key(0), jnp.ones(2), 0)
    >>> Experts().apply(variables, jnp.ones(2), 1)
    Array([-1., -1.], dtype=float32)
    """

    def lifted(*inner: Any) -> Any:
        fns, (scopes, *operands) = inner[: len(branches)], inner[len(branches) :]
        return lift.switch(index, fns, scopes, *operands, variables=variables, rngs=rngs)

    return directly(lifted, tuple(branches), mdl, *operands)
