"""What all metrics have in common."""

import dataclasses
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from fx_core import struct
from fx_core.errors import UnsupportedOperationError

from fx_train.errors import MetricError, metric_shape
from fx_train.metrics.counts import Count


class Metric(struct.PyTreeNode):
    """Base of metrics whose fields are sums over what was seen; others override `merge` and `reduce`.

    A metric of your own is a subclass with fields, an ``update`` and a ``compute``. Fields are arrays, which are added,
    or `fx_train.metrics.Count`, which does not overflow as sums of int32 do.
    """

    def merge(self, other: Self) -> Self:
        """Returns the metric over what both have seen.

        Raises:
          MetricError: they are metrics of different kinds, or of different numbers of classes.
        """
        same_kind(self, other)
        return self.replace(**{name: _merged(value, getattr(other, name)) for name, value in self._sums()})

    def reduce(self, axis_name: Any) -> Self:
        """Returns the metric over what all devices of a mapped axis have seen, in `jax.shard_map`, `jax.pmap` or
        `jax.vmap`.
        """
        return self.replace(**{name: _reduced(value, axis_name) for name, value in self._sums()})

    def _sums(self) -> list[tuple[str, Any]]:
        fields = [field for field in dataclasses.fields(self) if field.metadata.get("pytree_node", True)]
        return [(field.name, getattr(self, field.name)) for field in fields]

    def compute(self) -> jax.Array:
        """Returns the metric's value, a scalar."""
        raise UnsupportedOperationError(
            f"{type(self).__name__} does not say what its value is.", expected="a method compute(self)", got="none"
        )


def _is_count(x: Any) -> bool:
    return isinstance(x, Count)


def _merged(one: Any, other: Any) -> Any:
    return jax.tree.map(lambda a, b: a.merge(b) if _is_count(a) else jnp.add(a, b), one, other, is_leaf=_is_count)


def _reduced(sums: Any, axis_name: Any) -> Any:
    def reduce(x: Any) -> Any:
        return x.reduce(axis_name) if _is_count(x) else jax.lax.psum(x, axis_name)

    return jax.tree.map(reduce, sums, is_leaf=_is_count)


def same_kind(one: Metric, other: Any) -> None:
    """Checks that two metrics counted the same things.

    Raises:
      MetricError: they did not.
    """
    # The type besides, since structures of different classes with as many fields are equal to JAX.
    kinds = [(jax.tree.structure(m), [np.shape(x) for x in jax.tree.leaves(m)], type(m)) for m in (one, other)]
    if kinds[0] != kinds[1]:
        raise _metric_merge(*(f"{kind.__name__} of {shapes}" for _, shapes, kind in kinds))


def same_shape(**arrays: Any) -> None:
    """Checks that arrays have one shape.

    Raises:
      MetricError: they have not; broadcasting would count something else than was meant.
    """
    shapes = {name: np.shape(array) for name, array in arrays.items() if array is not None}
    if len(set(shapes.values())) > 1:
        raise metric_shape(shapes)


def _metric_merge(one: str, other: str) -> MetricError:
    return MetricError(
        "These metrics cannot be merged.", expected=f"another {one}", got=other, fix="Make both by one empty(...)."
    )
