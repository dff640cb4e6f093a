"""What a recurrent cell is, and what the cells here share."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import jax
from fx_core.errors.recurrent import cell_interface
from fx_core.ops.initializers import zeros
from fx_core.ops.params import Initializer
from fx_core.ops.recurrent import Affine
from fx_core.typing import Dtype

from fx_nnx.errors import layer_call
from fx_nnx.layers.dropout import stream_of
from fx_nnx.layers.linear import Linear
from fx_nnx.layers.params import check_features, fetch, keep_arguments, value_of
from fx_nnx.modules.module import Module
from fx_nnx.objects.fields import data
from fx_nnx.rngs.rngs import Rngs
from fx_nnx.rngs.stream import RngStream

__all__ = ["NO_METADATA", "RNNCellBase", "VectorCell", "checked", "draws_carry", "maps_of", "vector_carry"]

Carry = Any
NO_METADATA: Mapping[str, Any] = MappingProxyType({})


class RNNCellBase(Module):
    """Base class of recurrent cells.

    A cell defines ``__call__(carry, inputs) -> (carry, output)``, `initialize_carry` and `num_feature_axes`; then `RNN`
    runs it over sequences.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> class Adder(RNNCellBase):
    ...     num_feature_axes = 1
    ...
    ...     def initialize_carry(self, input_shape, rngs=None, carry_init=None):
    ...         return jnp.zeros(input_shape)
    ...
    ...     def __call__(self, carry, inputs):
    ...         return carry + inputs, carry + inputs
    >>> nnx.RNN(Adder())(jnp.ones((3, 1)))[:, 0]
    Array([1., 2., 3.], dtype=float32)
    """

    def __call__(self, carry: Carry, inputs: jax.Array) -> tuple[Carry, jax.Array]:
        """Takes one step.

        Args:
          carry: what the last step left.
          inputs: shape ``(*batch, *features)``.

        Returns:
          The new carry, and the output.

        Raises:
          UnsupportedOperationError: the cell does not define it.
        """
        raise cell_interface(type(self).__name__, "__call__")

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: Rngs | RngStream | None = None,
        carry_init: Initializer | None = None,
    ) -> Carry:
        """Creates the carry before the first step.

        Args:
          input_shape: of the inputs of one step, the batch included: ``(*batch, *features)``.
          rngs: streams or one stream, for carries that are drawn.
          carry_init: initializer for the carry.

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


class VectorCell(RNNCellBase):
    """What the cells here share: vectors as inputs and carries, and how carries are drawn."""

    in_features: int
    hidden_features: int
    dtype: Dtype | None
    param_dtype: Dtype
    promote_dtype: Callable[..., Any]
    carry_init: Initializer | None

    def _setup(self, cls: type, arguments: Mapping[str, Any]) -> None:
        """Keep the arguments of an initializer that its class declares, and a stream for carries."""
        keep_arguments(self, cls, arguments)
        stream = stream_of(arguments["rngs"], "carry", type(self).__name__).fork() if arguments["keep_rngs"] else None
        self.rngs = data(stream)

    def __describe__(self) -> dict[str, Any]:
        return {"keep_rngs": self.rngs is not None}

    @property
    def num_feature_axes(self) -> int:
        """One: the inputs are vectors."""
        return 1

    def _draws(
        self, input_shape: tuple[int, ...], rngs: Rngs | RngStream | None, carry_init: Initializer | None
    ) -> Iterator[jax.Array]:
        """Vectors per batch entry: zeros, which need no keys but count those given, unless there is an initializer."""
        init = self.carry_init if carry_init is None else carry_init
        shape = vector_carry(input_shape, self.hidden_features)
        if init is None:
            nothing = zeros(None, shape, self.param_dtype)
            given = None if rngs is None else stream_of(rngs, "carry", type(self).__name__)
            while True:
                if given is not None:
                    given._pass_key()
                yield nothing
        source = self.rngs if rngs is None else rngs
        if source is None:
            raise layer_call(
                type(self).__name__,
                "there is no RNG stream to draw the first carry from.",
                expected="an Rngs or an RngStream",
                got=None,
                fix="pass rngs=... to initialize_carry, or make the cell with keep_rngs=True",
            )
        stream = stream_of(source, "carry", type(self).__name__)
        while True:
            yield init(stream(), shape, self.param_dtype)


# These are functions of any object with the attributes of a cell, as the calls of the cells are.


def maps_of(cell: Any, x: jax.Array, *layers: Linear) -> list[Affine]:
    """Returns the kernels and biases of layers that read the same inputs, in the dtype to compute in."""
    flat = [array for layer in layers for array in (fetch(layer, "kernel"), value_of(layer.bias))]
    flat = cell.promote_dtype((x, *flat), dtype=cell.dtype)[1:]
    return [Affine(kernel, bias) for kernel, bias in zip(flat[::2], flat[1::2])]


def checked(cell: Any, inputs: jax.Array, layer: Linear) -> jax.Array:
    """Returns the inputs as an array, once their features are those that a layer of the cell reads.

    Raises:
      ShapeMismatchError: they are not.
    """
    return check_features(cell, value_of(layer.kernel).shape[-2], inputs)


def draws_carry(cell: Any) -> bool:
    """Returns whether the first carry of a cell depends on keys: of others than those here it is not known."""
    return not isinstance(cell, VectorCell) or cell.carry_init is not None


def vector_carry(input_shape: tuple[int, ...], features: int) -> tuple[int, ...]:
    """Returns the shape of a carry that is a vector per batch entry."""
    return (*input_shape[:-1], features)
