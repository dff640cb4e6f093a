"""The network: two convolutional blocks with BatchNorm, then a dense head with Dropout."""

import fx_linen as nn
import jax


class CNN(nn.Module):
    """Classifies images (batch, height, width, channels); gives logits (batch, classes)."""

    classes: int = 10

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        x = images
        for features in (32, 64):
            for _ in range(2):
                x = nn.Conv(features, (3, 3), use_bias=False)(x)
                x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = nn.relu(nn.Dense(128)(x.reshape(x.shape[0], -1)))
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(self.classes)(x)
