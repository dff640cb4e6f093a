"""The layer, once for Linen and NNX."""

from typing import Any

import jax
import jax.numpy as jnp
from fx_core.layers import Layer, ParamSpec, input_size
from fx_core.ops import initializers

from fx_moe_plugin.ops import mix, route


class MixtureOfExperts(Layer):
    """Perceptrons of which each token uses the few that a router chooses.

    Sows ``balance`` into the collection ``losses``, to be added to the loss, and ``load`` into ``moe.router``.

    Attributes:
      in_features: size of the last axis of the input.
      features: size of the last axis of the output.
      hidden: size of each perceptron.
      experts: how many perceptrons.
      top: how many of them a token uses.
      param_dtype: of the parameters ``router``, ``up`` and ``down``.
    """

    in_features: int = input_size(-1)
    features: int
    hidden: int
    experts: int = 4
    top: int = 1
    param_dtype: Any = jnp.float32

    def specs(self) -> dict[str, ParamSpec]:
        """The router and the experts."""
        normal = initializers.lecun_normal()
        each = initializers.variance_scaling(1.0, "fan_in", "truncated_normal", batch_axis=(0,))
        return {
            "router": ParamSpec((self.in_features, self.experts), normal, ("in", "experts")),
            "up": ParamSpec((self.experts, self.in_features, self.hidden), each, ("experts", "in", "hidden")),
            "down": ParamSpec((self.experts, self.hidden, self.features), each, ("experts", "hidden", "out")),
        }

    def apply(self, v: Any, x: jax.Array) -> jax.Array:
        """Map ``x`` of shape ``(..., in_features)`` to ``(..., features)``."""
        routes = route(x @ v.router, self.top)
        v.sow("losses", "balance", routes.balance)
        v.sow("moe.router", "load", routes.load, reduce_fn=lambda _, new: new, init_fn=lambda: None)
        return mix(x, routes.weights, v.up, v.down)
