"""Layers that are made of other layers."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.errors import ArgumentTypeError, ShapeMismatchError
from fx_core.errors.ops import empty_sequential

from fx_linen.module import Module, compact, nowrap

__all__ = ["BatchApply", "Sequential"]


class Sequential(Module):
    """Functions and modules, one after the other.

    A tuple that a layer returns becomes the positional arguments of the next, a dict its keyword arguments.

    Attributes:
      layers: a sequence of functions and modules; module parameters are called ``layers_0``, ``layers_1``, ….

    Raises:
      ArgumentTypeError: the layers are not a sequence.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> model = nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(2)])
    >>> sorted(model.init(jax.random.key(0), jnp.ones((1, 3)))["params"])
    ['layers_0', 'layers_2']
    """

    layers: Sequence[Callable[..., Any]]

    def __post_init__(self) -> None:
        if not isinstance(self.layers, Sequence):
            raise ArgumentTypeError(
                "The layers of Sequential must be a sequence.",
                expected="a list or tuple of functions and modules",
                got=type(self.layers).__name__,
                fix="put the layers into a list: Sequential([layer_1, layer_2])",
            )
        super().__post_init__()

    @compact
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the layers in turn.

        Args:
          *args: for the first layer.
          **kwargs: for the first layer.

        Returns:
          What the last layer returns.

        Raises:
          ArgumentError: there are no layers.
        """
        if not self.layers:
            raise empty_sequential(self.name)
        outputs = self.layers[0](*args, **kwargs)
        for layer in self.layers[1:]:
            if isinstance(outputs, tuple):
                outputs = layer(*outputs)
            elif isinstance(outputs, dict):
                outputs = layer(**outputs)
            else:
                outputs = layer(outputs)
        return outputs


class BatchApply:
    """A function of one batch dimension, called with arrays that have several.

    Args:
      f: function or module to call.
      num_dims: how many leading dimensions to merge into one before the call, and to split after it. Arrays with fewer
        dimensions are handed on as they are.

    >>> import jax.numpy as jnp, fx_linen as nn
    >>> nn.BatchApply(lambda x: x.reshape(6, -1).sum(axis=1))(jnp.ones((2, 3, 4))).shape
    (2, 3)
    """

    def __init__(self, f: Callable[..., Any], num_dims: int = 2):
        self.f = f
        self.num_dims = num_dims

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function.

        Args:
          *args: trees of arrays; results are split as the first array with enough dimensions.
          **kwargs: the same.

        Returns:
          What the function returns, the first dimension of each array split again.

        Raises:
          ShapeMismatchError: no array has enough dimensions.
        """
        leading = self._leading((args, kwargs))
        size = math.prod(leading)

        def merge(leaf: Any) -> Any:
            shape = jnp.shape(leaf)
            if len(shape) < self.num_dims:
                return leaf
            return leaf.reshape((math.prod(shape[: self.num_dims]), *shape[self.num_dims :]))

        def split(leaf: Any) -> Any:
            if jnp.ndim(leaf) < 1 or leaf.shape[0] != size:
                raise ShapeMismatchError(
                    "A result of the function has no batch dimension to split.",
                    expected=f"shape ({size}, ...)",
                    got=jnp.shape(leaf),
                    fix="return arrays whose first dimension is the merged batch",
                )
            return leaf.reshape((*leading, *leaf.shape[1:]))

        args, kwargs = jax.tree.map(merge, (args, kwargs))
        return jax.tree.map(split, self.f(*args, **kwargs))

    @nowrap
    def _leading(self, tree: Any) -> tuple[int, ...]:
        for leaf in jax.tree.leaves(tree):
            shape = jnp.shape(leaf)
            if len(shape) >= self.num_dims:
                return shape[: self.num_dims]
        raise ShapeMismatchError(
            "BatchApply found no array with enough dimensions.",
            expected=f"at least one input of {self.num_dims} dimensions or more",
            got=[jnp.shape(leaf) for leaf in jax.tree.leaves(tree)],
            fix="lower num_dims, or add the missing batch dimension",
        )
