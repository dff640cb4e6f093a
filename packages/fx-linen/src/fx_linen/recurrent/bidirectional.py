"""Two recurrent networks, one for each direction."""

import logging
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops.recurrent import pair_of

from fx_linen.module import Module
from fx_linen.recurrent.rnn import RNNLike

__all__ = ["Bidirectional"]

logger = logging.getLogger("fx.linen.recurrent")


def _concatenate(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.concatenate([a, b], axis=-1)


class Bidirectional(Module):
    """Two recurrent layers that read sequences in both directions; their outputs are merged.

    Schuster & Paliwal, Bidirectional Recurrent Neural Networks, 1997.

    Attributes:
      forward_rnn: reads from the beginning; an `RNN`.
      backward_rnn: reads from the end; its outputs are put in the order of the inputs. It should not be the same object
        as ``forward_rnn``, or both share their parameters.
      merge_fn: makes one output of the two; by default it concatenates the features.
      time_major: see `RNN`; those of the two networks are not asked.
      return_carry: whether to return ``((forward_carry, backward_carry), outputs)``.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> model = nn.Bidirectional(nn.RNN(nn.LSTMCell(4)), nn.RNN(nn.GRUCell(3)))
    >>> y, variables = model.init_with_output(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> y.shape
    (2, 5, 7)
    """

    forward_rnn: RNNLike
    backward_rnn: RNNLike
    merge_fn: Callable[[Any, Any], Any] = _concatenate
    time_major: bool = False
    return_carry: bool = False

    def __call__(
        self,
        inputs: jax.Array,
        *,
        initial_carry: Any | None = None,
        init_key: jax.Array | None = None,
        seq_lengths: jax.Array | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
    ) -> Any:
        """Runs both networks over the sequences.

        Args:
          inputs: see `RNN`.
          initial_carry: a pair of carries; by default the cells make them.
          init_key: the key for that, split in two.
          seq_lengths: of the sequences, integers of shape ``batch``.
          return_carry: replaces the attribute.
          time_major: replaces the attribute.
          reverse: no effect, as in Flax: both directions are read. It is here so that the call is that of an `RNN`.
          keep_order: no effect, as in Flax: the order of the inputs is always kept.

        Returns:
          The merged outputs; with ``return_carry`` a pair of both carries and the outputs.

        Raises:
          ShapeMismatchError: ``initial_carry`` is no pair. Also the errors of `RNN`.
        """
        return_carry = self.return_carry if return_carry is None else return_carry
        time_major = self.time_major if time_major is None else time_major
        if self.forward_rnn is self.backward_rnn:
            logger.warning("forward_rnn and backward_rnn are one object, so both directions share their parameters.")
        keys = (None, None) if init_key is None else jax.random.split(init_key)
        carries = (None, None) if initial_carry is None else pair_of("a bidirectional network", initial_carry)
        shared = {"seq_lengths": seq_lengths, "return_carry": True, "time_major": time_major}
        forward_carry, forward = self.forward_rnn(
            inputs, initial_carry=carries[0], init_key=keys[0], reverse=False, **shared
        )
        backward_carry, backward = self.backward_rnn(
            inputs, initial_carry=carries[1], init_key=keys[1], reverse=True, keep_order=True, **shared
        )
        outputs = jax.tree.map(self.merge_fn, forward, backward)
        return ((forward_carry, backward_carry), outputs) if return_carry else outputs
