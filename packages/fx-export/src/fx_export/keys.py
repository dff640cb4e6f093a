"""Typed PRNG keys at the border of a file: formats know their words only."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.compat import jax as compat


def is_key(value: Any) -> bool:
    """Returns whether something with a dtype holds typed PRNG keys."""
    return hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def kind_of(value: Any) -> str:
    """Returns the name of the implementation of keys, such as ``"threefry2x32"``; empty for what is no key."""
    return compat.key_kind(value.dtype).name if is_key(value) else ""


def words_of(value: Any) -> Any:
    """Returns keys as arrays of words, shapes of keys as those of the words; anything else as it is.

    >>> words_of(jax.random.key(7))
    Array([0, 7], dtype=uint32)
    """
    if not is_key(value):
        return value
    if isinstance(value, jax.ShapeDtypeStruct):
        words = jax.eval_shape(jax.random.key_data, value)
        return jax.ShapeDtypeStruct(words.shape, words.dtype)
    return jax.random.key_data(value)


def key_spec(kind: str, words: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """Describes keys by their words."""
    return jax.ShapeDtypeStruct(words.shape[:-1], jax.eval_shape(lambda: jax.random.key(0, impl=kind)).dtype)


def on_words(fn: Callable[..., Any], inputs: Sequence[Any]) -> Callable[..., Any]:
    """Returns a function of variables and inputs as one that takes and gives words in place of keys.

    Args:
      fn: the function.
      inputs: what it takes.
    """
    kinds = [[compat.key_kind(x.dtype) if is_key(x) else None for x in jax.tree.leaves(tree)] for tree in inputs]

    def wrapped(variables: Any, *given: Any) -> Any:
        made = []
        for tree, impls in zip(given, kinds, strict=True):
            leaves, treedef = jax.tree.flatten(tree)
            keys = [x if i is None else jax.random.wrap_key_data(x, impl=i) for x, i in zip(leaves, impls)]
            made.append(jax.tree.unflatten(treedef, keys))
        return jax.tree.map(words_of, fn(variables, *made))

    return wrapped


def random_keys(spec: jax.ShapeDtypeStruct, shape: Sequence[int], random: np.random.Generator) -> jax.Array:
    """Draws keys of a description with fixed sizes."""
    words = words_of(jax.ShapeDtypeStruct(shape, spec.dtype))
    drawn = random.integers(0, 1 << 32, size=words.shape, dtype=np.uint32)
    return jax.random.wrap_key_data(jnp.asarray(drawn), impl=compat.key_kind(spec.dtype))
