"""What a recurrent cell is, and how the cells here keep their parameters."""

from typing import Any

import jax
from fx_core.errors.recurrent import cell_interface
from fx_core.meta import unbox
from fx_core.ops.dtypes import promote_dtype
from fx_core.ops.inputs import features_of
from fx_core.ops.recurrent import Affine, CellParams
from fx_core.typing import Dtype

from fx_linen.module import Module, nowrap

__all__ = ["RNNCellBase", "draw_gates", "promoted", "vector_carry", "width_of"]

Carry = Any


class RNNCellBase(Module):
    """Base class of recurrent cells.

    A cell defines ``__call__(carry, inputs) -> (carry, output)``, `initialize_carry` and `num_feature_axes`; then `RNN`
    runs it over sequences.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> class Adder(nn.RNNCellBase):
    ...     num_feature_axes = 1
    ...
    ...     @nn.nowrap
    ...     def initialize_carry(self, rng, input_shape):
    ...         return jnp.zeros(input_shape)
    ...
    ...     def __call__(self, carry, inputs):
    ...         return carry + inputs, carry + inputs
    >>> nn.RNN(Adder()).apply({}, jnp.ones((3, 1)))[:, 0]
    Array([1., 2., 3.], dtype=float32)
    """

    @nowrap
    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> Carry:
        """Creates the carry before the first step.

        Args:
          rng: a key, for carries that are drawn.
          input_shape: of the inputs of one step, the batch included: ``(*batch, *features)``.

        Returns:
          A tree of arrays whose leading axes are the batch.

        Raises:
          UnsupportedOperationError: the cell does not define it.
        """
        raise cell_interface(type(self).__name__, "initialize_carry")

    @property
    def num_feature_axes(self) -> int:
        """How many axes of the inputs hold features: 1 for vectors, 3 for images.

        Raises:
          UnsupportedOperationError: the cell does not define it.
        """
        raise cell_interface(type(self).__name__, "num_feature_axes")


def width_of(cell: Any, carry: Any, gate: str) -> int:
    """Informs the features that the maps of a cell have: those of the carry that the cell was initialized with.

    Most carries come from ``initialize_carry`` and have ``cell.features``.

    Args:
      cell: in its compact method.
      carry: the part of the carry that the maps multiply.
      gate: the name of one of them.
    """
    width = features_of(carry, "carry")
    if width != cell.features:
        known = (cell.get_variable("params", gate) or {}).get("kernel")
        if known is not None:
            return unbox(known).shape[-1]
    return width


def draw_gates(module: Module, params: CellParams, dtype: Dtype) -> dict[str, Affine]:
    """Creates or reads the parameters of a cell: a scope for each gate, with ``kernel`` and ``bias``.

    The scopes are those that a `Dense` per gate would have. Such modules would cost more to trace than the step.

    Args:
      module: the cell, in its compact method.
      params: what there is to be.
      dtype: of the parameters.
    """
    scope, reuse = module.scope, module._state.reuse
    assert scope is not None
    gates: dict[str, Affine] = {}
    for gate, specs in params.items():
        inner = scope.push(gate, reuse=reuse)
        gates[gate] = Affine(*[inner.param(name, spec.init, spec.shape, dtype) for name, spec in specs.items()])
    return gates


def promoted(x: jax.Array, gates: list[Affine], dtype: Dtype) -> list[Affine]:
    """Brings maps to the dtype that their inputs and they themselves are to be computed in.

    Args:
      x: the inputs of the maps.
      gates: the maps.
      dtype: the requested dtype (default: inferred from inputs and parameters).
    """
    _, *flat = promote_dtype(x, *[array for gate in gates for array in gate], dtype=dtype)
    return [Affine(kernel, bias) for kernel, bias in zip(flat[::2], flat[1::2])]


def vector_carry(input_shape: tuple[int, ...], features: int) -> tuple[int, ...]:
    """Returns the shape of a carry that is a vector per batch entry."""
    return (*input_shape[:-1], features)
