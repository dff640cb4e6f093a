"""Sums over the parts of a batch, in an order that does not depend on the machine.

The parts are added as a balanced binary tree as far as their number is a multiple of two, in sequence below that. So
the error grows with the logarithm of their number, and 2, 4 or 8 times as many parts refine the same tree.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fx_train.errors import batch_mismatch, indivisible_batch

Part = Callable[[Any, Any], tuple[Any, Any, Any]]
"""(carry, part of the batch) → (carry, terms of the sum, other results)."""

_GROUP = 16


def batch_size(batch: Any) -> int:
    """Returns the common leading axis of the arrays of a batch; scalars belong to all examples.

    Raises:
      BatchError: there is none.
    """
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(batch)]
    sizes = {shape[0] for shape in shapes if shape}
    if len(sizes) != 1:
        fix = "Give arrays, no lists, with one leading axis and scalars; or work on the batch at once, accumulate=1."
        raise batch_mismatch(shapes, fix)
    return sizes.pop()


def groups(size: int) -> int:
    """Returns the number of equal groups, each as large as possible up to 16 examples, that a batch is made of."""
    return next(size // each for each in range(min(size, _GROUP), 0, -1) if size % each == 0)


def in_parts(part: Part, carry: Any, batch: Any, parts: int) -> tuple[Any, Any, Any]:
    """Runs a function over the parts of a batch and sum its terms.

    Part i has the examples i, i + parts, i + 2 parts, ..., so that a batch which is split between devices needs no
    communication.

    Args:
      part: what to run.
      carry: its first carry.
      batch: a tree of arrays (examples, ...), and of scalars, which go to all parts; one part may be any tree.
      parts: how many parts.

    Returns:
      The last carry, the sums (in float32 or wider) and the other results with a leading axis of parts.

    Raises:
      BatchError: the parts would not be equal; there are no examples.
    """
    if parts == 1:
        if {np.shape(leaf)[:1] for leaf in jax.tree.leaves(batch)} == {(0,)}:
            raise indivisible_batch((0,), parts, "equal parts")
        carry, terms, others = part(carry, batch)
        return carry, terms, jax.tree.map(lambda x: jnp.asarray(x)[None], others)
    size = batch_size(batch)
    if size % parts or size == 0:
        raise indivisible_batch((size,), parts, "equal parts")
    shape = _tree_shape(parts)

    def split(x: Any) -> Any:
        if not np.shape(x):
            return jnp.broadcast_to(x, shape)
        strided = jnp.asarray(x).reshape((size // parts, parts, *np.shape(x)[1:])).swapaxes(0, 1)
        return strided.reshape((*shape, size // parts, *np.shape(x)[1:]))

    xs = jax.tree.map(split, batch)
    first = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[len(shape) :], x.dtype), xs)
    _, terms, _ = jax.eval_shape(part, carry, first)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.promote_types(x.dtype, jnp.float32)), terms)
    run = part
    for _ in shape:
        run = _level(run, zeros)
    carry, total, others = run(carry, xs)
    return carry, total, jax.tree.map(lambda x: x.reshape((parts, *x.shape[len(shape) :])), others)


def _tree_shape(parts: int) -> tuple[int, ...]:
    twos = (parts & -parts).bit_length() - 1
    odd = parts >> twos
    return (2,) * twos + ((odd,) if odd > 1 else ())


def _level(inner: Part, zeros: Any) -> Part:
    def run(carry: Any, xs: Any) -> tuple[Any, Any, Any]:
        def body(state: tuple[Any, Any], x: Any) -> tuple[tuple[Any, Any], Any]:
            carry, total = state
            carry, terms, others = inner(carry, x)
            return (carry, jax.tree.map(lambda a, b: a + b.astype(a.dtype), total, terms)), others

        # Adding to zero is exact, so a level of two gives one rounding.
        (carry, total), others = jax.lax.scan(body, (carry, zeros), xs)
        return carry, total, others

    return run
