"""A perceptron whose layers can carry low-rank corrections."""

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
