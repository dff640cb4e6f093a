"""A small GPT: causal attention and perceptrons on a residual stream, with a cache for sampling."""

import fx_linen as nn
import jax
import jax.numpy as jnp
from data import VOCABULARY


class Block(nn.Module):
    """Attention, then a perceptron, each on the normalized stream and added to it."""

    heads: int
    decode: bool = False
    experts: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        # A cache only ever holds what came before; a whole text needs a mask for that.
        mask = None if self.decode else nn.make_causal_mask(jnp.ones(x.shape[:2]))
        normed = nn.LayerNorm(name="norm_attention")(x)
        x = x + nn.MultiHeadDotProductAttention(num_heads=self.heads, decode=self.decode, name="attention")(
            normed, mask=mask
        )
        normed = nn.LayerNorm(name="norm_mlp")(x)
        if self.experts:
            # A plugin's layer, by its name: nothing here imports it.
            sizes = {"features": x.shape[-1], "hidden": 4 * x.shape[-1], "experts": self.experts}
            return x + nn.layer("moe.MixtureOfExperts", name="experts", **sizes)(normed)
        return x + nn.Dense(x.shape[-1], name="down")(nn.gelu(nn.Dense(4 * x.shape[-1], name="up")(normed)))


class GPT(nn.Module):
    """Gives for tokens (batch, time) the logits (batch, time, tokens) of the token that follows each.

    With ``decode=True`` it takes the next tokens only, one or several, and keeps in the collection ``cache`` what the
    attention needs of the earlier ones; an ``init`` with a text of the full length makes that collection.

    With ``experts`` the perceptrons are mixtures of that many, of which each token uses one; they put what keeps them
    equally busy into the collection ``losses``.
    """

    layers: int = 4
    features: int = 128
    heads: int = 4
    length: int = 128
    decode: bool = False
    experts: int = 0

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        positions = jnp.arange(tokens.shape[1])
        if self.decode:
            here = self.variable("cache", "position", lambda: jnp.zeros((), jnp.int32))
            if not self.is_initializing():
                positions = positions + here.value
                here.value = here.value + tokens.shape[1]
        x = nn.Embed(VOCABULARY, self.features, name="tokens")(tokens)
        x = x + nn.Embed(self.length, self.features, name="positions")(positions)[None]
        for layer in range(self.layers):
            x = Block(self.heads, self.decode, self.experts, name=f"block_{layer}")(x)
        return nn.Dense(VOCABULARY, name="head")(nn.LayerNorm(name="norm")(x))
