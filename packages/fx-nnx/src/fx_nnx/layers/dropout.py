"""Dropout."""

from collections.abc import Sequence
from typing import Any

import jax
from fx_core.ops.dropout import check_rate, dropout

from fx_nnx.errors import ArgumentTypeError, layer_call
from fx_nnx.layers.params import as_array, located
from fx_nnx.modules.module import Module
from fx_nnx.objects.fields import data
from fx_nnx.rngs.rngs import Rngs
from fx_nnx.rngs.stream import RngStream

__all__ = ["Dropout", "chosen", "stream_of"]


class Dropout(Module):
    """Sets a random part of the values to zero while training, and scales the others.

    `fx_nnx.Module.eval` and `fx_nnx.Module.train` switch it off and on.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> layer = Dropout(0.5, rngs=nnx.Rngs(0))
    >>> layer.eval()
    >>> layer(jnp.ones(3))
    Array([1., 1., 1.], dtype=float32)

    Args:
      rate: probability to drop a value.
      broadcast_dims: axes along which values are dropped together.
      deterministic: whether to do nothing; None leaves that to each call.
      rng_collection: the RNG stream to use.
      rngs: streams, or one stream; the layer takes a fork of it. Without it, each call has to bring one.

    Raises:
      ArgumentError: the rate is not between 0 and 1.
    """

    def __init__(
        self,
        rate: float,
        *,
        broadcast_dims: Sequence[int] = (),
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: Rngs | RngStream | None = None,
    ):
        check_rate(rate)
        self.rate, self.broadcast_dims = rate, tuple(broadcast_dims)
        self.deterministic, self.rng_collection = deterministic, rng_collection
        self.rngs = data(None if rngs is None else stream_of(rngs, rng_collection, "Dropout").fork())

    @located
    def __call__(self, inputs: jax.Array, *, deterministic: bool | None = None, rngs: Any = None) -> jax.Array:
        """Applies the layer.

        Args:
          inputs: any shape.
          deterministic: whether to do nothing, instead of what the layer says.
          rngs: streams, one stream or a key, to be used instead of the layer's.

        Returns:
          An array like ``inputs``.

        Raises:
          NnxError: neither layer nor call say whether to drop, or there is no stream.
        """
        if chosen("Dropout", "deterministic", deterministic, self.deterministic) or self.rate == 0.0:
            return inputs
        source = self.rngs if rngs is None else rngs
        if source is None:
            raise layer_call(
                "Dropout", "there is no RNG stream.", fix="pass rngs=... to the layer or to the call, or call eval()"
            )
        key = source if isinstance(source, jax.Array) else stream_of(source, self.rng_collection, "Dropout")()
        return dropout(as_array(self, inputs), self.rate, key, self.broadcast_dims)

    def set_view(self, deterministic: bool | None = None) -> None:
        """Sets what the layer does from now on.

        Args:
          deterministic: Whether to let every value through; None leaves it as it is.
        """
        if deterministic is not None:
            self.deterministic = deterministic


def chosen(layer: str, name: str, in_call: bool | None, in_layer: bool | None) -> bool:
    """Returns what the call says, or else the layer.

    Raises:
      NnxError: neither says anything.
    """
    found = in_layer if in_call is None else in_call
    if found is None:
        raise layer_call(
            layer,
            f"neither the layer nor the call says {name!r}.",
            expected="True or False",
            got=None,
            fix=f"pass {name}=... to the layer or to the call, or call train() or eval()",
        )
    return found


def stream_of(rngs: Any, name: str, layer: str) -> RngStream:
    """Returns the stream of a name, or the one stream that was given.

    Raises:
      ArgumentTypeError: there is neither.
      InvalidAttributeError: there is no stream of that name.
    """
    if isinstance(rngs, Rngs):
        return getattr(rngs, name)
    if isinstance(rngs, RngStream):
        return rngs
    raise ArgumentTypeError(
        f"{layer} uses an RNG stream.", expected="rngs: an Rngs, an RngStream or None", got=type(rngs).__name__
    )
