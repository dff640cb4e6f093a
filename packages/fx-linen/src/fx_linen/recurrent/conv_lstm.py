"""The convolutional long short-term memory. The arithmetic is in `fx_core.ops.recurrent`."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from fx_core.ops import recurrent
from fx_core.ops.conv import plan_conv
from fx_core.ops.conv.plan import PaddingLike
from fx_core.ops.initializers import zeros
from fx_core.ops.inputs import features_of
from fx_core.ops.params import Initializer
from fx_core.typing import Dtype

from fx_linen.module import compact, nowrap
from fx_linen.recurrent.base import RNNCellBase, draw_gates, promoted

__all__ = ["ConvLSTMCell"]

Carry = tuple[jax.Array, jax.Array]


class ConvLSTMCell(RNNCellBase):
    """A long short-term memory of images: its maps are convolutions.

    Shi et al., Convolutional LSTM Network: A Machine Learning Approach for Precipitation Nowcasting, 2015; for the
    differences see `fx_core.ops.recurrent.conv_lstm`.

    Attributes:
      features: channels of memory and output.
      kernel_size: window in each spatial dimension.
      strides: step of the window; anything but 1 changes the size of the image, which a carry cannot follow.
      padding: see `Conv`; it has to keep the size of the image.
      use_bias: whether both convolutions add a bias.
      dtype: dtype of the computation (default: inferred from inputs, carry and parameters).
      param_dtype: dtype of ``ih`` and ``hh``, ``kernel`` ``(*kernel_size, in or features, 4 * features)`` and
        ``bias`` (4 * features,), and of the first carry.
      carry_init: initializer for the first carry.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> video = jnp.ones((2, 5, 8, 8, 1))
    >>> y, variables = nn.RNN(nn.ConvLSTMCell(4, (3, 3))).init_with_output(jax.random.key(0), video)
    >>> y.shape
    (2, 5, 8, 8, 4)
    """

    features: int
    kernel_size: Sequence[int]
    strides: Sequence[int] | None = None
    padding: PaddingLike = "SAME"
    use_bias: bool = True
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    carry_init: Initializer = zeros

    @compact
    def __call__(self, carry: Carry, inputs: jax.Array) -> tuple[Carry, jax.Array]:
        """Takes one step.

        Args:
          carry: memory and output, each of shape ``(*batch, *space, features)``.
          inputs: shape ``(*batch, *space, in)``.

        Returns:
          The new carry, and the output.

        Raises:
          ShapeMismatchError: the carry does not fit the images.
        """
        plan = plan_conv(self.kernel_size, self.strides, self.padding)
        params = recurrent.conv_lstm_params(plan, features_of(inputs), self.features, self.use_bias)
        gates = draw_gates(self, params, self.param_dtype)
        (inputs_map,) = promoted(inputs, [gates["ih"]], self.dtype)
        (hidden_map,) = promoted(recurrent.pair_of("a convolutional LSTM", carry)[1], [gates["hh"]], self.dtype)
        new = recurrent.conv_lstm(plan, carry, inputs, inputs_map, hidden_map)
        return new, new[1]

    @nowrap
    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> Carry:
        """Creates the carry before the first step.

        Args:
          rng: gives ``carry_init`` one key for the memory and one for the output.
          input_shape: of the inputs of one step, ``(*batch, *space, in)``.

        Returns:
          Memory and output, each of shape ``(*batch, *space, features)`` and dtype ``param_dtype``.
        """
        shape = (*input_shape[:-1], self.features)
        first, second = jax.random.split(rng)
        return self.carry_init(first, shape, self.param_dtype), self.carry_init(second, shape, self.param_dtype)

    @property
    def num_feature_axes(self) -> int:
        """The spatial dimensions and the channels."""
        return len(self.kernel_size) + 1
