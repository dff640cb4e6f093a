"""The linear maps of recurrent cells."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fx_core.array_node import ArrayNode, array_of
from fx_core.errors.kinds import ShapeMismatchError
from fx_core.ops.contract import dot_general
from fx_core.ops.linear import dense
from fx_core.typing import Dtype, PrecisionLike

__all__ = ["Affine", "Gates", "apply_gates", "check_carry", "fuse", "pair_of"]


class Affine(NamedTuple):
    """One map of a cell: ``x @ kernel + bias``.

    Attributes:
      kernel: shape ``(in, out)``, of a convolution ``(*window, in, out)``.
      bias: shape ``(out,)``, or None.
    """

    kernel: Any
    bias: Any = None

    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the map over the last axis, in the dtype of the kernel."""
        return dense(x.astype(self.kernel.dtype), self.kernel, self.bias)


Gates = Sequence[Affine]
"""One map per gate, in the order of the cell."""


def apply_gates(gates: Gates, x: jax.Array) -> list[jax.Array]:
    """Applies maps of the same dtype to the same inputs."""
    x = x.astype(gates[0].kernel.dtype)
    return [dense(x, gate.kernel, gate.bias) for gate in gates]


def fuse(gates: Gates) -> Affine:
    """Puts maps of the same inputs into one, their outputs side by side: one large product is faster than four small.

    Args:
      gates: maps that either all have a bias or none.

    >>> import jax.numpy as jnp
    >>> fuse([Affine(jnp.ones((3, 2)), jnp.ones(2)), Affine(jnp.ones((3, 2)), jnp.ones(2))]).kernel.shape
    (3, 4)
    """
    kernels = [gate.kernel for gate in gates]
    if any(isinstance(kernel, ArrayNode) for kernel in kernels):
        kernel: Any = _SideBySide(kernels)
    else:
        kernel = lax.concatenate(kernels, kernels[0].ndim - 1)
    if gates[0].bias is None:
        return Affine(kernel)
    return Affine(kernel, lax.concatenate([array_of(gate.bias) for gate in gates], 0))


class _SideBySide(ArrayNode):
    """Kernels of several gates as one, of which each multiplies itself: array-like ones are never made arrays here."""

    def __init__(self, kernels: Sequence[Any]):
        self._kernels = tuple(kernels)

    @property
    def shape(self) -> tuple[int, ...]:
        first = self._kernels[0].shape
        return (*first[:-1], sum(kernel.shape[-1] for kernel in self._kernels))

    @property
    def dtype(self) -> Any:
        return self._kernels[0].dtype

    def astype(self, dtype: Dtype) -> "_SideBySide":
        return _SideBySide([kernel.astype(dtype) for kernel in self._kernels])

    def materialize(self) -> jax.Array:
        return jnp.concatenate([array_of(kernel) for kernel in self._kernels], axis=-1)

    def dot_general(
        self,
        lhs: jax.Array,
        dimension_numbers: lax.DotDimensionNumbers,
        precision: PrecisionLike = None,
        preferred_element_type: Dtype | None = None,
        **options: Any,
    ) -> jax.Array:
        options = {"precision": precision, "preferred_element_type": preferred_element_type, **options}
        products = [dot_general(lhs, kernel, dimension_numbers, **options) for kernel in self._kernels]
        return lax.concatenate(products, products[0].ndim - 1)


def pair_of(what: str, carry: Any) -> tuple[Any, Any]:
    """Returns both parts of a carry.

    Args:
      what: whose carry, for the error.
      carry: a tuple or list of two.

    Raises:
      ShapeMismatchError: it is something else.
    """
    if not isinstance(carry, (tuple, list)) or len(carry) != 2:
        got = f"a {type(carry).__name__} of {len(carry)}" if isinstance(carry, (tuple, list)) else type(carry).__name__
        raise ShapeMismatchError(
            f"The carry of {what} has two parts.",
            expected="a tuple of two",
            got=got,
            fix="start with cell.initialize_carry(key, inputs.shape)",
        )
    return carry[0], carry[1]


def check_carry(cell: str, carry: Sequence[jax.Array], inputs: jax.Array, hidden: Affine, outputs: int = 1) -> None:
    """Compares the shapes of a carry with the kernel that is to multiply it, and with the batch of the inputs.

    Args:
      cell: its name, for the error.
      carry: its arrays.
      inputs: of the step.
      hidden: a map of the carry.
      outputs: how many gates it makes.

    Raises:
      ShapeMismatchError: they differ.
    """
    features, batch = hidden.kernel.shape[-1] // outputs, inputs.shape[:-1]
    for part in carry:
        if part.shape != (*batch, features):
            _check_part(cell, part.shape, batch, features)


def _check_part(cell: str, shape: tuple[int, ...], batch: tuple[int, ...], features: int) -> None:
    size = shape[-1] if shape else None
    if size != features:
        raise ShapeMismatchError(
            f"The carry of {cell} does not have as many features as the cell.",
            expected=f"{features} features in the last axis",
            got=size,
            fix="start with cell.initialize_carry(key, inputs.shape)",
        )
    try:  # one carry for the whole batch will do
        jnp.broadcast_shapes(shape[:-1], batch)
    except ValueError:
        raise ShapeMismatchError(
            f"The carry of {cell} does not have the batch of the inputs.",
            expected=f"shape {(*batch, features)}",
            got=f"shape {shape}",
            fix="start with cell.initialize_carry(key, inputs.shape)",
        ) from None
