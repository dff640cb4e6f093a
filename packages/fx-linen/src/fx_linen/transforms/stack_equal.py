"""stack_equal: equal layers as one loop."""

from collections.abc import Sequence
from typing import Any

import fx_transforms
import jax
from fx_core.compat.jax import at_top_level
from fx_transforms.errors import transform_output
from fx_transforms.scope_carrier import ScopeCarrier

from fx_linen.module._base import ModuleBase
from fx_linen.module._rebind import rebind
from fx_linen.module._variables import bound_scope
from fx_linen.transforms._fingerprint import Fingerprint

__all__ = ["stack_equal"]


def stack_equal(layers: Sequence[Any], x: Any, *args: Any, unroll: int = 1, **kwargs: Any) -> Any:
    """Calls equal layers one after another, traced, lowered and compiled once.

    It does what ``for layer in layers: x = layer(x, *args, **kwargs)`` does. Each layer keeps its variables under its
    own name, so checkpoints fit both. The parameters are stacked inside of the compiled program, which costs it a copy
    of them, in the memory of the device; `scan` stores them stacked, under other names.

    In ``init``, and outside of a trace, it is the loop of Python. Masks of dropout are other ones than in that loop,
    since keys are folded before, as in `jit`.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> class Net(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, x):
    ...         return nn.stack_equal([nn.Dense(4, name=f"layer_{i}") for i in range(3)], x)
    >>> x = jnp.ones((1, 4))
    >>> variables = Net().init(jax.random.key(0), x)
    >>> sorted(variables["params"])
    ['layer_0', 'layer_1', 'layer_2']
    >>> jax.jit(Net().apply)(variables, x).shape
    (1, 4)

    Args:
      layers: bound modules of one class with equal fields, called by ``__call__``.
      x: what the first layer gets; every layer gives what the next one gets, with the same shapes and dtypes.
      *args: further arguments, the same for all layers.
      unroll: steps per iteration of the compiled loop.
      **kwargs: arguments by name, the same for all layers.

    Returns:
      What the last layer gave.

    Raises:
      TransformError: the layers differ, in their fields or in shapes or dtypes of their variables.
    """
    layers = list(layers)
    without_jit = jax.config.jax_disable_jit  # type: ignore[attr-defined]
    if len(layers) < 2 or at_top_level() or without_jit or layers[0].is_initializing():
        for layer in layers:
            x = layer(x, *args, **kwargs)
        return x
    scopes = [bound_scope(layer, "stack_equal") for layer in layers]
    if len(set(map(id, scopes))) < len(scopes):
        raise transform_output("stack_equal", "each layer once", "one of them twice")
    first: ModuleBase = layers[0]
    described = Fingerprint([first], [scopes[0]]).value
    for number, (layer, scope) in enumerate(zip(layers, scopes)):
        if Fingerprint([layer], [scope]).value != described:
            raise transform_output("stack_equal", f"layers like the first one, {first!r}", f"layer {number}: {layer!r}")

    def call(scope: Any, x: Any) -> Any:
        layer: Any = rebind(first, lambda _: scope)
        return layer(x, *args, **kwargs)

    carrier = ScopeCarrier([True], [True], [True], "stack_equal", fold=True)
    return fx_transforms.stack_equal(call, carrier, scopes, x, unroll=unroll)
