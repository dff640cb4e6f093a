"""Linen modules as functions, for whoever exports them."""

from collections.abc import Callable, Mapping
from typing import Any

from fx_core.errors import ArgumentTypeError
from fx_core.frozen_dict import unfreeze
from fx_core.meta import unbox

from fx_linen.module import Module


def as_function(
    model: Module, variables: Mapping[str, Any] | None, **call: Any
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Returns a module as a pure function of its variables and inputs; see `fx_core.plugins.ModelEntry`.

    Args:
      model: the module.
      variables: by collection, as ``init`` gave them; boxes are taken off.
      **call: keyword arguments of ``apply``: those of the method, ``method``, ``rngs``, ``mutable``.

    Raises:
      ArgumentTypeError: there are no variables: a Linen module holds none.

    Example:
      >>> import fx_linen as nn, jax, jax.numpy as jnp
      >>> layer = nn.Dense(2)
      >>> fn, variables = as_function(layer, layer.init(jax.random.key(0), jnp.ones((1, 3))))
      >>> fn(variables, jnp.ones((4, 3))).shape
      (4, 2)
    """
    if variables is None:
        raise ArgumentTypeError(
            "A Linen module holds no variables.",
            expected="variables",
            fix="Give those of init, or of the training state.",
        )
    return (lambda variables, *inputs: model.apply(variables, *inputs, **call)), unfreeze(unbox(variables))
