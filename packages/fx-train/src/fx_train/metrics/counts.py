"""Counts that do not overflow."""

from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from fx_core import struct
from fx_core.errors import ArgumentError
from fx_core.ops.sums import add_counts, count_as_float, split_count
from fx_core.typing import Dtype

__all__ = ["Count"]

_HALF = 15


class Count(struct.PyTreeNode):
    """Whole numbers that are counted up, exactly up to 2**61; int32 would wrap at 2**31.

    >>> seen = Count.zeros().add(2**31 - 1).add(5)
    >>> int(seen), Count.zeros((2,)).add(jnp.array([1, 2])).tolist()
    (2147483652, [1, 2])

    Outside of `jax.jit` it turns into Python and NumPy integers (`int`, `numpy.asarray`, `tolist`); inside, `as_float`
    gives an array to calculate with.

    Attributes:
      rest: int32, what is left of units of 2**30.
      units: int32, how many such units.
    """

    rest: jax.Array
    units: jax.Array

    @classmethod
    def zeros(cls, shape: tuple[int, ...] = ()) -> Self:
        """Nothing counted yet."""
        return cls(rest=jnp.zeros(shape, jnp.int32), units=jnp.zeros(shape, jnp.int32))

    def add(self, more: Any) -> Self:
        """Counts integers of the same shape, each from 0 to 2**31 - 1."""
        rest, units = split_count(more)
        return self.merge(self.replace(rest=rest, units=units))

    def merge(self, other: Self) -> Self:
        """Returns what both have counted."""
        rest, units = add_counts((self.rest, self.units), (other.rest, other.units))
        return self.replace(rest=rest, units=units)

    def reduce(self, axis_name: Any) -> Self:
        """Returns what all devices of a mapped axis have counted, up to 65,536 of them."""
        # In halves, since the sum of rests overflows from the third device on.
        low, high, units = jax.lax.psum((self.rest & (2**_HALF - 1), self.rest >> _HALF, self.units), axis_name)
        high = high + (low >> _HALF)
        rest = ((high & (2**_HALF - 1)) << _HALF) | (low & (2**_HALF - 1))
        return self.replace(rest=rest, units=units + (high >> _HALF))

    def as_float(self) -> jax.Array:
        """Returns the counts in floating point, float32 where 64 bits are not enabled."""
        return count_as_float((self.rest, self.units), jnp.result_type(float))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the counts."""
        return jnp.shape(self.rest)

    def tolist(self) -> Any:
        """Returns the counts as Python integers."""
        return np.asarray(self).tolist()

    def __array__(self, dtype: Dtype | None = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ArgumentError(
                "A count has no array that could be shared: it is computed from two.",
                expected="numpy.asarray(count), or copy=True",
                got="copy=False",
                fix="leave copy out",
            )
        exact = np.asarray(np.asarray(self.units, np.int64) * 2**30 + np.asarray(self.rest, np.int64))
        return exact if dtype is None else exact.astype(dtype)

    def __int__(self) -> int:
        return int(np.asarray(self))

    __index__ = __int__

    def __float__(self) -> float:
        return float(int(self))
