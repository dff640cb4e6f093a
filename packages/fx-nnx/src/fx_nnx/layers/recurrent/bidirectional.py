"""Two recurrent networks, one for each direction."""

import logging
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops.recurrent import pair_of

from fx_nnx.layers.dropout import stream_of
from fx_nnx.layers.params import located
from fx_nnx.layers.recurrent.rnn import given_or_own, own_stream
from fx_nnx.modules.module import Module
from fx_nnx.objects.fields import data
from fx_nnx.rngs.rngs import Rngs
from fx_nnx.rngs.stream import RngStream

__all__ = ["Bidirectional"]

logger = logging.getLogger("fx.nnx.recurrent")


def _concatenate(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.concatenate([a, b], axis=-1)


class Bidirectional(Module):
    """Reads sequences in both directions and merges the outputs.

    Schuster & Paliwal, Bidirectional Recurrent Neural Networks, 1997.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> rngs = Rngs(0)
    >>> model = Bidirectional(nnx.RNN(nnx.LSTMCell(3, 4, rngs=rngs)), nnx.RNN(nnx.GRUCell(3, 3, rngs=rngs)))
    >>> model(jnp.ones((2, 5, 3))).shape
    (2, 5, 7)

    Args:
      forward_rnn: reads from the beginning; an `RNN`.
      backward_rnn: reads from the end; its outputs are put in the order of the inputs. It should not be the same object
        as ``forward_rnn``, or both share their parameters.
      merge_fn: makes one output of the two; by default it concatenates the features.
      time_major: see `RNN`; those of the two networks are not asked.
      return_carry: whether to return ``((forward_carry, backward_carry), outputs)``.
      rngs: streams or one stream for first carries that are drawn, of which a fork is kept; True for one of seed 0,
        False for none.
    """

    def __init__(
        self,
        forward_rnn: Any,
        backward_rnn: Any,
        *,
        merge_fn: Callable[[Any, Any], Any] = _concatenate,
        time_major: bool = False,
        return_carry: bool = False,
        rngs: Rngs | RngStream | bool = True,
    ):
        if forward_rnn is backward_rnn:
            logger.warning("forward_rnn and backward_rnn are one object, so both directions share their parameters.")
        self.forward_rnn, self.backward_rnn = forward_rnn, backward_rnn
        self.merge_fn, self.time_major, self.return_carry = merge_fn, time_major, return_carry
        self.rngs = data(own_stream(rngs, "Bidirectional"))

    @located
    def __call__(
        self,
        inputs: jax.Array,
        *,
        initial_carry: Any | None = None,
        rngs: Rngs | RngStream | None = None,
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
          rngs: streams or one stream for them, instead of the network's.
          seq_lengths: of the sequences, integers of shape ``batch``.
          return_carry: instead of what the network says.
          time_major: instead of what the network says.
          reverse: no effect, as in Flax: both directions are read. It is here so that the call is that of an `RNN`.
          keep_order: no effect, as in Flax: the order of the inputs is always kept.

        Returns:
          The merged outputs; with ``return_carry`` a pair of both carries and the outputs.

        Raises:
          ShapeMismatchError: ``initial_carry`` is no pair. Also the errors of `RNN`.
        """
        return_carry = self.return_carry if return_carry is None else return_carry
        time_major = self.time_major if time_major is None else time_major
        source = given_or_own(
            rngs, self.rngs, *(getattr(rnn, "cell", None) for rnn in (self.forward_rnn, self.backward_rnn))
        )
        if isinstance(source, Rngs):
            source = stream_of(source, "carry", "Bidirectional")
        carries = (None, None) if initial_carry is None else pair_of("a bidirectional network", initial_carry)
        shared = {"seq_lengths": seq_lengths, "return_carry": True, "time_major": time_major, "rngs": source}
        forward_carry, forward = self.forward_rnn(inputs, initial_carry=carries[0], reverse=False, **shared)
        backward_carry, backward = self.backward_rnn(
            inputs, initial_carry=carries[1], reverse=True, keep_order=True, **shared
        )
        outputs = jax.tree.map(self.merge_fn, forward, backward)
        return ((forward_carry, backward_carry), outputs) if return_carry else outputs
