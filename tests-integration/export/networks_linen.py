"""Small networks of the kinds that people export, in Linen."""

import fx_linen as nn
import jax
import jax.numpy as jnp


class MLP(nn.Module):
    dtype: object

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, dtype=self.dtype)(nn.gelu(nn.Dense(8, dtype=self.dtype)(x)))


class ResNet(nn.Module):
    dtype: object

    @nn.compact
    def __call__(self, x):
        def block(features, size, x, strides=(1, 1)):
            x = nn.Conv(features, size, strides, dtype=self.dtype)(x)
            return nn.BatchNorm(use_running_average=True, dtype=self.dtype)(x)

        x = nn.max_pool(nn.relu(block(8, (7, 7), x, (2, 2))), (3, 3), (2, 2), "SAME")
        for _ in range(2):
            x = nn.relu(x + block(8, (3, 3), nn.relu(block(8, (3, 3), x))))
        return nn.Dense(5, dtype=self.dtype)(x.mean((1, 2)))


class Block(nn.Module):
    dtype: object
    decode: bool = False

    @nn.compact
    def __call__(self, x, mask=None):
        dtype = self.dtype
        y = nn.LayerNorm(dtype=dtype)(x)
        x = x + nn.MultiHeadDotProductAttention(num_heads=2, dtype=dtype, decode=self.decode)(y, mask=mask)
        y = nn.Dense(16, dtype=dtype)(nn.LayerNorm(dtype=dtype)(x))
        return x + nn.Dense(8, dtype=dtype)(nn.gelu(y))


class ViT(nn.Module):
    dtype: object

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (4, 4), (4, 4), dtype=self.dtype)(x)
        x = x.reshape(x.shape[0], -1, 8)
        first = self.param("class", nn.initializers.normal(), (1, 1, 8)).astype(x.dtype)
        x = jnp.concatenate([jnp.broadcast_to(first, (x.shape[0], 1, 8)), x], 1)
        x = x + self.param("places", nn.initializers.normal(), (1, 17, 8)).astype(x.dtype)
        for _ in range(2):
            x = Block(self.dtype)(x)
        return nn.Dense(5, dtype=self.dtype)(nn.LayerNorm(dtype=self.dtype)(x)[:, 0])


class GPT(nn.Module):
    dtype: object
    decode: bool = False

    @nn.compact
    def __call__(self, tokens, places):
        x = nn.Embed(20, 8, dtype=self.dtype)(tokens) + nn.Embed(16, 8, dtype=self.dtype)(places)
        mask = None if self.decode else nn.make_causal_mask(tokens)
        for _ in range(2):
            x = Block(self.dtype, self.decode)(x, mask)
        return nn.Dense(20, dtype=self.dtype)(nn.LayerNorm(dtype=self.dtype)(x))


class Encoder(nn.Module):
    dtype: object

    @nn.compact
    def __call__(self, tokens, mask):
        x = nn.Embed(20, 8, dtype=self.dtype)(tokens)
        for _ in range(2):
            x = Block(self.dtype)(x, nn.make_attention_mask(mask, mask))
        return nn.tanh(nn.Dense(8, dtype=self.dtype)(x[:, 0])), x


class Recurrent(nn.Module):
    dtype: object

    @nn.compact
    def __call__(self, x, lengths):
        there, back = nn.RNN(nn.OptimizedLSTMCell(4, dtype=self.dtype)), nn.RNN(nn.GRUCell(4, dtype=self.dtype))
        both = nn.Bidirectional(there, back)(x, seq_lengths=lengths)
        return both, nn.RNN(nn.LSTMCell(4, dtype=self.dtype))(x)


class UNet(nn.Module):
    dtype: object

    @nn.compact
    def __call__(self, x):
        dtype = self.dtype
        high = nn.relu(nn.GroupNorm(2, dtype=dtype)(nn.Conv(4, (3, 3), dtype=dtype)(x)))
        low = nn.relu(nn.Conv(8, (3, 3), (2, 2), dtype=dtype)(high))
        up = nn.ConvTranspose(4, (2, 2), (2, 2), dtype=dtype)(low)
        return nn.Conv(1, (1, 1), dtype=dtype)(jnp.concatenate([high, up], -1))


def routed(x, gates, up, down, dtype):
    """A mixture of four experts, of which each token takes two."""
    weights, chosen = jax.lax.top_k(nn.softmax(gates), 2)
    weights = (weights / weights.sum(-1, keepdims=True)).astype(dtype)
    hidden = nn.relu(jnp.einsum("bsd,bskdh->bskh", x.astype(dtype), up.astype(dtype)[chosen]))
    return jnp.einsum("bskh,bskhd,bsk->bsd", hidden, down.astype(dtype)[chosen], weights)


class Mixture(nn.Module):
    dtype: object

    @nn.compact
    def __call__(self, x):
        up = self.param("up", nn.initializers.normal(1.0), (4, 6, 8))
        down = self.param("down", nn.initializers.normal(1.0), (4, 8, 6))
        return routed(x, nn.Dense(4)(x), up, down, self.dtype)
