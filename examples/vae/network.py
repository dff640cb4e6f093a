"""A variational autoencoder: what it encodes is a distribution, so that new images can be drawn."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

PIXELS, SHADES = 64, 16


class VAE(nnx.Module):
    """Codes for images (batch, 64) of whole numbers from 0 to 16, and images for codes. [Kingma, Welling, 2014]

    The noise of training comes from a random stream of the model's own, ``noise``: its position is part of the model's
    state, so it is saved with the parameters.

    Args:
      rngs: the streams ``params`` and ``noise``.
      code: numbers of a code.
      hidden: width of the hidden layers.
    """

    def __init__(self, *, rngs: nnx.Rngs, code: int = 12, hidden: int = 256):
        self.code = code
        self.encoder = perceptron(PIXELS, hidden, 2 * code, rngs)
        self.decoder = perceptron(code, hidden, PIXELS, rngs)
        self.noise = rngs.noise.fork()

    def encode(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and logarithm of the deviation of each image's code, (batch, code) each."""
        mean, log_deviation = jnp.split(self.encoder(images / SHADES - 0.5), 2, axis=-1)
        return mean, log_deviation

    def decode(self, codes: jax.Array) -> jax.Array:
        """Logits (batch, 64) of the brightness of every pixel."""
        return self.decoder(codes)

    def elbo(self, images: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        """A lower bound of the log-likelihood of images, in nats, and its two terms; (batch,) each."""
        mean, log_deviation = self.encode(images)
        codes = mean + jnp.exp(log_deviation) * jax.random.normal(key, mean.shape)
        fit = log_binomial(images, self.decode(codes)).sum(-1)
        distance = 0.5 * (jnp.exp(2 * log_deviation) + mean**2 - 1 - 2 * log_deviation).sum(-1)
        return {"elbo": fit - distance, "fit": fit, "distance": distance}

    def sample(self, key: jax.Array, count: int) -> jax.Array:
        """New images (count, 64), as the brightness from 0 to 1 that is expected of each pixel."""
        return nnx.sigmoid(self.decode(jax.random.normal(key, (count, self.code))))


def perceptron(inputs: int, hidden: int, outputs: int, rngs: nnx.Rngs) -> nnx.Sequential:
    """Three layers."""
    return nnx.Sequential(
        nnx.Linear(inputs, hidden, rngs=rngs),
        nnx.gelu,
        nnx.Linear(hidden, hidden, rngs=rngs),
        nnx.gelu,
        nnx.Linear(hidden, outputs, rngs=rngs),
    )


def log_binomial(counts: jax.Array, logits: jax.Array) -> jax.Array:
    """Logarithm of the probability of so many successes in 16 trials: the shades of a pixel are such counts."""
    ways = gammaln(SHADES + 1.0) - gammaln(counts + 1.0) - gammaln(SHADES - counts + 1.0)
    return ways + counts * nnx.log_sigmoid(logits) + (SHADES - counts) * nnx.log_sigmoid(-logits)
