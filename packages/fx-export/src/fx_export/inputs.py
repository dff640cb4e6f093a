"""The inputs of a network: what a program takes, and whether a call gives it."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fx_export.errors import InputMismatchError


def spec_of(value: Any) -> jax.ShapeDtypeStruct:
    """Describe an example input; a description stays as it is."""
    if isinstance(value, jax.ShapeDtypeStruct):
        return value
    shaped = jax.typeof(value)
    return jax.ShapeDtypeStruct(shaped.shape, shaped.dtype)


def text_of(spec: Any) -> str:
    """Give a shape and dtype as text: ``float32[batch, 8, 8, 1]``."""
    return f"{spec.dtype.name}[{', '.join(map(str, spec.shape))}]"


class InputCheck:
    """Checks the inputs of a call against those of a program.

    Args:
      specs: a pytree per input, with shapes and dtypes; sizes may be symbolic.
    """

    def __init__(self, specs: Sequence[Any]):
        self.specs = list(specs)
        self._flat = [jax.tree_util.tree_flatten_with_path(spec) for spec in specs]

    def __call__(self, inputs: Sequence[Any]) -> None:
        """Compare.

        Raises:
          InputMismatchError: an input has another structure, shape or dtype, or there are more or fewer.
        """
        if len(inputs) != len(self.specs):
            raise InputMismatchError("all inputs", f"{len(self.specs)} inputs", f"{len(inputs)} inputs")
        sizes: dict[str, int] = {}
        for number, (value, (specs, treedef)) in enumerate(zip(inputs, self._flat)):
            leaves, given = jax.tree.flatten(value)
            if given != treedef:
                raise InputMismatchError(f"input {number}", treedef, given)
            for (path, spec), leaf in zip(specs, leaves):
                _check(f"input {number}{jax.tree_util.keystr(path)}", spec, leaf, sizes)


def _check(name: str, spec: Any, leaf: Any, sizes: dict[str, int]) -> None:
    if not hasattr(leaf, "dtype") or not hasattr(leaf, "shape"):
        leaf = np.asarray(leaf)
    if leaf.dtype != spec.dtype or len(leaf.shape) != len(spec.shape):
        raise InputMismatchError(name, text_of(spec), text_of(leaf))
    for size, given in zip(spec.shape, leaf.shape):
        symbol = str(size)
        # Sizes like 2*batch are left to JAX, which solves for them.
        wanted = size if isinstance(size, int) else sizes.setdefault(symbol, given) if symbol.isidentifier() else given
        if wanted != given:
            where = "" if isinstance(size, int) else f", where {symbol} is {wanted}"
            raise InputMismatchError(name, text_of(spec) + where, text_of(leaf))
