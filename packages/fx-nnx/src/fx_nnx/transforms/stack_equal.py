"""stack_equal: equal layers as one loop."""

from collections.abc import Iterable
from typing import Any

import fx_transforms
import jax
from fx_core.compat.jax import at_top_level
from fx_transforms.errors import transform_output

from fx_nnx.transforms.carrier import ObjectCarrier
from fx_nnx.transforms.layout import Handle
from fx_nnx.transforms.policies import graph_mode

__all__ = ["stack_equal"]


def stack_equal(layers: Iterable[Any], x: Any, *args: Any, unroll: int = 1, **kwargs: Any) -> Any:
    """Calls equal layers one after another, traced, lowered and compiled once.

    It does what ``for layer in layers: x = layer(x, *args, **kwargs)`` does, with the same numbers. Each layer stays an
    object of its own, so checkpoints fit both. The variables are stacked inside of the compiled program, which costs it
    a copy of them, in the memory of the device; layers made by `vmap` and called by `scan` are stacked from the start.

    Outside of a trace it is the loop of Python.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> layers = nnx.List([nnx.Linear(4, 4, rngs=nnx.Rngs(i)) for i in range(3)])
    >>> nnx.jit(lambda layers, x: nnx.stack_equal(layers, x))(layers, jnp.ones((1, 4))).shape
    (1, 4)

    Args:
      layers: modules with the same structure, which share no variables.
      x: what the first layer gets; every layer gives what the next one gets, with the same shapes and dtypes.
      *args: further arguments, arrays and numbers, the same for all layers.
      unroll: steps per iteration of the compiled loop.
      **kwargs: arguments by name, the same for all layers.

    Returns:
      What the last layer gave.

    Raises:
      TransformError: the layers differ, in their structure or in shapes or dtypes of their variables, or they
        share variables.
    """
    layers = list(layers)
    if len(layers) < 2 or at_top_level() or jax.config.jax_disable_jit:  # type: ignore[attr-defined]
        for layer in layers:
            x = layer(x, *args, **kwargs)
        return x
    handles = [Handle(((layer,), {})) for layer in layers]

    def call(inner: Any, x: Any) -> Any:
        (layer,) = inner.tree[0]
        return layer(x, *args, **kwargs)

    carrier = ObjectCarrier(graph_mode(None, None), rigid=True, transform="stack_equal")
    _check_apart(carrier, handles)
    return fx_transforms.stack_equal(call, carrier, handles, x, unroll=unroll)


def _check_apart(carrier: ObjectCarrier, handles: list[Handle]) -> None:
    seen: dict[int, int] = {}
    for number, handle in enumerate(handles):
        carrier.split(handle)
        for target in handle.targets:
            first = seen.setdefault(id(target), number)
            if first != number:
                raise transform_output(
                    "stack_equal", "layers that share no variables", f"one that layers {first} and {number} share"
                )
