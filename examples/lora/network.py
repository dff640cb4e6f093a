"""A perceptron whose layers can carry low-rank corrections."""

from typing import Any

import fx_linen as nn
import jax


class LoRADense(nn.Module):
    """A dense layer plus a correction of low rank, which starts at zero. [Hu et al., "LoRA", 2021]

    The correction's parameters are called ``lora_a`` and ``lora_b``, so that a rule can tell them from the rest.
    """

    features: int
    rank: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.Dense(self.features, name="dense")(x)
        if not self.rank:
            return y
        a = self.param("lora_a", nn.initializers.lecun_normal(), (x.shape[-1], self.rank))
        b = self.param("lora_b", nn.initializers.zeros, (self.rank, self.features))
        return y + x @ a @ b


class Classifier(nn.Module):
    """Gives logits (batch, classes) for images (batch, pixels)."""

    classes: int
    rank: int = 0

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        x = images
        for layer in range(2):
            x = nn.relu(LoRADense(128, self.rank, name=f"body_{layer}")(x))
        return nn.Dense(self.classes, name="head")(x)


def merged(params: Any) -> Any:
    """Parameters of the network without corrections that computes the same: each is added to its layer's kernel."""
    layers = dict(params)
    for name, layer in params.items():
        if "lora_a" in layer:
            kernel = layer["dense"]["kernel"] + layer["lora_a"] @ layer["lora_b"]
            layers[name] = {"dense": {**layer["dense"], "kernel": kernel}}
    return layers
