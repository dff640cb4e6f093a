"""The same kinds of networks in NNX."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp


class MLP(nnx.Module):
    def __init__(self, dtype, rngs):
        self.first = nnx.Linear(4, 8, dtype=dtype, rngs=rngs)
        self.second = nnx.Linear(8, 3, dtype=dtype, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.gelu(self.first(x)))


class ResNet(nnx.Module):
    def __init__(self, dtype, rngs):
        shapes = [(3, 8, (7, 7), (2, 2)), *[(8, 8, (3, 3), (1, 1))] * 4]
        self.convs = nnx.List([nnx.Conv(i, o, s, strides=t, dtype=dtype, rngs=rngs) for i, o, s, t in shapes])
        self.norms = nnx.List([nnx.BatchNorm(8, dtype=dtype, rngs=rngs) for _ in shapes])
        self.head = nnx.Linear(8, 5, dtype=dtype, rngs=rngs)
        self.eval()

    def __call__(self, x):
        parts = [lambda x, c=c, n=n: n(c(x)) for c, n in zip(self.convs, self.norms)]
        x = nnx.max_pool(nnx.relu(parts[0](x)), (3, 3), (2, 2), "SAME")
        for one, other in ((1, 2), (3, 4)):
            x = nnx.relu(x + parts[other](nnx.relu(parts[one](x))))
        return self.head(x.mean((1, 2)))


class Block(nnx.Module):
    def __init__(self, dtype, rngs, decode=False):
        self.norms = nnx.List([nnx.LayerNorm(8, dtype=dtype, rngs=rngs) for _ in range(2)])
        self.attention = nnx.MultiHeadAttention(2, 8, 8, 8, decode=decode, dtype=dtype, rngs=rngs)
        self.up = nnx.Linear(8, 16, dtype=dtype, rngs=rngs)
        self.down = nnx.Linear(16, 8, dtype=dtype, rngs=rngs)

    def __call__(self, x, mask=None):
        x = x + self.attention(self.norms[0](x), mask=mask)
        return x + self.down(nnx.gelu(self.up(self.norms[1](x))))


class ViT(nnx.Module):
    def __init__(self, dtype, rngs):
        self.patches = nnx.Conv(3, 8, (4, 4), strides=(4, 4), dtype=dtype, rngs=rngs)
        self.first = nnx.Param(jax.random.normal(rngs.params(), (1, 1, 8)))
        self.places = nnx.Param(jax.random.normal(rngs.params(), (1, 17, 8)))
        self.blocks = nnx.List([Block(dtype, rngs) for _ in range(2)])
        self.head = nnx.Linear(8, 5, dtype=dtype, rngs=rngs)

    def __call__(self, x):
        x = self.patches(x).reshape(x.shape[0], -1, 8)
        first = jnp.broadcast_to(self.first[...].astype(x.dtype), (x.shape[0], 1, 8))
        x = jnp.concatenate([first, x], 1) + self.places[...].astype(x.dtype)
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])


class GPT(nnx.Module):
    def __init__(self, dtype, rngs, decode=False):
        self.tokens = nnx.Embed(20, 8, dtype=dtype, rngs=rngs)
        self.places = nnx.Embed(16, 8, dtype=dtype, rngs=rngs)
        self.blocks = nnx.List([Block(dtype, rngs, decode) for _ in range(2)])
        self.head = nnx.Linear(8, 20, dtype=dtype, rngs=rngs)
        self.decode = decode

    def __call__(self, tokens, places):
        x = self.tokens(tokens) + self.places(places)
        mask = None if self.decode else nnx.make_causal_mask(tokens)
        for block in self.blocks:
            x = block(x, mask)
        return self.head(x)


class Encoder(nnx.Module):
    def __init__(self, dtype, rngs):
        self.tokens = nnx.Embed(20, 8, dtype=dtype, rngs=rngs)
        self.blocks = nnx.List([Block(dtype, rngs) for _ in range(2)])
        self.head = nnx.Linear(8, 8, dtype=dtype, rngs=rngs)

    def __call__(self, tokens, mask):
        x = self.tokens(tokens)
        for block in self.blocks:
            x = block(x, nnx.make_attention_mask(mask, mask))
        return nnx.tanh(self.head(x[:, 0])), x


class Recurrent(nnx.Module):
    def __init__(self, dtype, rngs):
        there = nnx.RNN(nnx.OptimizedLSTMCell(3, 4, dtype=dtype, rngs=rngs))
        back = nnx.RNN(nnx.GRUCell(3, 4, dtype=dtype, rngs=rngs))
        self.both = nnx.Bidirectional(there, back)
        self.plain = nnx.RNN(nnx.LSTMCell(3, 4, dtype=dtype, rngs=rngs))

    def __call__(self, x, lengths):
        return self.both(x, seq_lengths=lengths), self.plain(x)


class UNet(nnx.Module):
    def __init__(self, dtype, rngs):
        self.first = nnx.Conv(3, 4, (3, 3), dtype=dtype, rngs=rngs)
        self.norm = nnx.GroupNorm(4, 2, dtype=dtype, rngs=rngs)
        self.down = nnx.Conv(4, 8, (3, 3), strides=(2, 2), dtype=dtype, rngs=rngs)
        self.up = nnx.ConvTranspose(8, 4, (2, 2), strides=(2, 2), dtype=dtype, rngs=rngs)
        self.last = nnx.Conv(8, 1, (1, 1), dtype=dtype, rngs=rngs)

    def __call__(self, x):
        high = nnx.relu(self.norm(self.first(x)))
        up = self.up(nnx.relu(self.down(high)))
        return self.last(jnp.concatenate([high, up], -1))


class Mixture(nnx.Module):
    def __init__(self, dtype, rngs):
        self.gate = nnx.Linear(6, 4, rngs=rngs)
        self.up = nnx.Param(jax.random.normal(rngs.params(), (4, 6, 8)))
        self.down = nnx.Param(jax.random.normal(rngs.params(), (4, 8, 6)))
        self.dtype = dtype

    def __call__(self, x):
        weights, chosen = jax.lax.top_k(nnx.softmax(self.gate(x)), 2)
        weights = (weights / weights.sum(-1, keepdims=True)).astype(self.dtype)
        up, down = (w[...].astype(self.dtype)[chosen] for w in (self.up, self.down))
        hidden = nnx.relu(jnp.einsum("bsd,bskdh->bskh", x.astype(self.dtype), up))
        return jnp.einsum("bskh,bskhd,bsk->bsd", hidden, down, weights)
