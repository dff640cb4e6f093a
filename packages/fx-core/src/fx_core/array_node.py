"""Array-like parameters: pytree nodes that stand in for an array.

A parameter is an array most of the time. It may also be a node that holds something smaller or more structured
(integers and scales, the values of a sparse matrix, two factors) and knows how it is multiplied. Layers fetch it as
they fetch an array, and `fx_core.ops` asks it to contract itself; nothing else looks inside.

A kind of node is a subclass of `ArrayNode` that is a pytree; `fx_core.struct.dataclass` makes it one that state
dictionaries and checkpoints know, too:

>>> import jax, jax.numpy as jnp
>>> from fx_core import struct
>>> from fx_core.array_node import ArrayNode
>>> @struct.dataclass
... class Scaled(ArrayNode):
...     values: jax.Array  # int8[..., in, out]
...     scale: jax.Array  # float32[..., 1, out]
...     @property
...     def shape(self):
...         return self.values.shape
...     @property
...     def dtype(self):
...         return self.scale.dtype
...     def astype(self, dtype):
...         return self.replace(scale=self.scale.astype(dtype))
...     def materialize(self):
...         return self.values * self.scale
>>> kernel = Scaled(jnp.array([[1, 2], [3, 4]], jnp.int8), jnp.array([[0.5, 2.0]]))
>>> kernel.shape, jnp.asarray(kernel).tolist()
((2, 2), [[0.5, 4.0], [1.5, 8.0]])

`fx_core.testing.ArrayNodeSuite` has the tests that every kind has to pass.
"""

import abc
import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import lax

from fx_core.typing import Dtype, PrecisionLike

__all__ = ["ArrayNode", "array_of", "is_array_node", "shapes_of"]


