"""A cell over sequences."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops.recurrent import check_lengths, feature_axes_of, flip_sequences, select_last, sequence_axes

from fx_nnx.errors import layer_call
from fx_nnx.filters import Filter, to_predicate
from fx_nnx.graph.iterate import iter_graph
from fx_nnx.layers.dropout import stream_of
from fx_nnx.layers.params import located
from fx_nnx.layers.recurrent.base import draws_carry
from fx_nnx.modules.module import Module
from fx_nnx.objects.fields import data
from fx_nnx.rngs.rngs import Rngs
from fx_nnx.rngs.stream import RngStream
from fx_nnx.transforms.prefixes import Carry, StateAxes
from fx_nnx.transforms.scan import scan
from fx_nnx.variables.kinds import Param

__all__ = ["RNN", "given_or_own", "own_stream"]

_STATE_AXES = StateAxes({Param: None, ...: Carry})


class RNN(Module):
    """Runs a cell over sequences, a lifted `jax.lax.scan`.

    Every option of the call can be given here or there; there it wins.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> x, lengths = jnp.ones((2, 5, 3)), jnp.array([5, 2])
    >>> rnn = RNN(nnx.LSTMCell(3, 4, rngs=Rngs(0)), return_carry=True)
    >>> (c, h), y = rnn(x, seq_lengths=lengths)
    >>> y.shape, bool((h[1] == y[1, 1]).all())
    ((2, 5, 4), True)

    Args:
      cell: an `RNNCellBase`.
      time_major: whether inputs and outputs are ``(time, *batch, *features)`` instead of ``(*batch, time, *features)``.
      return_carry: whether to return ``(carry, outputs)`` instead of ``outputs``. The carry is the one after the last
        step of each sequence.
      reverse: whether to read the sequences backwards.
      keep_order: with ``reverse``, whether the outputs stand where their inputs do; else in the order of the steps.
      unroll: steps per iteration of the compiled loop.
      state_axes: which variables of the cell have an entry per step, and along which axis; which are handed on from
        step to step (`fx_nnx.Carry`); which all steps share (None). By default parameters are shared, and the rest is
        handed on, so that each step sees what the last one did to it, RNG streams included.
      broadcast_rngs: a filter for the RNG streams of the cell that give the same keys in all steps, such as for
        dropout with one mask per sequence (Gal & Ghahramani, A Theoretically Grounded Application of Dropout in
        Recurrent Neural Networks, 2016).
      rngs: streams or one stream for first carries that are drawn, of which a fork is kept; True for one of seed 0,
        False for none.
    """

    def __init__(
        self,
        cell: Any,
        *,
        time_major: bool = False,
        return_carry: bool = False,
        reverse: bool = False,
        keep_order: bool = False,
        unroll: int = 1,
        state_axes: Mapping[Any, Any] | StateAxes | None = None,
        broadcast_rngs: Filter = None,
        rngs: Rngs | RngStream | bool = True,
    ):
        self.cell = cell
        self.time_major, self.return_carry, self.reverse = time_major, return_carry, reverse
        self.keep_order, self.unroll = keep_order, unroll
        axes = _STATE_AXES if state_axes is None else state_axes
        self.state_axes = axes if isinstance(axes, StateAxes) else StateAxes(axes)
        self.broadcast_rngs = tuple(broadcast_rngs) if isinstance(broadcast_rngs, list) else broadcast_rngs
        self.rngs = data(own_stream(rngs, "RNN"))

    def __describe__(self) -> dict[str, Any]:
        return {"state_axes": None if self.state_axes == _STATE_AXES else self.state_axes}

    @located
    def __call__(
        self,
        inputs: jax.Array,
        *,
        initial_carry: Any | None = None,
        seq_lengths: jax.Array | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        rngs: Rngs | RngStream | None = None,
    ) -> Any:
        """Runs the cell over the sequences.

        Args:
          inputs: shape ``(*batch, time, *features)``, ``(time, *batch, *features)`` if time-major. There may be no
            batch axis or several.
          initial_carry: the carry before the first step; by default the cell makes one.
          seq_lengths: of the sequences, integers of shape ``batch``. Outputs behind the end of a sequence are of no
            use; the carry and, in reverse, the order follow the lengths.
          return_carry: instead of what the network says.
          time_major: instead of what the network says.
          reverse: instead of what the network says.
          keep_order: instead of what the network says.
          rngs: streams or one stream for the first carry, instead of the network's. A call takes one key of streams,
            for a stream of its own, and of one stream as many as the cell draws.

        Returns:
          The outputs, with time and batch where the inputs have them; with ``return_carry`` a pair of the last carry,
          ``(*batch, …)``, and the outputs.

        Raises:
          UnsupportedOperationError: the cell is no cell.
          NnxError: the first carry is to be drawn, and there is no stream.
          ShapeMismatchError: the inputs have no time axis.
          ShapeMismatchError: the lengths do not fit the batch.
          CarryChangedError: the cell returns a carry of another structure, shape or dtype.
          BroadcastVariableError: a step writes a variable that all steps share.
        """
        return_carry = self.return_carry if return_carry is None else return_carry
        time_major = self.time_major if time_major is None else time_major
        reverse = self.reverse if reverse is None else reverse
        keep_order = self.keep_order if keep_order is None else keep_order

        inputs = jnp.asarray(inputs)
        feature_axes = feature_axes_of(self.cell)
        axis, batch = sequence_axes(inputs.shape, feature_axes, time_major)
        lengths = None if seq_lengths is None else check_lengths(seq_lengths, batch)
        if isinstance(rngs, Rngs):  # one key, however many the cell draws
            rngs = stream_of(rngs, "carry", "RNN").fork()
        if initial_carry is None:
            shape = batch + inputs.shape[inputs.ndim - feature_axes :]
            initial_carry = self.cell.initialize_carry(shape, given_or_own(rngs, self.rngs, self.cell))
        if reverse:
            inputs = flip_sequences(inputs, lengths, time_axis=axis)
        carry, outputs = self._scan(initial_carry, inputs, axis, lengths if return_carry else None)
        if reverse and keep_order:
            outputs = flip_sequences(outputs, lengths, time_axis=axis)
        return (carry, outputs) if return_carry else outputs

    def _scan(self, initial: Any, inputs: jax.Array, axis: int, lengths: jax.Array | None) -> tuple[Any, Any]:
        """The carry after the last step, or after that of each sequence if there are lengths, and the outputs."""
        repeated = self.broadcast_rngs is not None and self.broadcast_rngs is not False

        def step(cell: Any, carry: Any, x: jax.Array) -> tuple[Any, Any]:
            streams = self._broadcast_streams(cell) if repeated else []
            counts = [stream.count.get_raw_value() for stream in streams]
            carry, output = cell(carry, x)
            for stream, count in zip(streams, counts):  # so that the next step draws the same
                stream.count.set_raw_value(count)
            return carry, (output if lengths is None else (carry, output))

        loop = scan(
            step,
            in_axes=(self.state_axes, Carry, axis),
            out_axes=(Carry, axis if lengths is None else (0, axis)),
            unroll=self.unroll,
        )
        last, outputs = loop(self.cell, initial, inputs)
        for stream in self._broadcast_streams(self.cell) if repeated else []:  # but the next call draws anew
            stream()
        if lengths is None:
            return last, outputs
        history, outputs = outputs
        return select_last(history, lengths, initial), outputs

    def _broadcast_streams(self, cell: Any) -> list[RngStream]:
        matches = to_predicate(self.broadcast_rngs)
        return [node for path, node in iter_graph(cell) if isinstance(node, RngStream) and matches(path, node)]


def given_or_own(given: Any, own: RngStream | None, *cells: Any) -> Any:
    """Returns where keys for first carries come from; a network's own stream stays as it is where none are needed."""
    return own if given is None and any(map(draws_carry, cells)) else given


def own_stream(rngs: Any, layer: str) -> RngStream | None:
    """Returns the stream for carries that a network keeps.

    Raises:
      NnxError: ``rngs`` is nothing that it could come from.
    """
    if isinstance(rngs, bool):
        return RngStream(0, tag="carry") if rngs else None
    if not isinstance(rngs, Rngs | RngStream):
        raise layer_call(
            layer,
            "rngs is no RNG stream.",
            expected="an Rngs, an RngStream, True or False",
            got=type(rngs).__name__,
            fix="pass rngs=nnx.Rngs(seed)",
        )
    return stream_of(rngs, "carry", layer).fork()
