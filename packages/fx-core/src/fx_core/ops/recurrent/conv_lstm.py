"""The convolutional long short-term memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import sigmoid

from fx_core.errors.kinds import ShapeMismatchError
from fx_core.ops.conv import ConvPlan, conv, conv_params
from fx_core.ops.recurrent.lstm import LSTMCarry, lstm_update
from fx_core.ops.recurrent.maps import Affine, pair_of
from fx_core.ops.recurrent.params import CellParams

__all__ = ["conv_lstm", "conv_lstm_params"]


def conv_lstm_params(plan: ConvPlan, in_features: int, features: int, use_bias: bool = True) -> CellParams:
    """Returns the parameters of `conv_lstm`, by name.

    >>> from fx_core.ops.conv import plan_conv
    >>> params = conv_lstm_params(plan_conv((3, 3)), 1, 8)
    >>> params["ih"]["kernel"].shape, params["hh"]["kernel"].shape
    ((3, 3, 1, 32), (3, 3, 8, 32))
    """
    return {
        "ih": conv_params(plan.kernel_size, in_features, 4 * features, use_bias=use_bias),
        "hh": conv_params(plan.kernel_size, features, 4 * features, use_bias=use_bias),
    }


def conv_lstm(
    plan: ConvPlan,
    carry: LSTMCarry,
    inputs: jax.Array,
    inputs_map: Affine,
    hidden_map: Affine,
    *,
    gate_fn: Callable[[Any], Any] = sigmoid,
    activation_fn: Callable[[Any], Any] = jnp.tanh,
) -> LSTMCarry:
    """Takes one step of a long short-term memory of images, whose maps are convolutions.

    Shi et al., Convolutional LSTM Network: A Machine Learning Approach for Precipitation Nowcasting, 2015, without
    the peepholes and with one added to the forget gate's input, so that a new network remembers (Jozefowicz et al., An
    Empirical Exploration of Recurrent Network Architectures, 2015). The gates come in the order i, g, f, o.

    Args:
      plan: of the convolutions, from `fx_core.ops.conv.plan_conv`; they have to keep the size of the image.
      carry: memory and output, each of shape ``(*batch, *space, features)``.
      inputs: shape ``(*batch, *space, in)``.
      inputs_map: from the inputs to all gates.
      hidden_map: from the output to all gates.
      gate_fn: nonlinearity of the gates.
      activation_fn: nonlinearity of what is written and shown.

    Returns:
      The new carry; its second part is the output.

    Raises:
      ShapeMismatchError: the carry does not fit the gates.

    >>> import jax.numpy as jnp
    >>> from fx_core.ops.conv import plan_conv
    >>> image, state = jnp.ones((5, 5, 1)), jnp.zeros((5, 5, 2))
    >>> maps = Affine(jnp.zeros((3, 3, 1, 8))), Affine(jnp.zeros((3, 3, 2, 8)))
    >>> conv_lstm(plan_conv((3, 3)), (state, state), image, *maps)[1].shape
    (5, 5, 2)
    """
    c, h = pair_of("a convolutional LSTM", carry)
    _check(h.shape[-1:], hidden_map.kernel.shape[-2:-1], "features")
    gates = conv(plan, inputs.astype(inputs_map.kernel.dtype), *inputs_map)
    _check(c.shape[:-1], gates.shape[:-1], "pixels")
    gates = gates + conv(plan, h.astype(hidden_map.kernel.dtype), *hidden_map)
    i, g, f, o = jnp.split(gates, 4, axis=-1)
    return lstm_update(c, i, f + 1.0, g, o, gate_fn=gate_fn, activation_fn=activation_fn)


def _check(carry: tuple[int, ...], needed: tuple[int, ...], what: str) -> None:
    if carry != needed:
        raise ShapeMismatchError(
            f"The carry of a convolutional LSTM does not have the {what} of its gates.",
            expected=needed,
            got=carry,
            fix="start with cell.initialize_carry(key, inputs.shape), and use padding='SAME' without strides",
        )