class ArrayNode(abc.ABC):
    """Base class of pytree nodes that stand in for an array.

    A subclass defines `shape`, `dtype`, `astype` and `materialize`. It overrides `dot_general`, `conv_general_dilated`
    and `take` where it can do them without making the array. `vmap` and `scan` over stacked layers map the leaves, so
    every leaf has the leading axes of the array, and `shape` follows from the shapes of the leaves. `leaf_specs` says
    how leaves are laid out on a mesh.

    Arithmetic with arrays, indexing and `jax.numpy` make the array first.
    """

    # NumPy's operators leave the arithmetic to this class.
    __array_priority__ = 100

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of the array that the node stands for."""

    @property
    @abc.abstractmethod
    def dtype(self) -> Any:
        """Dtype of the array that `materialize` makes, which layers promote with."""

    @abc.abstractmethod
    def astype(self, dtype: Dtype) -> Self:
        """Returns a node of the same kind that stands for the array in another dtype."""

    @abc.abstractmethod
    def materialize(self) -> jax.Array:
        """Returns the array, of shape `shape` and dtype `dtype`."""

    def dot_general(
        self,
        lhs: jax.Array,
        dimension_numbers: lax.DotDimensionNumbers,
        precision: PrecisionLike = None,
        preferred_element_type: Dtype | None = None,
        **options: Any,
    ) -> jax.Array:
        """Contracts an array with this node: `jax.lax.dot_general` with the node on the right.

        Args:
          lhs: the array on the left.
          dimension_numbers: contracting and batch dimensions of both.
          precision: see `jax.lax.Precision`.
          preferred_element_type: dtype to accumulate in.
          **options: of `jax.lax.dot_general`, such as ``out_sharding``.
        """
        return lax.dot_general(
            lhs,
            self.materialize(),
            dimension_numbers,
            precision=precision,
            preferred_element_type=preferred_element_type,
            **options,
        )

    def conv_general_dilated(self, lhs: jax.Array, *args: Any, **options: Any) -> jax.Array:
        """Convolves an image with this node as the kernel: `jax.lax.conv_general_dilated` with it on the right."""
        return lax.conv_general_dilated(lhs, self.materialize(), *args, **options)

    def take(self, indices: jax.Array) -> jax.Array:
        """Returns rows (along the first axis), of shape ``(*indices.shape, *shape[1:])``; NaN for an index outside."""
        return jnp.take(self.materialize(), indices, axis=0)

    def masked(self, mask: Any) -> Any:
        """Returns this times a mask of its shape, for masked convolutions: an array, unless overridden."""
        return self.materialize() * mask

    def fetched(self, beside: Callable[[str, str, Callable[[], Any]], Any]) -> "ArrayNode":
        """Returns what a layer computes with, where it fetches this parameter: the node itself, unless overridden.

        A node that learns from what it is multiplied with keeps it in a variable beside the parameter.

        Args:
          beside: called as ``beside(collection, suffix, init)``, returns the `fx_core.layers.Cell` of the variable of
            that collection whose name is that of the parameter, ``_`` and the suffix; None where there is none. Linen
            makes it by ``init()`` where the collection is mutable. ``write`` is None where it is not.
        """
        del beside
        return self

    def leaf_specs(self, spec: Sequence[Any], pieces: Callable[[Any], int]) -> list[tuple[Any, ...]]:
        """Returns how the leaves are laid out on a mesh where the array is laid out by a partition spec.

        By default an axis of a leaf that has the size of the array's axis in its place is divided as that one is, and
        other axes are not. Nodes with packed or grouped leaves override it.

        Args:
          spec: per dimension of the array a mesh axis, a tuple of them or None; missing ones at the end are None.
          pieces: number of pieces that an entry of the spec makes.

        Returns:
          A spec per leaf, in the order of `jax.tree.leaves`, with an entry per dimension.
        """
        del pieces
        entries = (*spec, *(None,) * (self.ndim - len(spec)))
        sizes = self.shape
        return [
            tuple(
                entries[axis] if axis < len(sizes) and size == sizes[axis] else None
                for axis, size in enumerate(jnp.shape(leaf))
            )
            for leaf in jax.tree.leaves(self)
        ]

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements of the array that the node stands for."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes as stored: those of the leaves, which can be abstract."""
        leaves = [leaf for leaf in jax.tree.leaves(self) if hasattr(leaf, "dtype")]
        return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)

    @property
    def T(self) -> jax.Array:
        """The transposed array."""
        return self.materialize().T

    def reshape(self, *shape: Any) -> jax.Array:
        """Returns the array in another shape."""
        return self.materialize().reshape(*shape)

    def __jax_array__(self) -> jax.Array:
        return self.materialize()

    def __array__(self, dtype: Dtype | None = None, copy: bool | None = None) -> Any:
        import numpy as np

        # NumPy leaves the copy to this method: without one, the result could not be written to.
        return np.array(self.materialize(), dtype, copy=copy)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> jax.Array:
        return self.materialize()[index]

    def __rmatmul__(self, lhs: Any) -> jax.Array:
        return jnp.matmul(lhs, self.materialize())

    def __matmul__(self, rhs: Any) -> jax.Array:
        return jnp.matmul(self.materialize(), rhs)

    def __neg__(self) -> jax.Array:
        return -self.materialize()

    def __add__(self, other: Any) -> jax.Array:
        return self.materialize() + other

    def __sub__(self, other: Any) -> jax.Array:
        return self.materialize() - other

    def __rsub__(self, other: Any) -> jax.Array:
        return other - self.materialize()

    def __mul__(self, other: Any) -> jax.Array:
        return self.materialize() * other

    def __truediv__(self, other: Any) -> jax.Array:
        return self.materialize() / other

    def __rtruediv__(self, other: Any) -> jax.Array:
        return other / self.materialize()

    __radd__, __rmul__ = __add__, __mul__


def is_array_node(x: Any) -> bool:
    """Returns whether a value stands in for an array; as ``is_leaf`` it keeps `jax.tree` functions from looking inside.

    >>> import jax, jax.numpy as jnp
    >>> len(jax.tree.leaves({"kernel": jnp.ones(2)}, is_leaf=is_array_node))
    1
    """
    return isinstance(x, ArrayNode)


def array_of(x: Any) -> Any:
    """Returns the array that a node, or an object of others with ``__jax_array__``, stands for; the rest as it is."""
    if isinstance(x, jax.Array):
        return x
    return jnp.asarray(x) if hasattr(x, "__jax_array__") else x


def shapes_of(value: Any) -> tuple[tuple[int, ...], ...]:
    """Returns the shapes of the arrays of a parameter, where an array-like node counts as one array."""
    if isinstance(value, jax.Array):  # spares the walk over a tree
        return (value.shape,)
    return tuple(jnp.shape(leaf) for leaf in jax.tree.leaves(value, is_leaf=is_array_node))
